"""Policies that follow the trained one at a distance: each blend ``kept <- d kept + (1 - d) trained``."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..support.setting import require_finite
from .port import LoraState

Moment = Literal["update", "iteration"]


@dataclass(frozen=True)
class Lag:
    """How far a policy lags behind: ``d(n) = min(start + rate max(0, n - flat), cap)``.

    Attributes:
        flat: how long ``d`` stays at ``start``, in units of ``per``.
        start: first ``d``, 0 .. 1; 0 follows at once.
        rate: what ``d`` gains per unit.
        cap: the largest ``d``; at 1 nothing new is taken in any more.
        per: what ``n`` counts, from 1 at the first blend: optimizer steps or iterations.
        every: when it is blended: after each optimizer step, or after each iteration's steps.
    """

    flat: int = 0
    start: float = 0.0
    rate: float = 0.0
    cap: float = 1.0
    per: Moment = "update"
    every: Moment = "update"

    def __post_init__(self) -> None:
        require_finite(self)
        if not 0 <= self.start <= self.cap <= 1 or self.rate < 0 or self.flat < 0:
            raise ValueError(
                f"a lag needs 0 <= start <= cap <= 1, rate >= 0 and flat >= 0, found {self}: d is what is kept"
            )

    def decay(self, n: int) -> float:
        """``d`` of the n-th blend."""
        return min(self.start + self.rate * max(0, n - self.flat), self.cap)


class Lagged:
    """One lagged policy: its LoRA state in at least float32, and how much has happened, as a checkpoint holds them."""

    def __init__(self, lag: Lag, weights: LoraState) -> None:
        self.lag = lag
        self.weights = {name: _working(weight).clone() for name, weight in weights.items()}
        self.count = {"update": 0, "iteration": 0}

    @torch.no_grad()
    def passed(self, moment: Moment, trained: LoraState) -> None:
        """An update or an iteration has passed: blend where the lag says so. An iteration passes after its updates."""
        self.count[moment] += 1
        if moment != self.lag.every:
            return
        decay = self.lag.decay(self.count[self.lag.per])
        for name, weight in trained.items():
            self.weights[name].lerp_(_working(weight), 1 - decay)

    def state_dict(self) -> dict[str, object]:
        """Tensors and JSON values."""
        return {"weights": self.weights, "count": self.count}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""
        kept: dict[str, Tensor] = state["weights"]
        for name, value in self.weights.items():
            value.copy_(kept[name])
        self.count = {**self.count, **state["count"]}


def _working(weight: Tensor) -> Tensor:
    """A weight in at least float32: many small blends would be lost in less."""
    return weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
