"""Gradients through layers whose weights the host makes for one call: the backward pass asks for them again.

A model that does not fit lies in main memory. For each layer the host copies the weights into a buffer of the device,
which the next layers overwrite, or into memory that it may take back; weights of another type it casts. Autograd would
keep such weights for the backward pass: those of every layer at once, and where they lie in a buffer it would not
notice, inside of a recomputation, that another layer's are in it by then.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.ops
import torch
from comfy.patcher_extension import PatcherInjection
from comfy.quant_ops import QuantizedTensor
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

Forward = Callable[[Tensor], Tensor]


class _Affine(torch.autograd.Function):
    """``forward(x)`` of a layer ``x W + b``; keeps neither ``x`` nor ``W``, for its gradient is the same at every x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Forward) -> Tensor:
        ctx.layer, ctx.like = forward, (x.shape, x.dtype, x.device)
        return forward(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        shape, dtype, device = ctx.like
        with torch.enable_grad():
            x = torch.zeros((), dtype=dtype, device=device).expand(shape).requires_grad_()
            with _Transposed(gradient) as transposed:
                y = ctx.layer(x)
            if not transposed.made(y):  # a layer that does more than multiply, or multiplies in a way of its own
                y = ctx.layer(x)
            return torch.autograd.grad(y, x, gradient)[0], None


class _Transposed(TorchFunctionMode):
    """Inside, ``linear`` multiplies the gradient of its result by its weight, while the weight is there.

    What it returns has the shape of its result and no values.
    """

    def __init__(self, gradient: Tensor) -> None:
        super().__init__()
        self._gradient = gradient
        self._made: Tensor | None = None

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        if func is not torch.nn.functional.linear:
            return func(*args, **(kwargs or {}))
        x, weight = args[:2]
        self._made = self._gradient.new_zeros(()).expand(*x.shape[:-1], weight.shape[0])
        if not x.requires_grad:  # inside of a function of the host's that has a backward pass of its own
            return self._made
        written_out = weight.dequantize() if isinstance(weight, QuantizedTensor) else weight
        dy = self._gradient.reshape(self._made.shape)
        return _Known.apply(x, dy @ written_out.to(dy.dtype), self._made)

    def made(self, y: Tensor) -> bool:
        """Whether ``y`` is what ``linear`` returned, perhaps in another shape."""
        return self._made is not None and self._made.data_ptr() == y.data_ptr()


class _Known(torch.autograd.Function):
    """``y`` as a function of ``x`` whose gradient is known to be ``dx``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dx: Tensor, y: Tensor) -> Tensor:
        ctx.dx = dx.to(x.dtype)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, _gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.dx, None, None


class _AskedAgain(torch.autograd.Function):
    """``forward(x)`` that keeps ``x`` and none of the weights; one more ``forward`` in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Forward) -> Tensor:
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
    """Makes every layer of ``model`` whose weights the host may make anew safe to take gradients through.

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


@contextmanager
def weights_asked_again(model: nn.Module) -> Iterator[None]:
    """Inside, gradients may be taken through ``model``, one that carries no LoRA; the backward pass may come later."""
    injection = streaming_injection(model)
    injection.inject(None)
    try:
        yield
    finally:
        injection.eject(None)


def _guarded(layer: nn.Module, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    kept = _Affine if hasattr(layer, "in_features") else _AskedAgain
    forward = _fast_float8(layer, forward) if isinstance(layer, comfy.ops.fp8_ops.Linear) else forward

    def guarded(*args: object, **options: object) -> Tensor:
        x = args[0] if args else None
        if torch.is_grad_enabled() and isinstance(x, Tensor) and x.requires_grad and _made_for_the_call(layer, x):
            # the rest by a name of its own: what is held here is held until the backward pass, and may not be x
            return kept.apply(x, lambda again, rest=args[1:]: forward(again, *rest, **options))
        return forward(*args, **options)

    return guarded


def _fast_float8(layer: nn.Module, forward: Forward) -> Callable[..., Tensor]:
    """The host's fast float8 clips its input in place and has no gradient; it leaves four dimensions alone."""

    def forwarded(x: Tensor) -> Tensor:
        if layer.weight.dtype != torch.float8_e4m3fn:
            return forward(x)
        return forward(x[None, None])[0, 0] if torch.is_grad_enabled() and x.requires_grad else forward(x.clone())

    return forwarded


def _made_for_the_call(layer: nn.Module, x: Tensor) -> bool:
    """Whether the weights are made for the call: by the host's dynamic memory (``_v``), from another device, by a cast
    or by a patch."""
    weight = getattr(layer, "weight", None)
    if hasattr(layer, "_v"):
        return True
    if weight is None:
        return False
    cast = isinstance(weight, QuantizedTensor) or weight.dtype != x.dtype
    return cast or weight.device != x.device or bool(getattr(layer, "weight_function", ()))
