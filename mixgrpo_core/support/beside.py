"""Tensors that are computed in a thread, beside what its caller computes: on a GPU in a stream of their own."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from .aside import Aside, Task

Made: TypeAlias = tuple[Tensor | None, ...]


class _Marked(NamedTuple):
    """What was made, and when the GPU has it; None elsewhere."""

    made: Made
    there: torch.cuda.Event | None


Begun: TypeAlias = Task[_Marked]


class Beside:
    """Computes on a device beside the caller, one piece after another; a context, which ends what is left, and may be
    entered again: memory that a GPU's stream has had is kept for that stream.

    Gradients, autocast and the GPU's stream are a thread's own: a piece of work sets what it needs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._worker, self._begun = device, Aside(), list[Begun]()
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def begin(self, work: Callable[[Tensor], Made], given: Tensor) -> Begun:
        """Ask for ``work(given)``, where ``given`` is what the caller's own stream makes of it."""
        here = None if self._stream is None else torch.cuda.current_stream(self._device).record_event()
        piece = self._worker.do(partial(self._done, work, given, here))
        self._begun.append(piece)
        return piece

    def take(self, piece: Begun) -> Made:
        """What was made, for the caller's own stream; waits for it, and raises what the work raised."""
        made, there = piece.result()
        self._begun.remove(piece)
        if there is not None:
            now = torch.cuda.current_stream(self._device)
            now.wait_event(there)
            for tensor in made:
                if tensor is not None:  # its memory is the other stream's: not to be had again before this one is done
                    tensor.record_stream(now)
        return made

    def look(self) -> None:
        """Raise what a piece of work has raised meanwhile."""
        for piece in self._begun:
            if piece.failed:
                piece.result()

    def _done(self, work: Callable[[Tensor], Made], given: Tensor, here: torch.cuda.Event | None) -> _Marked:
        """In the thread."""
        if self._stream is None or here is None:
            return _Marked(work(given), None)
        with torch.cuda.stream(self._stream):  # which makes its device the thread's, too
            self._stream.wait_event(here)
            given.record_stream(self._stream)
            return _Marked(work(given), self._stream.record_event())

    def __enter__(self) -> "Beside":
        self._worker, self._begun = Aside(), []
        return self

    def __exit__(self, *exception: object) -> None:
        """Its memory is free again when this returns."""
        self._worker.end()
