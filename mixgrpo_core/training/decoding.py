"""In which precision rollouts are decoded: the lower one where the rewards cannot tell the two apart.

The first group that has a spread is decoded and scored in both. bfloat16 is taken where no score of a trained reward
moves by more than a tenth of the group's standard deviation, and where every image is scored in both or in neither;
that group itself counts as it is in float32. The choice is remembered with the run, and made anew where rewards, model
or device are others. Held-out images, pictures and what is shown are always decoded in float32.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..models.port import FlowModel
from ..models.sizes import sized
from ..rewards.port import Reward, RewardBatch, Scores, about
from ..rewards.scoring import score
from ..rewards.stats import is_flat
from ..runs.checkpoint import DecodeNotes, Notes
from ..sampling.ode import decode_frames
from ..settings.config import TrainConfig
from ..support.ranks import ALONE, Ranks

SHARE = 0.1
FLOAT32, BFLOAT16 = "float32", "bfloat16"


class Decoding:
    """The precision of one run's rollouts.

    Args:
        rewards: that are trained on.
        ranks: several try nothing, for they would not choose alike; a choice that the run remembers counts for them.
    """

    def __init__(
        self, config: TrainConfig, model: FlowModel, rewards: Mapping[str, Reward], ranks: Ranks = ALONE
    ) -> None:
        self._batch, self._model, self._rewards = config.decode_batch, model, rewards
        asked_once = [name for name, reward in rewards.items() if not about(reward).held_out]
        self._several = ranks.size > 1
        self._auto = config.decode_dtype == "auto"
        self._open = self._auto and not asked_once
        kinds = ", ".join(f"{name} {type(reward).__name__}" for name, reward in sorted(rewards.items()))
        self._circumstances = f"{kinds}; {model.digest}; {model.device.type}; torch {torch.__version__}"

    def known(self, notes: DecodeNotes | None) -> DecodeNotes | None:
        """What was chosen before, where it still counts."""
        return notes if notes is not None and notes["circumstances"] == self._circumstances else None

    def images(self, latents: Tensor, prompt: str, notes: DecodeNotes | None) -> tuple[Tensor, Tensor | None]:
        """Images ``[G, H, W, 3]`` of the latents ``[G, *L]`` of a prompt's rollout, and frames ``[G, F, H, W, 3]`` of
        videos."""
        found = self.known(notes)
        low = self._open and found is not None and found["dtype"] == BFLOAT16
        return decode_frames(sized(self._model, prompt), latents, self._batch, low=low)

    def told(self, notes: DecodeNotes | None) -> dict[str, Any]:
        """For the report; nothing where float32 was asked for."""
        found = self.known(notes)
        if not self._auto:
            return {}
        return {"dtype": FLOAT32} if found is None else {"dtype": found["dtype"], "moved": found["moved"]}

    def choosing(self, notes: Notes) -> bool:
        """Whether the precision is open, and a group would tell it."""
        return self._open and not self._several and self.known(notes.get("decode")) is None

    def choose(self, batch: RewardBatch, scores: Mapping[str, Scores], notes: Notes) -> None:
        """Where it is open: the precision of the next groups, from a group that was scored, is among the notes."""
        latents = batch.latents
        if latents is None or not self.choosing(notes):
            return
        if any(int(one.valid.sum()) < 2 or is_flat(one.values[one.valid]) for one in scores.values()):
            return  # a group without a spread tells nothing
        states = {name: reward.state_dict() for name, reward in self._rewards.items()}
        images, frames = decode_frames(sized(self._model, batch.prompts[0]), latents, self._batch, low=True)
        again, _ = score(self._rewards, replace(batch, images=images, frames=frames))
        for name, state in states.items():
            self._rewards[name].load_state_dict(state)
        moved = max(_moved(scores[name], again[name]) for name in scores)
        dtype = BFLOAT16 if moved <= SHARE else FLOAT32
        notes["decode"] = DecodeNotes(dtype=dtype, moved=moved, circumstances=self._circumstances)


def _moved(one: Scores, other: Scores) -> float:
    """The largest change of a score, in the group's standard deviations; 1e9 where an image is scored in one alone."""
    if not torch.equal(one.valid, other.valid):
        return 1e9
    values = one.values[one.valid].double()
    return float((other.values[one.valid].double() - values).abs().max() / values.std())
