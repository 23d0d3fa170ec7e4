"""Scores brought to another scale before they are combined.

    Transformed(PickScore(...), Affine(scale=8, shift=-2))     Transformed(JudgeReward(...), Rank())

Ours. Fixed functions hold on held-out images, too; a `RunningZ` and a `Rank` are for training only: held-out figures
stay those of the reward itself, for they are compared between iterations. Needed where rewards are summed
(``WeightedRewards``); an advantage that is normalised per reward does not depend on scale and shift.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from ...support.setting import require_finite
from ..port import DifferentiableReward, Reward, RewardBatch, RewardInfo, Scores, about
from ..scoring import as_scores
from .exchange import map_parts

State = Mapping[str, Any]


class Transform(Protocol):
    """Maps the scores of a group. A frozen dataclass of settings; what it remembers is handed to it and back.

    Attributes:
        fixed: a function of single scores, always the same: it holds on held-out images and carries gradients.
    """

    fixed: ClassVar[bool]

    @abstractmethod
    def init(self) -> State:
        """What it remembers at first: tensors and JSON values."""
        ...

    @abstractmethod
    def apply(self, values: Tensor, state: State) -> tuple[Tensor, State]:
        """Valid scores ``[n]`` of one group (n may be 0) to ``[n]`` of the same dtype, and what is remembered next."""
        ...

    @abstractmethod
    def declare(self, of: RewardInfo) -> RewardInfo:
        """What the transformed reward declares: range and spread floor are in its own units."""
        ...


class _Fixed:
    """What functions of single scores have in common."""

    fixed: ClassVar[bool] = True

    def init(self) -> State:
        return {}


@dataclass(frozen=True)
class Affine(_Fixed):
    """``scale * score + shift``; a negative scale rewards what the score punishes."""

    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale != 0 and math.isfinite(self.shift)):
            raise ValueError(f"expected a finite scale that is not 0 and a finite shift, found {self}")

    def apply(self, values: Tensor, state: State) -> tuple[Tensor, State]:
        return self.scale * values + self.shift, state

    def declare(self, of: RewardInfo) -> RewardInfo:
        declared = replace(of, spread_floor=abs(self.scale) * of.spread_floor)
        if of.expected is None:
            return declared
        low, high = sorted(self.scale * end + self.shift for end in of.expected)
        return replace(declared, expected=(low, high))


@dataclass(frozen=True)
class Clip(_Fixed):
    """Scores below ``low`` count as that, those above ``high`` as that; None for no bound."""

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        require_finite(self)
        low, high = self._bounds()
        if not low < high:
            raise ValueError(f"expected low below high, found {self}")

    def _bounds(self) -> tuple[float, float]:
        return (-math.inf if self.low is None else self.low, math.inf if self.high is None else self.high)

    def apply(self, values: Tensor, state: State) -> tuple[Tensor, State]:
        return values.clamp(*self._bounds()), state

    def declare(self, of: RewardInfo) -> RewardInfo:
        low, high = self._bounds()
        if of.expected is not None:
            least, most = (min(max(end, low), high) for end in of.expected)
            return replace(of, expected=(least, most))
        return replace(of, expected=(low, high) if math.isfinite(low) and math.isfinite(high) else None)


@dataclass(frozen=True)
class Sigmoid(_Fixed):
    """``1 / (1 + exp(-(score - centre) / scale))``: 0..1, steepest at ``centre``."""

    centre: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        require_finite(self)
        if not (math.isfinite(self.centre) and self.scale > 0):
            raise ValueError(f"expected a finite centre and a scale above 0, found {self}")

    def apply(self, values: Tensor, state: State) -> tuple[Tensor, State]:
        return torch.sigmoid((values - self.centre) / self.scale), state

    def declare(self, of: RewardInfo) -> RewardInfo:
        low, high = 0.0, 1.0
        if of.expected is not None:
            low, high = self.apply(torch.tensor(of.expected, dtype=torch.float64), {})[0].tolist()
        return replace(of, expected=(low, high), spread_floor=of.spread_floor / (4 * self.scale))  # 1 / 4 is its slope


@dataclass(frozen=True)
class Rank:
    """The place in the group: 0 for the worst to 1 for the best in equal steps; ties share the mean of theirs."""

    fixed: ClassVar[bool] = False

    def init(self) -> State:
        return {}

    def apply(self, values: Tensor, state: State) -> tuple[Tensor, State]:
        if len(values) < 2:
            return torch.full_like(values, 0.5), state
        above = (values[:, None] > values).sum(1) + 0.5 * ((values[:, None] == values).sum(1) - 1)
        return (above / (len(values) - 1)).to(values.dtype), state

    def declare(self, of: RewardInfo) -> RewardInfo:
        return replace(of, expected=(0.0, 1.0), spread_floor=0.0, groupwise=True, differentiable=False)


@dataclass(frozen=True)
class RunningZ:
    """``(score - mean) / std`` over the groups scored so far, newer ones counting for more.

    The statistics are those of all groups with the weight ``decay ** age``: exact from the first group on.

    Attributes:
        decay: 0.99 looks back over some 100 groups.
    """

    decay: float = 0.99
    fixed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"expected a decay in 0..1 and below 1, found {self.decay}")

    def init(self) -> State:
        return {"groups": 0, "mean": 0.0, "variance": 0.0}

    def apply(self, values: Tensor, state: State) -> tuple[Tensor, State]:
        if not len(values):
            return values, state
        exact = values.double()
        groups = state["groups"] + 1
        share = (1 - self.decay) / (1 - self.decay**groups)  # of the new group in all weights
        step = float(exact.mean()) - state["mean"]
        mean = state["mean"] + share * step
        within = (1 - share) * state["variance"] + share * float(exact.var(correction=0))
        variance = within + share * (1 - share) * step**2
        scaled = (exact - mean) / max(variance**0.5, 1e-8)
        return scaled.to(values.dtype), {"groups": groups, "mean": mean, "variance": variance}

    def declare(self, of: RewardInfo) -> RewardInfo:
        return replace(of, expected=None, spread_floor=0.0, differentiable=False)


@dataclass(frozen=True)
class Transformed(DifferentiableReward):
    """A reward whose scores are transformed; what it masks stays masked. Has a gradient where both have one."""

    reward: Reward
    transform: Transform

    @property
    def about(self) -> RewardInfo:
        return self.transform.declare(about(self.reward))

    def prepare(self, prompts: Sequence[str]) -> None:
        self.reward.prepare(prompts)

    def __call__(self, batch: RewardBatch) -> Scores:
        found = as_scores(self.reward(batch))
        if not self.transform.fixed and batch.context.iteration is None:
            return found
        valid = found.valid & found.values.isfinite()
        transformed, self._memory["transform"] = self.transform.apply(found.values[valid], self._memory["transform"])
        values = torch.zeros_like(found.values, dtype=transformed.dtype)
        values[valid] = transformed
        return replace(found, values=values, valid=valid)

    def values(self, batch: RewardBatch) -> Tensor:
        """Transformed scores ``[G]`` with their gradient. Raises ``TypeError`` where reward or transform has none."""
        if not (self.about.differentiable and isinstance(self.reward, DifferentiableReward)):
            raise TypeError(f"expected a reward and a transform that have gradients, found {self}")
        return self.transform.apply(self.reward.values(batch), {})[0]

    @cached_property
    def _memory(self) -> dict[str, State]:
        return {"transform": self.transform.init()}

    def state_dict(self) -> dict[str, Any]:
        return {"reward": self.reward.state_dict(), "transform": dict(self._memory["transform"])}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.reward.load_state_dict(state["reward"])
        self._memory["transform"] = dict(state["transform"])


def afresh(reward: Any) -> Any:
    """The reward with transforms that remember nothing yet, for a run of its own."""
    return map_parts(reward, Transformed, lambda found: replace(found, reward=afresh(found.reward)))
