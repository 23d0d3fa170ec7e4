"""Tiny models with the host's quantised weights, and the same models with those weights written out."""

import json
from dataclasses import replace

import torch
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor
from tiny_models import Tiny, tiny

FORMATS = ("float8_e4m3fn", "float8_e5m2", "nvfp4", "mxfp8", "int8_tensorwise")
SCALED = ("float8_e4m3fn", "float8_e5m2", "nvfp4", "mxfp8")
"""Formats whose weights are quantised with a scale that is worked out."""


def quantised(name: str, form: str) -> tuple[Tiny, Tiny]:
    """A tiny model with all layers of its blocks quantised, and one with the very same weights in float32.

    As on a machine without fast arithmetic for ``form``: the host dequantises weights for each layer. A machine that
    has it quantises activations too.
    """

    def mixed(config: object) -> None:
        config.quant_config = {"mixed_ops": True}
        config.set_inference_dtype(torch.float32, torch.float32)

    written_out, small = tiny(name), tiny(name, change=mixed)
    network = written_out.model.diffusion_model
    state = dict(network.state_dict())
    for path, module in network.named_modules():
        if "blocks." not in path or not isinstance(module, torch.nn.Linear):
            continue
        weight = _quantised(module.weight, form)
        state.pop(f"{path}.weight")
        state.update(weight.state_dict(f"{path}.weight"))
        state[f"{path}.comfy_quant"] = torch.tensor(list(json.dumps({"format": form}).encode()), dtype=torch.uint8)
        module.weight.copy_(weight.dequantize())
    small.model.diffusion_model.load_state_dict(state)
    return replace(small, x=written_out.x, inputs=written_out.inputs), written_out


def _quantised(weight: torch.Tensor, form: str) -> QuantizedTensor:
    options = {"scale": "recalculate"} if form in SCALED else {}
    return QuantizedTensor.from_float(weight.detach(), QUANT_ALGOS[form]["comfy_tensor_layout"], **options)


def quantise_activations(model: Tiny) -> None:
    """As on a machine with fast arithmetic for the format."""
    for module in model.model.modules():
        if hasattr(module, "_full_precision_mm"):
            module._full_precision_mm = False
