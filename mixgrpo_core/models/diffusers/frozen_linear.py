"""Frozen linear layers whose weight is remade in the backward pass, so that no copy in full precision waits for it.

forward   y = W x + b     with W made of the few bits that are kept
backward  dL/dx = W^T dL/dy     with W made anew
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers.hooks.layerwise_casting import DEFAULT_SKIP_MODULES_PATTERN
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor
from torch.nn import Linear, Parameter
from torch.nn.functional import linear

_KEPT = torch.float8_e4m3fn
Remade = Callable[..., Tensor]
"""The weight, of the tensors that are kept of it."""


class _Frozen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, compute: Callable[[Tensor], Tensor], remade: Remade, *kept: Tensor) -> Tensor:
        ctx.save_for_backward(*kept)  # not the layer, which may have let go of them by then
        ctx.remade, ctx.given = remade, x.dtype
        return compute(x)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        kept = ctx.saved_tensors
        with torch.autocast(slope.device.type, enabled=False):
            given = (slope @ ctx.remade(*kept).to(slope.dtype)).to(ctx.given)
        return given, None, None, *(None for _ in kept)


def in_few_bits(layer: Linear, compute: torch.dtype, x: Tensor, remade: Remade, *kept: Tensor) -> Tensor:
    """What a linear layer gives in ``compute``, with the weight that ``remade`` makes of what is kept of it."""

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return linear(x, remade(*kept), layer.bias)

    result: Tensor = _Frozen.apply(x.to(compute), forward, remade, *kept)  # type: ignore[no-untyped-call]
    return result


def kept_in_float8(network: ModelMixin, compute: torch.dtype) -> list[Linear]:
    """The layers that `keep_in_float8` rounds: linear ones that compute in ``compute``, but for those that diffusers
    leaves alone in its layerwise casting."""
    left_alone = (*DEFAULT_SKIP_MODULES_PATTERN, *(network._skip_layerwise_casting_patterns or ()))
    return [
        module
        for name, module in network.named_modules()
        if isinstance(module, Linear)
        and module.weight.dtype == compute
        and not any(re.search(pattern, name) for pattern in left_alone)
    ]


def keep_in_float8(network: ModelMixin, compute: torch.dtype) -> None:
    """Round the weights of linear layers to 8 bits; they compute in ``compute`` as before."""
    for layer in kept_in_float8(network, compute):
        layer.weight = Parameter(layer.weight.detach().to(_KEPT), requires_grad=False)
        layer.forward = partial(_in_float8, layer, compute)  # type: ignore[method-assign]


def _in_float8(layer: Linear, compute: torch.dtype, x: Tensor) -> Tensor:
    def remade(kept: Tensor) -> Tensor:
        return kept.to(compute)

    return in_few_bits(layer, compute, x, remade, layer.weight)


def remake_weights(network: ModelMixin) -> None:
    """Have the layers of a quantised network remake their weight in the backward pass, where their library says how."""
    for module in network.modules():
        if isinstance(module, Linear) and (remade := _remade(module)) is not None:
            module.forward = partial(_remaking, module, module.forward, remade)  # type: ignore[method-assign]


def _remaking(layer: Linear, forward: Callable[[Tensor], Tensor], remade: Remade, x: Tensor) -> Tensor:
    result: Tensor = _Frozen.apply(x, forward, remade, layer.weight)  # type: ignore[no-untyped-call]
    return result


def _remade(layer: Linear) -> Remade | None:
    """How the weight is made of what is kept; None where it is plain, or where its library does so itself."""
    if type(layer.weight) is Parameter and layer.weight.is_floating_point():
        return None
    if type(layer).__name__ == "GGUFLinear":
        from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

        return dequantize_gguf_tensor
    if type(layer).__name__ in ("Linear4bit", "Linear8bitLt"):  # bitsandbytes does so itself
        return None
    return _dequantized if hasattr(layer.weight, "dequantize") else None


def _dequantized(kept: Any) -> Tensor:
    made: Tensor = kept.dequantize()
    return made
