"""With what rollouts are decoded: the cheaper way where the rewards cannot tell, or say how far they can.

**A tiny autoencoder**, where the model has one, decodes all rollouts. The first groups that have a spread, `COMPARED`
images, are decoded by the model's own and scored, too: the rank correlation of both scores within the groups says how
much of what the reward asks for is still seen. It is measured anew where rewards or model are others.

**A lower precision** is then looked for (``decode_dtype``): the first group that has a spread is decoded and scored in
both. bfloat16 is taken where no score of a trained reward moves by more than a tenth of the group's standard deviation,
and where every image is scored in both or in neither; that group itself counts as it is in float32. The choice is
remembered with the run, and made anew where rewards (their settings, their files), model or device are others. Of
several ranks the first chooses; what it has found counts for all of them from the next iteration on.

Held-out images, pictures and what is shown of them are always decoded by the model's own autoencoder as it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..diagnosis.signal import AGREEMENT
from ..evaluation.guards import Alarm
from ..models.port import DecodesBeside, DecodesLow, DecodesTiny, FlowModel
from ..models.sizes import sized
from ..rewards.port import Reward, RewardBatch, Scores, about
from ..rewards.scoring import score
from ..rewards.stats import is_flat, rank_correlation
from ..rewards.told_apart import recognised
from ..runs.checkpoint import DecodeNotes, Notes, TinyNotes
from ..sampling.ode import decode_frames
from ..settings.config import TrainConfig
from ..support.beside import Beside
from ..support.digests import text_digest
from ..support.ranks import ALONE, Ranks

SHARE = 0.1
COMPARED = 16
"""Images by which a tiny autoencoder is compared with the model's own: one group of few tells little of ranks."""
FLOAT32, BFLOAT16 = "float32", "bfloat16"


def may_be_lower(config: TrainConfig, model: FlowModel, rewards: Mapping[str, Reward]) -> bool:
    """Whether rollouts are decoded in a lower precision as soon as ``rewards`` turn out not to tell."""
    own = model.decode_dtype if isinstance(model, DecodesLow) else torch.float32
    return config.decode_dtype == "auto" and _scored_twice(rewards) and own == torch.float32


def _scored_twice(rewards: Mapping[str, Reward]) -> bool:
    return all(about(reward).held_out for reward in rewards.values())


