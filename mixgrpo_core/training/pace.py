"""How fast a run goes and how long it still takes.

    left = counted work that is left  x  seconds of each kind of work

Seconds are those of the run's own recent iterations, or of a forecast before the first of them is whole.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from ..runs.reports import Event, Pictured, Progress, StepReport
from .workload import Rates, Timed, Workload

RECENT = 20
"""Iterations whose mean is the pace."""


class Pace:
    """Seconds by the clock on the wall.

    Args:
        work: of the whole run.
        foretold: seconds by kind of work, before any of it was done; None where nothing is known.
    """

    def __init__(
        self, work: Workload, foretold: Rates | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.work, self._foretold = work, foretold
        self._clock, self._since = clock, clock()
        self._at: int | None = None
        self._recent: deque[tuple[Timed, float]] = deque(maxlen=RECENT)
        self._evaluated, self._pictured = (foretold.evaluated, foretold.pictured) if foretold else (None, None)
        self._aside = 0.0  # seconds of the gallery since the last iteration was whole

    def start(self) -> None:
        """Loading is over or begins anew: the time until the first event does not count."""
        self._at, self._aside = None, 0.0

    def hear(self, event: Event) -> None:
        """Something happened; the first event of an iteration after ``start`` starts the clock."""
        if isinstance(event, Pictured):
            self._begin(event.iteration, event.seconds)
            self._aside += event.seconds
            self._pictured = event.seconds if event.seconds and not event.problem else self._pictured
        elif isinstance(event, Progress) and event.phase != "gallery":
            self._begin(event.iteration, 0.0)

    def _begin(self, iteration: int, ago: float) -> None:
        if self._at is None:
            self._since = self._clock() - ago
        self._at = iteration

    def finished(self, report: StepReport) -> None:
        """An iteration is whole."""
        now, timed = self._clock(), Timed.of(report)
        if self._at is not None:
            beside = now - self._since - self._aside - sum(timed.seconds.values())
            self._recent.append((timed, max(beside, 0.0)))
        if timed.evaluations:
            self._evaluated = self.work.rates([timed]).evaluated
        self._since, self._at, self._aside = now, report.iteration + 1, 0.0

    @property
    def rates(self) -> Rates | None:
        """Seconds by kind of work, as they are known now."""
        if not self._recent:
            return self._foretold
        found = self.work.rates([timed for timed, _ in self._recent])
        beside = sum(beside for _, beside in self._recent) / len(self._recent)
        shown = None if self._foretold is None else self._foretold.shown
        return replace(found, evaluated=self._evaluated, pictured=self._pictured, beside=beside, shown=shown)

    @property
    def seconds_per_iteration(self) -> float | None:
        """Mean of the recent iterations without their evaluations and the gallery; None before the first is whole."""
        if not self._recent:
            return None
        whole = [sum(timed.seconds.values()) - timed.seconds.get("evaluation", 0.0) for timed, _ in self._recent]
        return (sum(whole) + sum(beside for _, beside in self._recent)) / len(self._recent)

    def seconds_left(self, done: int) -> float | None:
        """Seconds until the run is over, ``done`` iterations being whole; None where nothing is known yet, or where it
        has no end."""
        rates, end = self.rates, self.work.iterations
        if rates is None or end < 0:
            return None
        now = self.work.seconds(done, done + 1, rates) if done < end else self.work.end(rates)
        gone = 0.0 if self._at is None else self._clock() - self._since
        return self.work.seconds(done, end, rates) + self.work.end(rates) - min(gone, now)
