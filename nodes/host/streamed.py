"""Weights on loan: layers whose weights ComfyUI streams through buffers that the next layer's weights overwrite.

A model that does not fit on the GPU lives beside it: each layer's weights are copied over, or cast, when the layer is
called. Autograd keeps the frozen weights of a call for the backward pass, and would find another layer's there. So a
call of such a layer keeps its input only, and borrows the weights once more in the backward pass.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Call = Callable[[Tensor], Tensor]


class _Borrowed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, call: Call, x: Tensor) -> Tensor:
        ctx.call = call
        ctx.save_for_backward(x)
        with torch.no_grad():
            return call(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[None, Tensor]:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            (found,) = torch.autograd.grad(ctx.call(x), x, gradient)
        return None, found


def borrowed(call: Call, x: Tensor) -> Tensor:
    """``call(x)``; its weights are not kept for the backward pass but asked for again there."""
    return _Borrowed.apply(call, x) if x.requires_grad and torch.is_grad_enabled() else call(x)


def is_streamed(module: object) -> bool:
    """Whether the host brings the module's weights for each call: from RAM, from its paged memory, or by a cast."""
    return hasattr(module, "_v") or bool(getattr(module, "comfy_cast_weights", False))


@contextmanager
def borrowing(network: nn.Module, apart: Collection[nn.Module]) -> Iterator[None]:
    """Inside, every streamed layer of ``network`` but those in ``apart`` borrows its weights; afterwards none does.

    ``apart`` are the layers that a LoRA lies on: their adapter borrows.
    """
    changed: list[nn.Module] = []
    try:
        for module in network.modules():
            leaf = getattr(module, "weight", None) is not None and not any(True for _ in module.children())
            if leaf and is_streamed(module) and module not in apart and "forward" not in vars(module):
                module.forward = _borrower(module.forward)
                changed.append(module)
        yield
    finally:
        for module in changed:
            del module.forward


def _borrower(forward: Callable) -> Callable:
    def call(x: Tensor, *rest, **options) -> Tensor:
        return borrowed(lambda rows: forward(rows, *rest, **options), x)

    return call
