"""Blocks of a frozen network that wait in main memory and are on the device for their turn only.

A turn is one call of a block: one in a rollout, two in an update, where gradient checkpointing calls it again for its
backward pass. The weights never change, so a turn works on copies, which are dropped and never brought back. What a
backward pass still needs of them it holds itself, and lets go of block by block. The copies for the next turn are made
meanwhile, on a stream of their own where the device has streams. The LoRA stays on the device.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from ...support.digests import plain_parts
from .peft_lora import ADAPTER, PeftLora
from .repeated import AT_ONCE, repeated_blocks, waiting_places

_STUCK = ("Linear4bit", "Linear8bitLt")
"""Layers of a folder that bitsandbytes quantised: their backward pass holds the weights as no tensor that it saves."""


class Offload:
    """Of a network's repeated blocks so many wait in main memory; everything else goes to the device.

    Attributes:
        waiting: bytes of the blocks in main memory.
        in_flight: bytes of the largest of them that are on the device at once.
    """

    def __init__(self, network: nn.Module, lora: PeftLora, count: int, device: torch.device) -> None:
        """Place the network.

        Raises:
            ValueError: more blocks than there are, so few that it saves nothing, or weights that cannot be moved.
        """
        blocks = list(repeated_blocks(network, lora).values())
        chosen = waiting_places(count, len(blocks), type(network).__name__)
        waiting = [blocks[place] for place in chosen]
        _require_movable(waiting)
        self._waiting = [_Waiting(block, device) for block in waiting]
        for one in self._waiting:
            one.put([None] * len(one.at_rest))
        network.to(device)
        for place, one in enumerate(self._waiting):
            one.put(one.at_rest)
            one.block.forward = partial(self._turn, place, one.block.forward)
        self._copies = _Copies(device)
        self._ahead: tuple[int, list[Tensor]] | None = None
        self._last: _Turn | None = None
        self._next: dict[_Turn, int] = {}
        sizes = sorted((one.bytes for one in self._waiting), reverse=True)
        self.waiting, self.in_flight = sum(sizes), sum(sizes[:AT_ONCE])

    def _turn(self, place: int, forward: Callable[..., object], *inputs: object, **named: object) -> object:
        own = self._waiting[place]
        if not own.whole:  # stand-ins without numbers, whose memory is being counted
            return forward(*inputs, **named)
        own.put(self._fetched(place))
        try:
            self._fetch_next(place)
            return forward(*inputs, **named)
        finally:
            own.put(own.at_rest)

    def _fetched(self, place: int) -> list[Tensor]:
        """Copies of a block's weights, which are there when the device comes to what is asked of it next."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == place:
            copies = ahead[1]
        else:
            del ahead  # before there is one more
            copies = self._copies.of(self._waiting[place].at_rest)
        self._copies.join()
        return copies

    def _fetch_next(self, place: int) -> None:
        """Begin with the copies for the turn that followed the last time in the same kind of pass."""
        turn = (place, torch.is_grad_enabled(), torch._C._current_graph_task_id() != -1)
        if self._last is not None:
            self._next[self._last] = place
        self._last = turn
        following = self._next.get(turn)
        if following is not None:
            own = self._waiting[following]
            self._ahead = (following, own.now() if following == place else self._copies.of(own.at_rest))


_Turn = tuple[int, bool, bool]
"""A block's place, whether with a gradient, and whether within a backward pass."""


class _Waiting:
    """A block, and its frozen weights in main memory."""

    def __init__(self, block: nn.Module, device: torch.device) -> None:
        self.block = block
        self._slots: list[tuple[dict[str, Any], str]] = [
            (module._parameters, name)
            for path, module in block.named_modules()
            if ADAPTER not in path.split(".")
            for name, weight in module._parameters.items()
            if weight is not None
        ]
        self.at_rest = [_at_rest(weight, device) for weight in self.now()]
        self.bytes = sum(
            part.numel() * part.element_size() for weight in self.at_rest for _, part in plain_parts("", weight)
        )

    def now(self) -> list[Tensor]:
        """What the layers have."""
        return [own[name] for own, name in self._slots]

    def put(self, weights: Sequence[Tensor | None]) -> None:
        """Give the layers other tensors of the same numbers, or none."""
        for (own, name), weight in zip(self._slots, weights, strict=True):
            own[name] = weight

    @property
    def whole(self) -> bool:
        """Whether the layers have the weights that wait."""
        return all(own[name] is weight for (own, name), weight in zip(self._slots, self.at_rest, strict=True))


class _Copies:
    """Copies on a device, made beside its work."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def of(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Begin with copies; they may be used after `join`."""
        if self._stream is not None:  # what was in their memory may still be read
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        aside = nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
        with torch.inference_mode(False), torch.no_grad(), aside:
            return [self._of(weight) for weight in weights]

    def _of(self, weight: Tensor) -> Tensor:
        if weight.device.type == self._device.type:  # a processor's: nothing is saved, and all else is the same
            return weight.clone()
        return weight.to(self._device, non_blocking=self._stream is not None)

    def join(self) -> None:
        """Have the device's work from here on wait for all copies that were begun."""
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)


def _at_rest(weight: Tensor, device: torch.device) -> Tensor:
    """The weight in main memory, for a GPU in pages that it reads by itself."""
    weight = weight.detach().to("cpu") if weight.device.type != "cpu" else weight
    if device.type != "cuda" or type(weight) not in (Tensor, Parameter):
        return weight
    return Parameter(weight.detach().pin_memory(), requires_grad=False)


def _require_movable(blocks: Sequence[nn.Module]) -> None:
    stuck = {type(module).__name__ for block in blocks for module in block.modules()} & set(_STUCK)
    if stuck:
        raise ValueError(
            f"expected layers that can wait in main memory, found {min(stuck)} of a folder that bitsandbytes "
            "quantised: leave model.offload out, or take the folder's plain weights with a model.quantization"
        )
