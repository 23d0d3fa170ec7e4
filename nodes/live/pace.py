"""How fast a run goes and how long it still takes."""

import time
from collections import deque
from collections.abc import Callable

RECENT = 20
"""Iterations whose mean is the pace: more than lie between two held-out evaluations, which take time too."""


class Pace:
    """Seconds per iteration by the clock on the wall, so that saving and evaluating count as well."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._since = clock()
        self._at: int | None = None

    def start(self) -> None:
        """Loading is over or begins anew: the time until the first iteration does not count."""
        self._at = None

    def begun(self, iteration: int) -> None:
        """Something happened in ``iteration``; the first such event of a run starts the clock."""
        if self._at is None:
            self._since = self._clock()
        self._at = iteration

    def finished(self, iteration: int) -> None:
        now = self._clock()
        if self._at is not None:
            self._recent.append(now - self._since)
        self._since, self._at = now, iteration + 1

    @property
    def seconds_per_iteration(self) -> float | None:
        """Mean of the recent iterations; None before the first is whole."""
        return sum(self._recent) / len(self._recent) if self._recent else None

    def seconds_left(self, iterations: int) -> float | None:
        """Seconds until ``iterations`` more are done, the current one among them."""
        pace = self.seconds_per_iteration
        if pace is None:
            return None
        return max(0.0, pace * iterations - min(self._clock() - self._since, pace))


class Throttle:
    """Lets something through at most every so many seconds."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock, self._last = seconds, clock, float("-inf")

    def open(self, forced: bool) -> bool:
        """Whether it may pass now; ``forced`` always may."""
        now = self._clock()
        if not forced and now - self._last < self._seconds:
            return False
        self._last = now
        return True
