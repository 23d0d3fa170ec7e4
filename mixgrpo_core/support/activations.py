"""What a network holds besides its weights while it computes, counted without memory and without computing.

The real forward and backward pass run on tensors that have a shape and a type and no numbers (torch's ``FakeTensor``,
as ``torch.compile`` uses it), and the bytes that live at once are counted. Blocks that are alike keep alike, so a deep
network is counted with two of each kind, and with three of one kind for what one more block keeps until its backward
pass. What comes on top during the backward pass is taken as that of the short network: exact where the block that
holds most is of the last kind, else a little too much.

Counted on the CPU: fused attention as PyTorch's, and its types. What a GPU's libraries take as workspace is not in it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import Parameter

from .live_bytes import LiveBytes

_COUNTED = 2
"""Blocks of a kind in the shortest network that is counted."""


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Bytes of one call by its number of images.

    Attributes:
        fixed: for any number of images: tables, gradients of the LoRA.
        per_image: for each image; with guidance an image is two rows of the network.
    """

    fixed: int
    per_image: int

    def of(self, images: int) -> int:
        """Bytes of a call with ``images`` images."""
        return self.fixed + images * self.per_image


@dataclass(frozen=True, kw_only=True)
class PassMemory:
    """What one call holds besides the weights: without a gradient, and with its backward pass."""

    sampling: Activations
    training: Activations


def count(
    network: nn.Module,
    call: Callable[[int], Tensor],
    *,
    trained: Collection[Tensor] = (),
    dtype: torch.dtype | None = None,
) -> Activations:
    """The most that lives at once in ``call(images)``, which runs ``network``; and in the backward pass of its result.

    Tensors that ``call`` makes are on the CPU and without memory.

    Args:
        trained: what a backward pass gives gradients to; without it there is none.
        dtype: of the weights, where it is another one than they are kept in.

    Raises:
        What ``call`` raises: a network that looks at numbers to decide what it does cannot be counted.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), stand_ins(network, dtype, keep=trained):
        calls = [partial(_call, call, images, trained) for images in (1, 2)]
        one, two = (_at_full_depth(network, call, backward=bool(trained)) for call in calls)
    per_image = max(0, two - one)
    return Activations(fixed=max(0, one - per_image), per_image=per_image)


@dataclass(frozen=True)
class _Held:
    """What a call holds when its forward pass is over, and the most that it ever holds."""

    forward: int
    peak: int


def _call(call: Callable[[int], Tensor], images: int, trained: Collection[Tensor], *, backward: bool) -> _Held:
    with torch.set_grad_enabled(bool(trained)), LiveBytes() as live:
        result = call(images)
        forward = live.now
        if backward:
            result.float().square().mean().backward()
    for tensor in trained:
        tensor.grad = None
    return _Held(forward, live.peak)


@contextmanager
def stand_ins(network: nn.Module, dtype: torch.dtype | None = None, keep: Iterable[Tensor] = ()) -> Iterator[None]:
    """Inside, the parameters and buffers of ``network`` are new ones on the CPU, and take no gradient; to be entered in
    a fake mode.

    Args:
        dtype: of those that hold fractions; None leaves theirs.
        keep: tensors that stay.
    """
    stay = {id(tensor) for tensor in keep}
    before: list[tuple[dict[str, Any], dict[str, Any]]] = []
    try:
        for module in network.modules():
            held: tuple[dict[str, Any], dict[str, Any]] = (module._parameters, module._buffers)
            for own in held:
                before.append((own, dict(own)))
                for name, tensor in own.items():
                    if tensor is not None and id(tensor) not in stay:
                        own[name] = _stand_in(tensor, dtype)
        yield
    finally:
        for own, tensors in before:
            own.update(tensors)


def _stand_in(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    shape = getattr(tensor, "quant_shape", tensor.shape)  # of a weight that is packed into bytes, what it stands for
    fresh = torch.empty(shape, dtype=dtype if dtype and tensor.is_floating_point() else tensor.dtype)
    return Parameter(fresh, requires_grad=False) if isinstance(tensor, Parameter) else fresh


class _Call(Protocol):
    def __call__(self, *, backward: bool) -> _Held: ...


def _at_full_depth(network: nn.Module, call: _Call, *, backward: bool) -> int:
    """The peak of a call of the whole network, from calls of shorter ones. What no backward pass wants is not kept."""
    lists = [child for child in network.children() if isinstance(child, nn.ModuleList)]
    kinds = {blocks: [_kind(block) for block in blocks.children()] for blocks in lists}
    with _short(kinds, None):
        short = call(backward=backward)
    total = short.peak
    if not backward:
        return total
    for blocks, listed in kinds.items():
        for kind, number in Counter(listed).items():
            if number > _COUNTED:
                with _short(kinds, (blocks, kind)):
                    total += (number - _COUNTED) * (call(backward=False).forward - short.forward)
    return total


def _kind(block: nn.Module) -> tuple[Any, ...]:
    return (type(block), *((name, tensor.shape, tensor.dtype) for name, tensor in block.named_parameters()))


@contextmanager
def _short(
    kinds: Mapping[nn.ModuleList, Sequence[tuple[Any, ...]]], more: tuple[nn.ModuleList, tuple[Any, ...]] | None
) -> Iterator[None]:
    """Inside, the lists hold the first blocks of each kind only, and one more of ``more``."""
    whole = {blocks: dict(blocks.named_children()) for blocks in kinds}
    try:
        for blocks, listed in kinds.items():
            seen: Counter[tuple[Any, ...]] = Counter()
            kept: list[nn.Module] = []
            for block, kind in zip(whole[blocks].values(), listed, strict=True):
                seen[kind] += 1
                if seen[kind] <= _COUNTED + (more == (blocks, kind)):
                    kept.append(block)
            blocks._modules.clear()
            blocks._modules.update({str(place): block for place, block in enumerate(kept)})
        yield
    finally:
        for blocks, modules in whole.items():
            blocks._modules.clear()
            blocks._modules.update(modules)
