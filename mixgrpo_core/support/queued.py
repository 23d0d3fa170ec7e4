"""What goes to a device without waiting for it.

A GPU works behind: what it is asked for is queued. A blocking copy, and a number that is read, wait until the queue is
empty. Pinned memory is copied when the queue comes to it, a slice needs no copy, and a constant is made over there.
"""

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on ``device``; one that is there already is given back."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def index_on(device: torch.device, rows: Tensor) -> Tensor | slice:
    """``rows [n]`` (int64, on the CPU) as the index of a tensor on ``device``: a slice where each follows the last."""
    numbers = rows.tolist()
    if numbers and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return slice(numbers[0], numbers[0] + len(numbers))
    return sent(rows, device)


def scalar_on(device: torch.device, value: Tensor | float, dtype: torch.dtype) -> Tensor:
    """A scalar, as a level of the CPU is, as one on ``device``, shape ``[]``."""
    if isinstance(value, Tensor) and value.device.type != "cpu":
        return value.to(device, dtype).reshape(())
    return torch.full((), float(value), dtype=dtype, device=device)
