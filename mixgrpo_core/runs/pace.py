"""How fast a run goes and how long it still takes.

    left = iterations left x (rollouts, scores, updates, saving)  +  evaluations left x (one evaluation)  +  the end

Each is timed for itself: an evaluation takes as long as many iterations, and the first comes before all of them.
"""

import time
from collections import deque
from collections.abc import Callable

from ..settings.config import TrainConfig
from .reports import StepReport

RECENT = 20
"""Iterations whose mean is the pace."""
_SAMPLING = ("rollout", "decode")


class Pace:
    """Seconds by the clock on the wall.

    Args:
        iterations: of the whole run; below 0 it goes on until it is stopped.
        eval_every: iterations from one evaluation to the next; 0 for none.
        images: of one iteration.
        images_at_the_end: that are made once training is over, to be looked at.
    """

    def __init__(
        self,
        iterations: int,
        *,
        eval_every: int = 0,
        images: int = 1,
        images_at_the_end: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.iterations, self._eval_every = iterations, eval_every
        self._share_of_the_end = images_at_the_end / images
        self._clock, self._since = clock, clock()
        self._at: int | None = None
        self._plain: deque[float] = deque(maxlen=RECENT)
        self._evaluation: float | None = None
        self._end = 0.0

    @classmethod
    def of(cls, config: TrainConfig, *, held_out: bool, images_at_the_end: int) -> "Pace":
        """That of a run with these settings; ``held_out``: there are prompts to evaluate."""
        return cls(
            config.iterations,
            eval_every=config.eval_every if held_out else 0,
            images=config.prompts_per_iteration * config.images_per_prompt,
            images_at_the_end=images_at_the_end,
        )

    def start(self) -> None:
        """Loading is over or begins anew: the time until the first iteration does not count."""
        self._at = None

    def begun(self, iteration: int) -> None:
        """Something happened in ``iteration``; the first such event of a run starts the clock."""
        if self._at is None:
            self._since = self._clock()
        self._at = iteration

    def finished(self, report: StepReport) -> None:
        """An iteration is whole."""
        now, spent = self._clock(), report.seconds.get("evaluation", 0.0)
        if self._at is not None:
            self._plain.append(max(now - self._since - spent, 0.0))
        if report.evaluations:
            self._evaluation = spent / len(report.evaluations)
        self._end = self._share_of_the_end * sum(report.seconds.get(phase, 0.0) for phase in _SAMPLING)
        self._since, self._at = now, report.iteration + 1

    @property
    def seconds_per_iteration(self) -> float | None:
        """Mean of the recent iterations without their evaluations; None before the first is whole."""
        return sum(self._plain) / len(self._plain) if self._plain else None

    def seconds_left(self, done: int) -> float | None:
        """Seconds until the run is over, ``done`` iterations being whole; None before the first of them, or where it
        has no end."""
        pace = self.seconds_per_iteration
        if pace is None or self.iterations < 0:
            return None
        evaluation = self._evaluation or 0.0
        ahead = pace * (self.iterations - done) + evaluation * self._evaluations(done, self.iterations) + self._end
        now = pace + evaluation * self._evaluations(done, done + 1) if done < self.iterations else self._end
        return ahead - min(self._clock() - self._since, now)

    def _evaluations(self, first: int, stop: int) -> int:
        """How many there are after the iterations from ``first`` up to ``stop``."""
        if not self._eval_every:
            return 0
        regular = stop // self._eval_every - first // self._eval_every
        last = first < self.iterations <= stop and self.iterations % self._eval_every != 0
        return regular + last
