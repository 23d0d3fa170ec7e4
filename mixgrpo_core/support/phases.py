"""Seconds and network evaluations by phase, and peak memory: what the reports show is counted here."""

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch

from .device_memory import held_memory

_Mark: TypeAlias = float | torch.cuda.Event


def _mark(device: torch.device) -> _Mark:
    """Now; on a GPU, when it has done what was asked of it so far."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def _seconds(begun: _Mark, ended: _Mark) -> float:
    if isinstance(begun, float):
        assert isinstance(ended, float)
        return ended - begun
    assert not isinstance(ended, float)
    return float(begun.elapsed_time(ended)) / 1000


class PhaseClock:
    """Splits time and network evaluations among phases; an inner phase is not counted in the outer one.

    A GPU's queue (its current stream) is waited for where an outermost phase begins and ends, so that each pays its
    own. Borders inside of it are events in the queue, read at its end: an update enters inner phases for every piece.

    Args:
        evaluations: the model's own counter of rows through the network.
        device: where it computes.

    Attributes:
        most_held: the most bytes that the device held where an outermost phase began or ended, whoever took them.
        seconds: by name, of outermost phases that are over and what was inside of them.
    """

    def __init__(self, evaluations: Callable[[], int], device: torch.device = torch.device("cpu")) -> None:  # noqa: B008
        self._evaluations = evaluations
        self._device = device
        self._open: list[str] = []
        self._last, self._counted = _mark(device), evaluations()
        self._passed: list[tuple[str, _Mark, _Mark]] = []
        self.most_held = held_memory(device)
        self.seconds: dict[str, float] = defaultdict(float)
        self.evaluations: dict[str, int] = defaultdict(int)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        if not self._open:
            self._wait()
        self._border()
        self._open.append(name)
        try:
            yield
        finally:
            self._border()
            self._open.pop()
            if not self._open:
                self._wait()
                self._read()

    def _border(self) -> None:
        now, counted = _mark(self._device), self._evaluations()
        if self._open:
            self._passed.append((self._open[-1], self._last, now))
            self.evaluations[self._open[-1]] += counted - self._counted
        self._last, self._counted = now, counted

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()  # what is decoded beside it goes on
        self.most_held = max(self.most_held, held_memory(self._device))

    def _read(self) -> None:
        for name, begun, ended in self._passed:
            self.seconds[name] += _seconds(begun, ended)
        self._passed.clear()


def peak_memory(device: torch.device, most_held: int = 0) -> int:
    """Peak bytes: of a GPU since ``reset_peak_memory``, or the resident size of the process.

    On a GPU the larger of two counts: what torch took from it at most, and ``most_held``, what it was seen to hold. The
    second knows weights that a host keeps in an allocator of its own; the first, what came and went between two looks.
    0 where the system does not tell (Windows without a GPU).
    """
    if device.type == "cuda":
        return max(torch.cuda.max_memory_reserved(device), most_held)
    if sys.platform == "win32":
        return 0
    import resource  # POSIX only

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak_memory(device: torch.device) -> None:
    """Begin a new peak on a GPU; the peak of a process cannot be begun anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
