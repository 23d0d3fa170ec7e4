"""Frozen weights in 4 bits by bitsandbytes: the 16 levels of nf4, and a scale for each 64 weights.

bitsandbytes quantises on a GPU and on a processor alike. Diffusers' way to it asks for a GPU, and quantises what it
reads before LoRAs can be merged; and on some processors the layers of bitsandbytes repack their weights where no
gradient is wanted, after which there is none. So the layers stay as they are here, and keep other numbers.
"""

from functools import partial
from typing import cast

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor
from torch.nn import Linear, Parameter

from .frozen_linear import in_few_bits

BLOCK = 64
_KIND = "nf4"


def kept_in_nf4(network: ModelMixin, compute: torch.dtype) -> list[Linear]:
    """The layers that `keep_in_nf4` quantises: all linear ones that compute in ``compute``."""
    return [module for module in network.modules() if isinstance(module, Linear) and module.weight.dtype == compute]


def keep_in_nf4(network: ModelMixin, compute: torch.dtype, device: torch.device) -> None:
    """Quantise the weights of linear layers, each on ``device``; they stay where they are."""
    from bitsandbytes.functional import quantize_4bit

    for layer in kept_in_nf4(network, compute):
        weight = layer.weight.detach()
        kept, state = quantize_4bit(weight.to(device).contiguous(), blocksize=BLOCK, quant_type=_KIND)
        layer.weight = Parameter(kept.to(weight.device), requires_grad=False)
        layer.scales = Parameter(state.absmax.to(weight.device), requires_grad=False)
        layer.forward = partial(_in_nf4, layer, compute, weight.shape)  # type: ignore[method-assign]


def _in_nf4(layer: Linear, compute: torch.dtype, shape: torch.Size, x: Tensor) -> Tensor:
    from bitsandbytes.functional import QuantState, dequantize_4bit

    def remade(kept: Tensor, scales: Tensor) -> Tensor:
        state = QuantState(absmax=scales, shape=shape, blocksize=BLOCK, quant_type=_KIND, dtype=compute)
        made: Tensor = dequantize_4bit(kept, state)
        return made

    return in_few_bits(layer, compute, x, remade, layer.weight, cast(Tensor, layer.scales))
