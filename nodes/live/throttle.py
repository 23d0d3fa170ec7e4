"""How often a view is told."""

import time
from collections.abc import Callable


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
