"""A network that is called by a pipeline: in what precision, how often, and with what."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

Call = tuple[tuple[Any, ...], Mapping[str, Any]]


class HeardNetwork:
    """A network whose calls run in a precision of their own, give float32, and are counted.

    Attributes:
        evaluations: rows that have gone through it; counting memory and computing again are none.
        calls: the arguments of its calls, while they are wanted; None else.
    """

    def __init__(self, network: ModelMixin, compute: torch.dtype, device: torch.device) -> None:
        self.network, self.evaluations = network, 0
        self.calls: list[Call] | None = None
        self._low, self._device = None if compute == torch.float32 else compute, device
        network.forward = self._heard(network.forward)

    def _heard(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(forward)
        def heard(*args: Any, **kwargs: Any) -> Any:
            self._count(next(iter((*args, *kwargs.values()))))
            if self.calls is not None:
                self.calls.append((args, kwargs))
            low, kind = self._low, self._device.type
            # One region per forward and no cache of cast weights: a cached cast outlives the optimizer's step.
            with torch.autocast(kind, low, enabled=low is not None, cache_enabled=False):
                return _exact(forward(*args, **kwargs))

        return heard

    @contextmanager
    def recording(self) -> Iterator[list[Call]]:
        """Inside, the calls are kept in the list, and none is counted."""
        before, self.calls = self.evaluations, []
        try:
            yield self.calls
        finally:
            self.evaluations, self.calls = before, None

    def _count(self, rows: Tensor | list[Tensor]) -> None:
        if not isinstance(rows[0], FakeTensor):  # whose memory is being counted
            self.evaluations += len(rows)


def _exact(made: Any) -> Any:
    """In float32, so that guidance is mixed there."""
    if isinstance(made, Tensor):
        return made.float()
    return type(made)(_exact(each) for each in made) if isinstance(made, list | tuple) else made
