"""A learning rate that sets itself: how far an iteration should move the policy, and the rate that takes it there.

The rule, ``k`` of ``n`` updates done in iteration t, steers to a move (`steering`) that is spread evenly over them:

    rate *= clamp(sqrt(wanted * (k / n) / move), 1 / 2, 2)

What is wanted is `TARGET` of the velocity at first; less as the run goes on, where noise is what is left to be learned
from, and where an iteration has fewer than `IMAGES`, which leaves more noise; more where the updates are seen to be
right. The members that they have not used yet tell that for nothing: the correlation of a member's advantage with its
log-ratio is what a move of one standard deviation gains, in standard deviations of the reward. Of a move that is mostly
noise it is near 0 (.04 on the demo model), on a toy of 12 numbers .4. With c for what is certain of it over the last
iterations (its mean less a standard error):

    wanted = max(TARGET * sqrt(min(1, images / IMAGES)) / sqrt(1 + t / FALL), min(MOST, GAIN * c))

Label: our own; the first part was found on the demo model, the second on toys of 12, 192 and 1728 numbers
(`benchmarks/`); not published.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Final, Literal

AUTO: Final = "auto"
Auto = Literal["auto"]
TARGET, IMAGES, FALL = 0.05, 96, 6
"""Share of the velocity that the first iteration moves it by; the images that it takes for so much; iterations after
which it is 1 / sqrt(2) of that."""
MOST, GAIN, MEMORY = 0.1, 0.6, 7 / 8
"""The largest share that is ever asked for (runs broke at .12 and more); the share that a correlation of 1 would give;
what remains of a correlation after each iteration."""
FIRST_RATE, LOWEST, HIGHEST = 1e-4, 1e-6, 3e-2
"""The rate of the very first update, and the limits of the rate."""
MOST_UPDATES, MEMBERS = 16, 6
"""Updates of an iteration above which none is added, and the least members of each."""


@dataclass(frozen=True)
class Signal:
    """The correlations of all iterations, each by its cells, older ones ever less.

    Attributes:
        total, cells: sums of correlation times cells, and of cells.
        squares: the sum of cells by the square of what remains of them, for the standard error.
    """

    total: float = 0.0
    cells: float = 0.0
    squares: float = 0.0

    def after(self, correlation: float, cells: float) -> "Signal":
        """With one iteration more."""
        return Signal(
            MEMORY * self.total + cells * correlation, MEMORY * self.cells + cells, MEMORY**2 * self.squares + cells
        )

    @property
    def certain(self) -> float:
        """The mean correlation less its standard error; 0 where that is not above 0."""
        return max(0.0, (self.total - sqrt(self.squares)) / self.cells) if self.cells else 0.0


def target(iteration: int, images: int, share: float = 1.0, signal: Signal = Signal()) -> float:
    """The move that iteration ``iteration`` (from 0) should end at, which rolls out ``images`` in all.

    ``share`` is less than 1 where that did harm; ``signal`` is what was seen until then.
    """
    unsure = TARGET * sqrt(min(1.0, images / IMAGES)) / sqrt(1 + iteration / FALL)
    return share * max(unsure, min(MOST, GAIN * signal.certain))


def steered(rate: float, move: float, wanted: float) -> float:
    """The next learning rate after updates that moved the policy by ``move``, where ``wanted`` was asked.

    The square root and the bounds keep the noise of a measured move (28 % for 6 members and 2 steps) from the rate.
    """
    factor = sqrt(wanted / max(move, 1e-9))
    return min(max(rate * min(max(factor, 0.5), 2.0), LOWEST), HIGHEST)


def own_count(groups: int, images: int, *, whole: bool) -> int:
    """Updates of an iteration of ``groups`` prompts of ``images`` each, where the trainer chooses: as many as leave
    enough members for each; no more than groups where these are never taken apart (``whole``)."""
    return max(1, min(MOST_UPDATES, groups if whole else groups * images // MEMBERS))
