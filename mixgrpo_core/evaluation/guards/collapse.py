"""A policy that is being destroyed: the reward it is trained for falls below its start, images lose what they show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from statistics import fmean, median, variance
from typing import Any, ClassVar

from torch import Tensor

from ...support.setting import require_finite
from .port import Alarm, Guard, IterationView, Memory, level_of, require_thresholds

_GROUPS = 8  # that a mean is taken over: of one iteration, or of as many as have so many
_ERRORS = 4  # standard errors that a fall must exceed
_FLAT, _SHARE = 0.05, 0.05  # least spreads: of group means in spreads of the images, of a reward in its own mean
_FIRST = 5  # iterations whose gradients are the beginning


@dataclass(frozen=True)
class Collapse(Guard):
    """Counts iterations in a row whose training reward is below its start; one whose images are empty counts twice.
    Ours. The rewards of an iteration's prompts (of 8 at least, else of more iterations) are compared with those of the
    first, each in units of the spread that it had over the images then. The fall must exceed ``fall``, and four
    standard errors by the spread over the prompts, for every iteration has prompts of its own. Images whose contrast or
    detail leaves the range of the start, gradients and clipped shares out of proportion raise a warning without it.

    Attributes:
        warn, stop: iterations in a row at which there is an alarm; None for never.
        fall: least fall, in spreads.
        content: share of the contrast that images had at the start, below which they are empty; their detail may grow
            or shrink by 1.5 times the inverse of it.
        clipped: share of the ratios above which too many are clipped.
        gradient: times the gradient norm of the beginning above which one is out of proportion.
        moved: share of the velocity above which an iteration moves the policy too far: no run of the demo model that
            stayed below 8 % broke, and all that broke stood above 10 %. Where the step sets itself, twice what was
            asked for is, if that is more.
    """

    label: ClassVar[str] = "collapse"

    warn: int | None = 1
    stop: int | None = 3
    fall: float = 0.75
    content: float = 0.5
    clipped: float = 0.4
    gradient: float = 30.0
    moved: float = 0.1

    def __post_init__(self) -> None:
        require_finite(self)
        require_thresholds(self.warn, self.stop)
        for name, below in (
            ("fall", False),
            ("content", True),
            ("clipped", True),
            ("gradient", False),
            ("moved", False),
        ):
            value = getattr(self, name)
            if not value > 0 or (below and value >= 1):
                raise ValueError(f"{name} must be above 0{' and below 1' if below else ''}, found {value}")

    def look(self, images: Tensor) -> Mapping[str, Sequence[float]]:
        pixels = images.float()
        across, down = (pixels.diff(dim=dim).abs().mean((1, 2, 3)) for dim in (2, 1))
        measured = {"contrast": pixels.flatten(1).std(1), "detail": (across + down) / 2}
        return {name: values.double().tolist() for name, values in measured.items()}

    def hear(self, heard: IterationView, memory: Memory) -> tuple[Alarm | None, Memory]:
        memory = {"start": [], "spreads": {}, "recent": [], "norms": [], "content": {}, "falls": 0, **memory}
        fall, memory = self._fallen(heard, memory)
        lost, memory = self._lost(heard, memory)
        wild, memory = self._wild(heard, memory)
        counted = 0 if not fall else memory["falls"] + (2 if lost else 1)
        signs = [sign for sign in (fall, lost, *wild) if sign]
        level = level_of(self.warn, self.stop, lambda patience: counted >= patience)
        if level is None and signs and self.warn is not None:
            level = "warn"
        alarm = level and Alarm(guard="Collapse", level=level, sentence=_sentence(signs, heard))
        return alarm, {**memory, "falls": counted}

    def _fallen(self, heard: IterationView, memory: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Whether the training reward is below its start, in words."""
        groups = [dict(group) for group in heard.groups if group]
        if len(memory["start"]) < _GROUPS:
            start, spreads = [*memory["start"], *groups], dict(memory["spreads"])
            for name, stats in heard.rewards.items():
                if isfinite(stats.spread):
                    spreads[name] = max(spreads.get(name, 0.0), stats.spread)
            return "", {**memory, "start": start, "spreads": spreads}
        recent = _newest([*memory["recent"], groups])
        memory = {**memory, "recent": recent}
        before, now = _levels(memory["start"]), _levels([group for groups in recent for group in groups])
        units = {name: max(spread, _SHARE * abs(before[name]), 1e-9) for name, spread in memory["spreads"].items()}
        first, last = (
            [value for group in found if (value := _combined(group, before, units, heard.weights)) is not None]
            for found in (memory["start"], [group for groups in recent for group in groups])
        )
        if min(len(first), len(last)) < _GROUPS:
            return "", memory
        fall = fmean(first) - fmean(last)
        error = sqrt(sum(max(variance(values), _FLAT**2) / len(values) for values in (first, last)))
        if not fall > max(self.fall, _ERRORS * error):
            return "", memory
        told = ", ".join(f"{name} {now[name]:.3g}, was {before[name]:.3g}" for name in units if name in now)
        return f"the training reward is below its start ({told})", memory

    def _lost(self, heard: IterationView, memory: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Whether the images are no longer what they were, in words."""
        now = {name: median(values) for name, values in heard.measured.items() if values}
        broken = [name for name, values in heard.measured.items() if not all(map(isfinite, values))]
        if broken:
            return "images hold NaN or infinity", {**memory}
        start = memory["content"] or now
        memory = {**memory, "content": start}
        share = {name: value / max(start[name], 1e-6) for name, value in now.items() if name in start}
        bound = 1.5 / self.content
        if share.get("contrast", 1.0) < self.content or share.get("detail", 1.0) < 1 / bound:
            return f"images are becoming empty (contrast {share['contrast']:.0%} of the start's)", memory
        if share.get("detail", 1.0) > bound:
            return f"images are turning into noise (detail {share['detail']:.1f} times the start's)", memory
        return "", memory

    def _wild(self, heard: IterationView, memory: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
        """What the updates say, in words."""
        signs = []
        clipped = sum(heard.figures.get(name, 0.0) for name in ("clip_low", "clip_high"))
        if clipped > self.clipped:
            signs.append(f"{clipped:.0%} of the ratios are clipped")
        move = heard.figures.get("move", 0.0)
        if move > max(self.moved, 2 * heard.figures.get("move_target", 0.0)):
            signs.append(f"an iteration moves the policy by {move:.0%} of its velocity")
        norm = heard.figures.get("grad_norm")
        norms = memory["norms"]
        if norm is None or not norm > 0:
            return signs, {**memory}
        if len(norms) < _FIRST:
            return signs, {**memory, "norms": [*norms, norm]}
        if norm > self.gradient * median(norms):
            signs.append(f"the gradient is {norm / median(norms):.0f} times that of the beginning")
        return signs, {**memory}


def _newest(iterations: Sequence[Sequence[Mapping[str, float]]]) -> list[Sequence[Mapping[str, float]]]:
    """The newest iterations that have enough groups together."""
    kept: list[Sequence[Mapping[str, float]]] = []
    for groups in reversed(iterations):
        if sum(map(len, kept)) >= _GROUPS:
            break
        kept.insert(0, groups)
    return kept


def _levels(groups: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each reward over groups."""
    names = {name for group in groups for name in group}
    return {name: fmean(group[name] for group in groups if name in group) for name in sorted(names)}


def _combined(
    group: Mapping[str, float], start: Mapping[str, float], units: Mapping[str, float], weights: Mapping[str, float]
) -> float | None:
    """A group's rewards above their start, in spreads, as they are weighed; None without any."""
    known = [name for name in group if name in units and name in start]
    total = sum(weights[name] for name in known)
    return sum(weights[name] * (group[name] - start[name]) / units[name] for name in known) / total if total else None


def _sentence(signs: Sequence[str], heard: IterationView) -> str:
    rate = f"the learning rate ({heard.learning_rate:g})"
    first = (
        f"{rate} sets itself and comes down where that is too far"
        if "move_target" in heard.figures
        else f"{rate} is the likeliest cause, start again with a tenth of it"
    )
    return (
        f"{' and '.join(signs)}: {first}; then a reward that fails on good images, or too few images per prompt. The "
        "LoRA named best is from before, where any was better than the start"
    )
