"""Gradients through layers whose weights the host streams in: the backward pass asks for them again.

A model that does not fit lies in main memory. For each layer the host copies the weights into a buffer of the device,
which the next layers overwrite, or into memory that it may take back. Autograd would keep such a buffer for the
backward pass and, inside of a recomputation, would not notice that it holds another layer's weights by then.
"""

from collections.abc import Callable
from typing import Any

import torch
from comfy.patcher_extension import PatcherInjection
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class _AskedAgain(torch.autograd.Function):
    """``forward(x)`` that keeps ``x`` and none of the weights; one more ``forward`` in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.layer = forward
        ctx.save_for_backward(x)
        return forward(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            again = x.detach().requires_grad_()
            return torch.autograd.grad(ctx.layer(again), again, gradient)[0], None


def streaming_injection(model: nn.Module) -> PatcherInjection:
    """Makes every layer of ``model`` that the host can stream safe to take gradients through.

    To be injected before anything else and ejected after it: it stands closest to the layer.
    """
    layers = [module for module in model.modules() if hasattr(module, "comfy_cast_weights")]
    replaced: dict[nn.Module, Callable | None] = {}

    def inject(_patcher: object) -> None:
        for layer in layers:
            if layer not in replaced:
                replaced[layer] = layer.__dict__.get("forward")
                layer.forward = _guarded(layer, layer.forward)

    def eject(_patcher: object) -> None:
        for layer, forward in replaced.items():
            del layer.forward
            if forward is not None:
                layer.forward = forward
        replaced.clear()

    return PatcherInjection(inject=inject, eject=eject)


def _guarded(layer: nn.Module, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def guarded(*args: object, **options: object) -> Tensor:
        x = args[0] if args else None
        if torch.is_grad_enabled() and isinstance(x, Tensor) and x.requires_grad and _streamed(layer, x):
            return _AskedAgain.apply(x, lambda again: forward(again, *args[1:], **options))
        return forward(*args, **options)

    return guarded


def _streamed(layer: nn.Module, x: Tensor) -> bool:
    """Whether the weights come and go: the host's dynamic memory (``_v``), or they lie on another device than ``x``."""
    weight = getattr(layer, "weight", None)
    return hasattr(layer, "_v") or (weight is not None and weight.device != x.device)
