"""Seconds and network evaluations by phase, and peak memory: what the reports show is counted here."""

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from .device_memory import held_memory


class PhaseClock:
    """Splits time and network evaluations among phases; an inner phase is not counted in the outer one.

    Args:
        evaluations: the model's own counter of rows through the network.
        device: where it computes; a GPU's queue is waited for at the borders of phases, so that each pays its own.

    Attributes:
        most_held: the most bytes that the device held at a border of phases, whoever took them.
    """

    def __init__(self, evaluations: Callable[[], int], device: torch.device = torch.device("cpu")) -> None:  # noqa: B008
        self._evaluations = evaluations
        self._device = device
        self._open: list[str] = []
        self._mark = (time.perf_counter(), evaluations())
        self.most_held = held_memory(device)
        self.seconds: dict[str, float] = defaultdict(float)
        self.evaluations: dict[str, int] = defaultdict(int)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def _charge(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.most_held = max(self.most_held, held_memory(self._device))
        now = (time.perf_counter(), self._evaluations())
        if self._open:
            self.seconds[self._open[-1]] += now[0] - self._mark[0]
            self.evaluations[self._open[-1]] += now[1] - self._mark[1]
        self._mark = now


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