class Decoding:
    """How one run's rollouts are decoded.

    Attributes:
        beside: where groups are decoded while others are rolled out; None where it is done in turn.
        circumstances: that a choice counts for: rewards, model, device.

    Args:
        rewards: that are trained on. Where one is asked once about a picture, as people are, nothing is scored twice.
        ranks: of which the first one compares and chooses. All of them make one of these at the same time.
    """

    def __init__(
        self, config: TrainConfig, model: FlowModel, rewards: Mapping[str, Reward], ranks: Ranks = ALONE
    ) -> None:
        self._batch, self._model, self._rewards = config.decode_batch, model, rewards
        twice = _scored_twice(rewards)
        self._tiny = model.tiny if isinstance(model, DecodesTiny) else ""
        self._ranks, self._compares = ranks, bool(self._tiny) and twice and ranks.is_first
        self._auto = config.decode_dtype == "auto"
        own = model.decode_dtype if isinstance(model, DecodesLow) else torch.float32
        self._own = str(own).removeprefix("torch.")
        self._lower = may_be_lower(config, model, rewards)
        self._tries = self._lower and ranks.is_first
        self.circumstances = ranks.from_first(lambda: _circumstances(model, rewards, self._tiny))
        self._chosen: DecodeNotes | None = None  # but not yet told to all ranks
        self._news = False
        self._decoder = model.decoder() if config.decode_beside and isinstance(model, DecodesBeside) else model
        self.beside = None if self._decoder is model else Beside(model.device)

    def known(self, notes: Notes) -> DecodeNotes | None:
        """The precision that was chosen before, where it still counts."""
        found = notes.get("decode")
        return found if found is not None and found["circumstances"] == self.circumstances else None

    def compared(self, notes: Notes) -> TinyNotes | None:
        """What was found of the tiny autoencoder before, where it still counts."""
        found = notes.get("tiny")
        return found if found is not None and found["circumstances"] == self.circumstances else None

    def images(self, prompt: str, notes: Notes) -> Callable[[Tensor], tuple[Tensor, Tensor | None]]:
        """What makes images ``[G, H, W, 3]`` of the latents ``[G, *L]`` of a prompt's rollout, and frames
        ``[G, F, H, W, 3]`` of videos; where rollouts are decoded beside others, it may be asked in another thread."""
        found = self.known(notes)
        low = self._lower and found is not None and found["dtype"] == BFLOAT16
        return partial(self._decoded, prompt, low)

    def _decoded(self, prompt: str, low: bool, latents: Tensor) -> tuple[Tensor, Tensor | None]:
        return decode_frames(sized(self._decoder, prompt), latents, self._batch, low=low, tiny=bool(self._tiny))

    def told(self, notes: Notes) -> dict[str, Any]:
        """For the report; nothing where the model's own autoencoder in float32 was asked for."""
        told: dict[str, Any] = {}
        if self._auto:
            found = self.known(notes)
            told |= {"dtype": self._own} if found is None else {"dtype": found["dtype"], "moved": found["moved"]}
        if self._tiny:
            compared = self.compared(notes)
            told |= {"tiny": self._tiny, "agreement": {} if compared is None else dict(compared["agreement"])}
        return told

    def settled(self, notes: Notes) -> list[Alarm]:
        """At an iteration's end: what the first rank has found is remembered on all.

        A warning where the tiny autoencoder has just been found to rank images otherwise than the model's own.
        """
        chosen, compared, news = self._ranks.from_first(lambda: (self._chosen, notes.get("tiny"), self._news))
        self._chosen, self._news = None, False
        if chosen is not None:
            notes["decode"] = chosen
        if compared is not None:
            notes["tiny"] = compared
        found = self.compared(notes)
        told = {} if found is None or not news else found["agreement"]
        low = {name: share for name, share in told.items() if share < AGREEMENT}
        if not low:
            return []
        words = ", ".join(f"{name} {share:.2f}" for name, share in sorted(low.items()))
        sentence = (
            "by the tiny autoencoder rewards rank a prompt's images otherwise than by the model's own (correlation "
            f"{words}; {AGREEMENT} is little enough): train without it, or with a reward that looks less at detail"
        )
        return [Alarm(guard="tiny autoencoder", level="warn", sentence=sentence)]

    def choosing(self, notes: Notes) -> bool:
        """Whether something is open that a group would tell."""
        return self._choosing(notes) or self._comparing(notes)

    def choose(self, batch: RewardBatch, scores: Mapping[str, Scores], notes: Notes) -> None:
        """Where it is open: what a group that was scored tells of the next ones is among the notes.

        A group without a spread tells nothing.
        """
        flat = [int(one.valid.sum()) < 2 or is_flat(one.values[one.valid]) for one in scores.values()]
        if self._comparing(notes) and not all(flat):
            self._compare(scores, self._again(batch, low=False, tiny=False), notes)
        if self._choosing(notes) and not any(flat):
            again = self._again(batch, low=True, tiny=bool(self._tiny))
            moved = max(_moved(scores[name], again[name]) for name in scores)
            dtype = BFLOAT16 if moved <= SHARE else FLOAT32
            self._chosen = DecodeNotes(dtype=dtype, moved=moved, circumstances=self.circumstances)
            if self._ranks.size == 1:
                notes["decode"] = self._chosen

    def _choosing(self, notes: Notes) -> bool:
        return self._tries and self._chosen is None and self.known(notes) is None

    def _comparing(self, notes: Notes) -> bool:
        found = self.compared(notes)
        return self._compares and (found is None or found["images"] < COMPARED)

    def _compare(self, tiny: Mapping[str, Scores], own: Mapping[str, Scores], notes: Notes) -> None:
        """The mean over groups, each by its images."""
        before = self.compared(notes)
        agreement = {} if before is None else dict(before["agreement"])
        counts = {} if before is None else dict(before["counts"])
        for name, scores in tiny.items():
            found = rank_correlation(scores, own[name])
            if found is not None:
                count = len(scores.values)
                whole = counts.get(name, 0) + count
                agreement[name] = agreement.get(name, 0.0) + (found - agreement.get(name, 0.0)) * count / whole
                counts[name] = whole
        images = (0 if before is None else before["images"]) + max(len(one.values) for one in tiny.values())
        self._news = True
        notes["tiny"] = TinyNotes(agreement=agreement, counts=counts, images=images, circumstances=self.circumstances)

    def _again(self, batch: RewardBatch, *, low: bool, tiny: bool) -> Mapping[str, Scores]:
        """The scores of a group that is decoded in another way; rewards remember nothing of it."""
        assert batch.latents is not None
        states = {name: reward.state_dict() for name, reward in self._rewards.items()}
        model = sized(self._model, batch.prompts[0])
        images, frames = decode_frames(model, batch.latents, self._batch, low=low, tiny=tiny)
        again, _ = score(self._rewards, replace(batch, images=images, frames=frames))
        for name, state in states.items():
            self._rewards[name].load_state_dict(state)
        return again


def _circumstances(model: FlowModel, rewards: Mapping[str, Reward], tiny: str) -> str:
    """What a choice was made for: the rewards, in a few digits of all that tells them from others, and the model."""
    each = sorted((name, type(one).__name__, text_digest(recognised(one))) for name, one in rewards.items())
    kinds, small = ", ".join(map(" ".join, each)), f"; tiny {tiny}" if tiny else ""
    return f"{kinds}; {model.digest}{small}; {model.device.type}; torch {torch.__version__}"


def _moved(one: Scores, other: Scores) -> float:
    """The largest change of a score, in the group's standard deviations; 1e9 where an image is scored in one alone."""
    if not torch.equal(one.valid, other.valid):
        return 1e9
    values = one.values[one.valid].double()
    return float((other.values[one.valid].double() - values).abs().max() / values.std())
