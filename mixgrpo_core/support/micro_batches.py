"""Lack of memory: recognised, and answered with smaller batches."""

from collections.abc import Callable

import torch
from torch import Tensor


def ran_out(error: BaseException) -> bool:
    """Whether ``error`` is an accelerator's or the machine's lack of memory (every backend words it its own way)."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    words = str(error).lower()  # but not those of our own errors, which may quote a reward's
    return type(error) is RuntimeError and ("out of memory" in words or "allocate memory" in words)


class MicroBatches:
    """Applies a function to a few rows at a time; fewer from then on when memory runs out.

    Attributes:
        size: rows of one call, at least 1.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"expected batches of at least 1 row, found {size}")
        self.size = size

    def map(self, function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """``function`` of all ``rows [B, ...]``, whose results ``[n, ...]`` are joined.

        Raises:
            The error of missing memory, when one row alone does not fit.
        """
        done: list[Tensor] = []
        start = 0
        while start < len(rows):
            try:
                done.append(function(rows[start : start + self.size]))
            except Exception as error:
                if not ran_out(error) or self.size == 1:
                    raise
                self.size = max(1, min(self.size, len(rows) - start) // 2)
                failed = True
            else:
                start += len(done[-1])
                failed = False
            if failed and torch.cuda.is_available():  # outside of the handler, which holds the failed call's tensors
                torch.cuda.empty_cache()
        return torch.cat(done)
