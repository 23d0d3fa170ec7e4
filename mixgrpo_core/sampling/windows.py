"""The window: which steps are sampled by the SDE and trained, as a pure function of the iteration number.

``window.at(iteration, steps)`` is a range of exactly `size` steps that never holds the last one (its noise would stay
in the image), so the start lies in ``0 .. steps - 1 - size``, or in ``0 .. last`` where `last` is smaller. Iterations
are counted from 0. No state and no global randomness: every rank and every resumed run sees the same window.

Reference: MixGRPO (arXiv 2507.21802), Algorithm 1: ``l <- min(l + s, l_max)`` after every tau iterations.
"""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol


class Window(Protocol):
    """A rule that says which steps to train."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of trained steps."""
        ...

    @abstractmethod
    def at(self, iteration: int, steps: int) -> range:
        """Trained steps of iteration `iteration` >= 0 in a run of `steps` >= size + 1 steps."""
        ...

    def reach(self, steps: int) -> range:
        """All steps that it ever trains in a run of `steps` steps: the hull of its windows."""
        return range(steps - 1)


@dataclass(frozen=True)
class SlidingWindow:
    """Progressive window: it starts at 0 and moves by `stride` every `hold` iterations.

    Attributes:
        size: w, number of trained steps, 1 .. steps - 1.
        stride: s >= 1; the last move is shortened so that the last start is visited too.
        hold: tau >= 1, iterations at each start.
        wrap: go back to 0 after the last start; otherwise stay there.
        last: cap on the start, >= 0; None lets the window go as far as the steps allow.
    """

    label: ClassVar[str] = "slide"

    size: int = 4
    stride: int = 1
    hold: int = 25
    wrap: bool = False
    last: int | None = None

    def __post_init__(self) -> None:
        _check_counts(size=self.size, stride=self.stride, hold=self.hold)
        _check_last(self.last)

    def at(self, iteration: int, steps: int) -> range:
        """Trained steps. Raises ``ValueError`` where the window does not fit."""
        starts = _starts(self.stride, _last_start(self.size, steps, self.last))
        start = _visit(iteration, starts, [self.hold] * len(starts), self.wrap)
        return range(start, start + self.size)

    def reach(self, steps: int) -> range:
        """From the first step to the end of the last window."""
        return range(_last_start(self.size, steps, self.last) + self.size)


@dataclass(frozen=True)
class FrozenWindow:
    """The same steps in every iteration: `size` of them from `start` (MixGRPO-Flash* uses start 0)."""

    label: ClassVar[str] = "fixed"

    size: int = 4
    start: int = 0

    def __post_init__(self) -> None:
        _check_counts(size=self.size)
        if not isinstance(self.start, int) or self.start < 0:
            raise ValueError(f"start must be a whole number >= 0, found {self.start!r}.")

    def at(self, iteration: int, steps: int) -> range:
        """Trained steps. Raises ``ValueError`` where the window does not fit."""
        _check_iteration(iteration)
        furthest = _last_start(self.size, steps, None)
        if self.start > furthest:
            raise ValueError(
                f"A window of {self.size} steps in {steps} can start at {furthest} at most (the last step is never "
                f"trained), found start = {self.start}; lower start or take more steps."
            )
        return range(self.start, self.start + self.size)

    def reach(self, steps: int) -> range:
        """Its own steps."""
        return self.at(0, steps)


@dataclass(frozen=True)
class RandomWindow:
    """A start drawn evenly from all possible ones in every iteration.

    The draw is a hash of (seed, iteration): the same on every rank and after a resume, independent of any generator.
    `last` >= 0 caps the start.
    """

    label: ClassVar[str] = "random"

    size: int = 4
    seed: int = 0
    last: int | None = None

    def __post_init__(self) -> None:
        _check_counts(size=self.size)
        _check_last(self.last)
        if not isinstance(self.seed, int):
            raise ValueError(f"seed must be a whole number, found {self.seed!r}.")

    def at(self, iteration: int, steps: int) -> range:
        """Trained steps. Raises ``ValueError`` where the window does not fit."""
        _check_iteration(iteration)
        choices = _last_start(self.size, steps, self.last) + 1
        digest = hashlib.blake2b(f"{self.seed}/{iteration}".encode(), digest_size=8).digest()
        start = int.from_bytes(digest, "big") % choices  # 64 bits: the bias of the modulus is below 1e-16
        return range(start, start + self.size)

    def reach(self, steps: int) -> range:
        """From the first step to the end of the last window."""
        return range(_last_start(self.size, steps, self.last) + self.size)


