"""Drift of plain pixel statistics: burnt colours, hard contrast and grain are the first signs of reward hacking."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, stdev
from typing import ClassVar

from torch import Tensor

from ...support.setting import require_finite
from .port import Alarm, EvaluationView, Guard, Memory, level_of, require_thresholds

_LEAST_SHARE = 0.05  # of the mean: a spread below it counts as that


@dataclass(frozen=True)
class PixelDrift(Guard):
    """How far brightness, contrast, saturation, sharpness and JPEG size have moved since the first evaluation.

    In units of the spread that the held-out images had then (of a twentieth of the mean where that is more). Ours.

    Attributes:
        warn, stop: distances above which there is an alarm; None for never.
    """

    label: ClassVar[str] = "drift"

    warn: float | None = 1.5
    stop: float | None = None

    def __post_init__(self) -> None:
        require_finite(self)
        require_thresholds(self.warn, self.stop)

    def measure(self, images: Tensor) -> Mapping[str, Sequence[float]]:
        from ...rewards.pixels import measures as pixel  # which loads PIL

        pixels = images.float().clamp(0, 1)
        measures: dict[str, pixel.Measure] = {
            "brightness": pixel.Brightness(),
            "contrast": pixel.Contrast(),
            "saturation": pixel.Saturation(),
            "JPEG size": pixel.JpegSize(),
        }
        if min(images.shape[1:3]) >= 3:
            measures["sharpness"] = pixel.Sharpness()
        return {name: measure(pixels).double().tolist() for name, measure in measures.items()}

    def judge(self, seen: EvaluationView, memory: Memory) -> tuple[Alarm | None, Memory]:
        found = {}
        for name, values in seen.measured.items():
            finite = [value for value in values if isfinite(value)]
            if len(finite) > 1:
                found[name] = [fmean(finite), stdev(finite)]
        if not memory:
            return None, found
        shared = found.keys() & memory.keys()
        if not shared:
            return None, memory
        drifts = {name: _drift(memory[name], found[name][0]) for name in sorted(shared)}
        worst = max(drifts, key=lambda name: abs(drifts[name]))
        level = level_of(self.warn, self.stop, lambda most: abs(drifts[worst]) > most)
        return level and Alarm(guard="PixelDrift", level=level, sentence=_sentence(worst, drifts[worst])), memory


def _drift(before: Sequence[float], now: float) -> float:
    mean, spread = before
    return (now - mean) / max(spread, _LEAST_SHARE * abs(mean), 1e-6)


def _sentence(name: str, drift: float) -> str:
    way = "risen" if drift > 0 else "fallen"
    return (
        f"the images' {name} has {way} by {abs(drift):.1f} times the spread it had at the start: compare before and "
        "after, and add a reward that minds it, a KL weight or fewer iterations"
    )
