"""A network that is called by a pipeline: in what precision, how often, and with what."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, wraps
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from ...support.digests import plain_parts, sampled_digest
from ...support.ranks import Ranks
from .peft_lora import ADAPTER, PeftLora
from .repeated import repeated_blocks
from .shards import Shards

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

    @cached_property
    def digest(self) -> str:
        """What tells its weights from others; the LoRA's are none of them."""
        weights = self.network.named_parameters()
        return sampled_digest(
            part for name, weight in weights if f".{ADAPTER}." not in f"{name}." for part in plain_parts(name, weight)
        )

    def in_shards(self, lora: PeftLora, ranks: Ranks) -> Shards | None:
        """The network with a part of its blocks on each of several ranks; None where there is one. See `Shards`."""
        if ranks.size == 1:
            return None
        _ = self.digest  # which wants all weights
        blocks = list(repeated_blocks(self.network, lora).values())
        return Shards(self.network, blocks, lora.trained.values(), ranks, self._device)

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