@dataclass(frozen=True)
class DecayingWindow:
    """Progressive window that stays shorter the further it has come.

    Iterations at start l: ``max(shortest, floor(hold (1 - p) + shortest p))`` with ``p = l / (steps - 2)`` (linear,
    `rate` None), or ``max(shortest, ceil(hold exp(-rate max(0, l - threshold))))`` (exponential).

    Attributes:
        size, stride, wrap, last: as in SlidingWindow.
        hold: iterations at start 0.
        shortest: least iterations at any start, 1 .. hold.
        rate: None for the linear law, or the exponential law's rate per step, >= 0 (the published runs: 0.1).
        threshold: start from which the exponential law acts, >= 0 (the published runs: 13).
    """

    label: ClassVar[str] = "slow start"

    size: int = 4
    stride: int = 1
    hold: int = 25
    wrap: bool = False
    last: int | None = None
    shortest: int = 1
    rate: float | None = None
    threshold: int = 13

    def __post_init__(self) -> None:
        _check_counts(size=self.size, stride=self.stride, hold=self.hold, shortest=self.shortest)
        _check_last(self.last)
        if self.shortest > self.hold:
            raise ValueError(f"shortest must be at most hold = {self.hold}, found {self.shortest}.")
        if self.rate is not None and not (math.isfinite(self.rate) and self.rate >= 0):
            raise ValueError(f"rate must be None (linear law) or a finite number >= 0, found {self.rate!r}.")
        if not isinstance(self.threshold, int) or self.threshold < 0:
            raise ValueError(f"threshold must be a whole number >= 0, found {self.threshold!r}.")

    def interval(self, start: int, steps: int) -> int:
        """Iterations spent at `start`, within shortest .. hold."""
        if self.rate is not None:
            return max(self.shortest, math.ceil(self.hold * math.exp(-self.rate * max(0, start - self.threshold))))
        way = start / max(steps - 2, 1)
        return max(self.shortest, math.floor(self.hold * (1 - way) + self.shortest * way))

    def at(self, iteration: int, steps: int) -> range:
        """Trained steps. Raises ``ValueError`` where the window does not fit."""
        starts = _starts(self.stride, _last_start(self.size, steps, self.last))
        start = _visit(iteration, starts, [self.interval(start, steps) for start in starts], self.wrap)
        return range(start, start + self.size)

    def reach(self, steps: int) -> range:
        """From the first step to the end of the last window."""
        return range(_last_start(self.size, steps, self.last) + self.size)


def coverage(window: Window, iterations: int, steps: int) -> list[int]:
    """How many of the first `iterations` iterations train each of the `steps` steps; a list of length `steps`."""
    counts = [0] * steps
    for iteration in range(iterations):
        for step in window.at(iteration, steps):
            counts[step] += 1
    return counts


def _last_start(size: int, steps: int, last: int | None) -> int:
    """Largest start of a window of `size` in `steps`, which leaves out the last step, capped by `last`."""
    if size > steps - 1:
        raise ValueError(
            f"A window of {size} steps does not fit {steps} sampling steps: the last step is never trained, so the "
            f"size must be at most {steps - 1}; lower the window size or take at least {size + 1} steps."
        )
    furthest = steps - 1 - size
    return furthest if last is None else min(furthest, last)


def _starts(stride: int, last_start: int) -> list[int]:
    """0, stride, 2 stride, ... and `last_start`."""
    return [*range(0, last_start, stride), last_start]


def _visit(iteration: int, starts: list[int], holds: list[int], wrap: bool) -> int:
    """The start that is in force at `iteration`, when starts[k] holds for holds[k] iterations."""
    _check_iteration(iteration)
    left = iteration % sum(holds) if wrap else iteration
    for start, hold in zip(starts, holds, strict=True):
        if left < hold:
            return start
        left -= hold
    return starts[-1]


def _check_iteration(iteration: int) -> None:
    if iteration < 0:
        raise ValueError(f"iteration is counted from 0, found {iteration}.")


def _check_last(last: int | None) -> None:
    if last is not None and (not isinstance(last, int) or last < 0):
        raise ValueError(f"last must be None or a whole number >= 0, found {last!r}.")


def _check_counts(size: int = 1, stride: int = 1, hold: int = 1, shortest: int = 1) -> None:
    for name, value in (("size", size), ("stride", stride), ("hold", hold), ("shortest", shortest)):
        if not isinstance(value, int) or value < 1:
            hint = "; FrozenWindow is the window that does not move" if name == "stride" else ""
            raise ValueError(f"{name} must be a whole number >= 1, found {value!r}{hint}.")
