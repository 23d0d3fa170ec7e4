"""Gradients through a network that computes in float16: made larger where they enter it, smaller where they leave it.

float16 has nothing between 0 and 6e-8, and the gradient of a mean log-probability is about 1e-8 per element. Each call
of the network has a factor of its own, a power of two that the gradient itself gives when the backward pass comes
there: no state that a resumed run would have to know, and nothing that depends on how large a loss is.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor
from torch.autograd.function import once_differentiable

_LARGEST = 4.0
"""What the largest element comes to lie below: the middle of where tiny networks' gradients are those of float32."""

_FAINT, _PLAIN = 2.0**-27, 2.0**-8
"""The slope that a mean log-probability has, and one that float16 has no trouble with."""


def compute_dtype(patcher: ModelPatcher) -> torch.dtype:
    """The type that the host computes a MODEL in, whether it is loaded or not."""
    cast_to = cast(torch.dtype | None, patcher.get_model_object("manual_cast_dtype"))  # typed for modules alone
    return cast_to or patcher.model.get_dtype()


def ask_for_bfloat16(patcher: ModelPatcher) -> None:
    """Compute in bfloat16 where the host would in float16, and model and device can do both; it has float32's range."""
    can = torch.bfloat16 in patcher.model.model_config.supported_inference_dtypes
    if compute_dtype(patcher) is torch.float16 and can and comfy.model_management.should_use_bf16(patcher.load_device):
        patcher.set_model_compute_dtype(torch.bfloat16)


def lost_when_faint(gradient: Callable[[float], Tensor]) -> float | None:
    """How much of a gradient is lost where the loss is as small as in training, as a share of it; None where it is 0.

    ``gradient`` gives it for a loss whose slope at each element of the velocity is about its argument.
    """
    faint, plain = (gradient(slope) / slope for slope in (_FAINT, _PLAIN))
    return float((faint - plain).norm() / plain.norm()) if bool(plain.any()) else None


class _Call:
    """One call of the network.

    Attributes:
        factor: by which gradients inside are larger, once the backward pass has begun.
    """

    factor: Tensor


class Float16Range:
    """Keeps the gradients of a network in the range of float16."""

    def __init__(self) -> None:
        self._call: _Call | None = None

    def around(self, apply: Callable[..., Tensor], x: Tensor, *rest: object, **options: object) -> Tensor:
        """A wrapper around the host's ``apply_model``: float32 in, float32 out, gradients at both ends."""
        if not torch.is_grad_enabled():
            return apply(x, *rest, **options)
        call = _Call()
        with self._in(call):
            found = apply(_Out.apply(x, x.dtype, call) if x.requires_grad else x, *rest, **options)
        return _In.apply(found, call)

    def cast(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """A trained tensor in the type that the network computes in."""
        return tensor.to(dtype) if self._call is None else _Out.apply(tensor, dtype, self._call)

    def as_now(self) -> AbstractContextManager[None]:
        """A context to be entered later, where the present call of the network is computed again."""
        return self._in(self._call)

    @contextmanager
    def _in(self, call: _Call | None) -> Iterator[None]:
        before, self._call = self._call, call
        try:
            yield
        finally:
            self._call = before


class _In(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, found: Tensor, call: _Call) -> Tensor:
        ctx.call = call
        return found.view_as(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        largest = gradient.abs().amax().clamp_min(2.0**-100)
        ctx.call.factor = torch.exp2(torch.floor(torch.log2(_LARGEST / largest)))
        return gradient * ctx.call.factor, None


class _Out(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, dtype: torch.dtype, call: _Call) -> Tensor:
        ctx.call, ctx.dtype = call, tensor.dtype
        return tensor.to(dtype) if tensor.dtype != dtype else tensor.view_as(tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return (gradient.float() / ctx.call.factor).to(ctx.dtype), None, None
