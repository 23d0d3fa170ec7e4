"""A window that mostly stands near the start: TreeGRPO's."""

import math
from dataclasses import dataclass
from typing import ClassVar

from ..support.seeds import derive_seed
from ..support.setting import require_finite
from .windows import Window


def geometric_start(uniform: float, ratio: float, starts: int) -> int:
    """The start i of n that ``uniform`` in [0, 1) gives, with ``P(i) = (1 - r) r^i / (1 - r^n)``."""
    if ratio == 1:
        return int(uniform * starts)
    return min(starts - 1, int(math.log1p(-uniform * (1 - ratio**starts)) / math.log(ratio)))


@dataclass(frozen=True)
class GeometricWindow(Window):
    """A start drawn anew in every iteration, each next one less likely by a ratio.

    ``P(i) = (1 - r) r^i / (1 - r^n)`` over the ``n = T - size`` starts: a truncated geometric distribution. From a note
    on TreeGRPO (arXiv 2512.08153), with r 0.5; its code moves a window instead (`SlidingWindow`).

    Attributes:
        size: number of trained steps.
        ratio: r, above 0 and at most 1; 1 is `RandomWindow`'s even draw.
        seed: of the draw, which is a function of it and the iteration.
    """

    label: ClassVar[str] = "mostly early"

    size: int = 4
    ratio: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        require_finite(self)
        if not (isinstance(self.size, int) and self.size >= 1 and 0 < self.ratio <= 1):
            raise ValueError(
                f"size must be a whole number >= 1 and ratio above 0 and at most 1, found {self.size!r}, {self.ratio}"
            )

    def at(self, iteration: int, steps: int) -> range:
        """Trained steps. Raises ``ValueError`` where the window does not fit, or the iteration is below 0."""
        if self.size > steps - 1:
            raise ValueError(
                f"A window of {self.size} steps does not fit {steps} sampling steps: the last step is never trained, "
                f"so the size must be at most {steps - 1}; lower it or take at least {self.size + 1} steps."
            )
        if iteration < 0:
            raise ValueError(f"iteration is counted from 0, found {iteration}.")
        uniform = derive_seed("geometric window", self.seed, iteration) / 2**63
        start = geometric_start(uniform, self.ratio, steps - self.size)
        return range(start, start + self.size)

    def reach(self, steps: int) -> range:
        """All steps but the last. Raises ``ValueError`` where the window does not fit."""
        self.at(0, steps)
        return range(steps - 1)
