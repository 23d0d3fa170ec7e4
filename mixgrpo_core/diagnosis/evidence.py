"""What a run folder holds, in the form in which signs ask for it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

from torch import Tensor

from ..runs.checkpoint import CorruptCheckpoint, read_checkpoint
from ..runs.folder import RunFolder
from ..settings.config import TrainConfig

RECENT = 10  # iterations that say what it is like now


@dataclass(frozen=True, kw_only=True)
class Trend:
    """How a mean has moved.

    Attributes:
        before, now: of the mean.
        error: standard error of their difference.
        spread: of single images at the beginning.
    """

    before: float
    now: float
    error: float
    spread: float

    @property
    def gain(self) -> float:
        """By how much the mean has risen."""
        return self.now - self.before

    @property
    def rises(self) -> bool:
        """By more than chance: two standard errors, and a twentieth of the spread."""
        return self.gain > max(2 * self.error, 0.05 * self.spread)

    @property
    def falls(self) -> bool:
        """By more than chance."""
        return -self.gain > max(2 * self.error, 0.05 * self.spread)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A run: its settings, its reports in order, and the tensors of its newest LoRA (none where there is none)."""

    train: TrainConfig
    setup: Mapping[str, Any]
    reports: Sequence[Mapping[str, Any]]
    lora: Mapping[str, Tensor]

    @classmethod
    def of(cls, run: RunFolder) -> "Evidence":
        """Raises ``RunError`` where the settings cannot be read."""
        return cls(train=run.settings, setup=run.config["setup"], reports=run.metrics(), lora=_lora(run))

    @property
    def recent(self) -> Sequence[Mapping[str, Any]]:
        """The last reports."""
        return self.reports[-RECENT:]

    def weight(self, reward: str) -> float:
        """With which a reward is trained; 0 where it is only watched."""
        return self.train.reward_weights.get(reward, 1.0)

    def figures(self, name: str, *, before: bool = False) -> list[float]:
        """A figure of the recent updates, where it was reported; or of as many ``before`` them."""
        reports = self.reports[-2 * RECENT : -RECENT] if before else self.recent
        return [report["update"][name] for report in reports if report["update"].get(name) is not None]

    def training(self) -> Trend | None:
        """The trained reward, first against last; None before four iterations."""
        means = self._means([report["rewards"] for report in self.reports])
        if len(means) < 4:
            return None
        part = means[: max(2, min(RECENT, len(means) // 3))], means[-max(2, min(RECENT, len(means) // 3)) :]
        error = math.hypot(*(_scatter(means) / math.sqrt(len(values)) for values in part))
        return Trend(before=fmean(part[0]), now=fmean(part[1]), error=error, spread=self._spread())

    def held_out(self) -> list[tuple[int, float]]:
        """Iteration and trained reward of the held-out evaluations."""
        made = [evaluation for report in self.reports for evaluation in report["evaluations"]]
        found = [(evaluation["iteration"], self._weighed(evaluation["rewards"], "mean")) for evaluation in made]
        return [(iteration, mean) for iteration, mean in found if mean is not None]

    def held_out_error(self) -> float:
        """Standard error of a held-out mean."""
        made = [evaluation["rewards"] for report in self.reports for evaluation in report["evaluations"]]
        known = {
            name: (self.weight(name), stats["spread"] ** 2 / stats["valid"])
            for name, stats in (made[-1] if made else {}).items()
            if self.weight(name) and stats.get("spread") is not None and stats.get("valid")
        }
        total = sum(weight for weight, _ in known.values())
        return math.sqrt(sum(weight**2 * square for weight, square in known.values())) / total if total else math.inf

    def trend(self) -> Trend | None:
        """The held-out reward where there are two evaluations, else the trained one."""
        held_out = self.held_out()
        if len(held_out) < 2:
            return self.training()
        error = math.sqrt(2) * self.held_out_error()
        return Trend(before=held_out[0][1], now=held_out[-1][1], error=error, spread=self._spread())

    def _spread(self) -> float:
        """Of single images, at the beginning."""
        found = (self._weighed(report["rewards"], "spread") for report in self.reports)
        return next((spread for spread in found if spread is not None), 0.0)

    def _means(self, rewards: Sequence[Mapping[str, Any]]) -> list[float]:
        return [mean for stats in rewards if (mean := self._weighed(stats, "mean")) is not None]

    def _weighed(self, rewards: Mapping[str, Mapping[str, Any]], figure: str) -> float | None:
        """A figure over the trained rewards by their weights; None where none has it."""
        known = {name: self.weight(name) for name, stats in rewards.items() if stats.get(figure) is not None}
        total = sum(known.values())
        return sum(weight * rewards[name][figure] for name, weight in known.items()) / total if total else None


def mean_of(reports: Sequence[Mapping[str, Any]], figure: Callable[[Mapping[str, Any]], float | None]) -> float | None:
    """Mean over reports of a figure, where they have it."""
    values = [value for report in reports if (value := figure(report)) is not None]
    return fmean(values) if values else None


def _scatter(means: Sequence[float]) -> float:
    """Standard deviation about the trend, from neighbours: what a mean wanders by without learning."""
    steps = [b - a for a, b in pairwise(means)]
    return stdev(steps) / math.sqrt(2) if len(steps) > 1 else math.inf


def _lora(run: RunFolder) -> Mapping[str, Tensor]:
    """Of the newest whole checkpoint."""
    for path in run.checkpoints:
        try:
            return read_checkpoint(path).part("lora")
        except CorruptCheckpoint:
            continue
    return {}
