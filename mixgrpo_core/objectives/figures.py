"""The figures of an iteration's updates: whatever objectives and regularisers report, by name."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..support.ranks import Ranks
from .port import RATIO_DEVIATION, LossReport

Step = tuple[dict[str, float], dict[str, float]]
"""Means and maxima of one optimizer step, by name."""


@dataclass(frozen=True, kw_only=True)
class UpdateStats:
    """Figures of all updates of one iteration.

    Attributes:
        steps: optimizer steps.
        figures: by name: what objective, regularisers and stages of credit reported, averaged (maxima: the largest),
            ``loss`` and ``grad_norm``. Of ratios ``ratio_first``, the largest ``|ratio - 1|`` before the first step,
            which is the noise between rollout and update, and ``ratio_max``.
        ratio_noise: what the probe found of that noise; None for an objective without a ratio, and where it was not
            asked.
        noise_allowed: how much of it there may be; None without a ratio.
        recomputed: it exceeded a tenth of the clip range, so old log-probs were taken again in the update's batches.
    """

    steps: int
    figures: Mapping[str, float] = field(default_factory=dict)
    ratio_noise: float | None = None
    noise_allowed: float | None = None
    recomputed: bool = False

    def beside(self, figures: Mapping[str, float]) -> "UpdateStats":
        """With the figures of the credit, too. Raises ``ValueError`` for a name that is taken."""
        taken = sorted(figures.keys() & {*RESERVED, *self.figures})
        if taken:
            raise ValueError(f"the figure {taken[0]!r} is the update's own: report yours by another name")
        return replace(self, figures={**self.figures, **figures})

    def to_json(self) -> dict[str, Any]:
        """Plain values on one level; the usual figures are there, null where nothing gave them."""
        usual = ("loss", "clip_low", "clip_high", "kl", "grad_norm", "ratio_first", "ratio_max")
        figures = {**dict.fromkeys(usual), **self.figures}
        return {"steps": self.steps, **figures, "ratio_noise": self.ratio_noise, "recomputed": self.recomputed}


_OF_STEPS = {RATIO_DEVIATION, "move", "move_target", "rate", "signal", "signal_cells"}
RESERVED = frozenset({*UpdateStats(steps=0).to_json(), *_OF_STEPS}) - {
    "clip_low",
    "clip_high",
    "kl",
}
"""What every update says of itself: no objective or regulariser may report a mean of that name."""


class Figures:
    """Sums of an update: means weighted by the share of the cells, and maxima.

    What is added stays where it was computed until all of it is read: a number asked of a GPU waits for it.
    """

    def __init__(self) -> None:
        self._means: list[tuple[str, Tensor | float, float]] = []
        self._maxima: list[tuple[str, Tensor | float]] = []
        self._pulls: list[tuple[Sequence[tuple[float, Tensor | float]], float]] = []

    def add(self, report: LossReport, share: float) -> None:
        self._means.append(("loss", _kept(report.loss), share))
        self.add_means(report.means, share)
        for name, value in report.maxima.items():
            if name in RESERVED - {RATIO_DEVIATION}:
                raise ValueError(f"the figure {name!r} is the update's own: report yours by another name")
            self._maxima.append((name, _kept(value)))

    def add_means(self, means: Mapping[str, Any], share: float) -> None:
        for name, value in means.items():
            if name in RESERVED:
                raise ValueError(f"the figure {name!r} is the update's own: report yours by another name")
            self._means.append((name, _kept(value), share))

    def add_to_loss(self, weighted: Sequence[tuple[float, Any]], share: float) -> None:
        """Means times their weights, besides what reports say of the loss."""
        self._pulls.append(([(weight, _kept(value)) for weight, value in weighted], share))

    def read(self) -> Step:
        """Means and maxima as numbers."""
        pulls = [value for weighted, _ in self._pulls for _, value in weighted]
        values = iter(_numbers([value for _, value, _ in self._means] + [value for _, value in self._maxima] + pulls))
        means: dict[str, float] = defaultdict(float)
        maxima: dict[str, float] = {}
        for name, _, share in self._means:
            means[name] += next(values) * share
        for name, _ in self._maxima:
            maxima[name] = max(maxima.get(name, float("-inf")), next(values))
        means["loss"] += sum(
            sum(weight * next(values) for weight, _ in weighted) * share for weighted, share in self._pulls
        )
        return dict(means), maxima


def _kept(value: Any) -> Tensor | float:
    return value.detach().reshape(()) if isinstance(value, Tensor) else float(value)


def _numbers(values: Sequence[Tensor | float]) -> list[float]:
    """The values as numbers, with one wait for all that lie in one place."""
    places: dict[tuple[torch.device, torch.dtype], list[int]] = defaultdict(list)
    for place, value in enumerate(values):
        if isinstance(value, Tensor):
            places[value.device, value.dtype].append(place)
    found = [0.0 if isinstance(value, Tensor) else value for value in values]
    for chosen in places.values():
        together = torch.stack([value for place in chosen if isinstance(value := values[place], Tensor)])
        for place, number in zip(chosen, together.tolist(), strict=True):
            found[place] = float(number)
    return found


def joined(own: Step, ranks: Ranks) -> Step:
    """Sums and maxima over all ranks."""
    parts = ranks.all_gather(own)
    if len(parts) == 1:
        return own
    means: dict[str, float] = defaultdict(float)
    maxima: dict[str, float] = {}
    for theirs, most in parts:
        for name, value in theirs.items():
            means[name] += value
        for name, value in most.items():
            maxima[name] = max(maxima.get(name, float("-inf")), value)
    return dict(means), maxima


def finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")


def summary(steps: Sequence[Step]) -> dict[str, float]:
    """Means over all updates, the largest maxima, and the ratio's first."""
    found: dict[str, float] = {}
    for name in dict.fromkeys(name for means, _ in steps for name in means):
        values = [means[name] for means, _ in steps if name in means]
        found[name] = sum(values) / len(values)
    for name in dict.fromkeys(name for _, maxima in steps for name in maxima):
        values = [maxima[name] for _, maxima in steps if name in maxima]
        if name == RATIO_DEVIATION:
            found |= {"ratio_first": values[0], "ratio_max": max(values)}
        else:
            found[name] = max(values)
    return found
