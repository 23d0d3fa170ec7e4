"""Rewards under a condition: where another reward, the gate, is out of bounds, images do not count or cost something.

    Gated(PickScore(...), by=NudityReward(...), most=0.2)      Penalised(PickScore(...), by=OcrReward(...), least=0.9)

Ours. An image that the gate could not score is masked: nobody knows on which side it is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...support.setting import require_finite
from ..port import Reward, RewardBatch, RewardInfo, Scores, StatelessReward, about
from ..scoring import as_scores


@dataclass(frozen=True)
class _UnderCondition(StatelessReward):
    """A reward and its gate.

    Attributes:
        reward: what is scored.
        by: the gate.
        least, most: bounds of the gate's values, inclusive; None for no bound.
    """

    reward: Reward
    by: Reward
    least: float | None = None
    most: float | None = None

    def __post_init__(self) -> None:
        require_finite(self)
        if self.least is None and self.most is None:
            raise ValueError("a gate needs bounds: give least or most, or both")
        low, high = self._bounds()
        if not low <= high:
            raise ValueError(f"expected least to be at most most, found {self.least} and {self.most}")

    def _bounds(self) -> tuple[float, float]:
        return (-math.inf if self.least is None else self.least, math.inf if self.most is None else self.most)

    @property
    def about(self) -> RewardInfo:
        own, gate = about(self.reward), about(self.by)
        return replace(
            own,
            differentiable=False,
            groupwise=own.groupwise or gate.groupwise,
            licence="; ".join(dict.fromkeys(filter(None, (own.licence, gate.licence)))),
            memory=own.memory + gate.memory,
            held_out=own.held_out and gate.held_out,
            reference=own.reference or gate.reference,
            aside=own.aside and gate.aside,
        )

    def prepare(self, prompts: Sequence[str]) -> None:
        self.reward.prepare(prompts)
        self.by.prepare(prompts)

    def _scored(self, batch: RewardBatch) -> tuple[Scores, Tensor]:
        """The reward's scores, masked where the gate has none, and which images are within the bounds ``[G]``."""
        found, gate = as_scores(self.reward(batch.copy())), as_scores(self.by(batch))
        low, high = self._bounds()
        values = gate.values.to(found.values.device)
        known = gate.valid.to(values.device) & values.isfinite()
        note = "" if bool(known.all()) else f"the gate has no score ({gate.note or 'it is not finite'})"
        return _masked(found, known, note, abstained=gate.abstained), known & (values >= low) & (values <= high)

    def state_dict(self) -> dict[str, Any]:
        return {"reward": self.reward.state_dict(), "by": self.by.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.reward.load_state_dict(state["reward"])
        self.by.load_state_dict(state["by"])


@dataclass(frozen=True)
class Gated(_UnderCondition):
    """Images whose gate value is out of bounds do not count. That is no failure of the reward."""

    def __call__(self, batch: RewardBatch) -> Scores:
        found, within = self._scored(batch)
        out = int((~within & found.valid).sum())
        return _masked(found, within, f"{out} of {len(within)} images are out of the gate's bounds", abstained=True)


@dataclass(frozen=True)
class Penalised(_UnderCondition):
    """Images whose gate value is out of bounds score ``penalty`` less, in the units of the reward."""

    penalty: float = 1.0

    @property
    def about(self) -> RewardInfo:
        declared = super().about
        if declared.expected is None:
            return declared
        low, high = declared.expected
        return replace(declared, expected=(low - max(self.penalty, 0.0), high - min(self.penalty, 0.0)))

    def __call__(self, batch: RewardBatch) -> Scores:
        found, within = self._scored(batch)
        return replace(found, values=torch.where(within, found.values, found.values - self.penalty))


def _masked(scores: Scores, keep: Tensor, note: str, *, abstained: bool) -> Scores:
    """Scores that count only where ``keep [G]``; what already did not count failed, unless it was abstained from."""
    before = scores.valid & scores.values.isfinite()
    valid = before & keep
    if bool((before == valid).all()):
        return scores
    failed = not bool(before.all()) and not scores.abstained
    words = "; ".join(filter(None, (scores.note, note)))
    return replace(scores, valid=valid, note=words, abstained=abstained and not failed)
