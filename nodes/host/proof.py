"""What is proven of a MODEL before a run, where the headless package proves a pipeline: velocity and gradient.

At a small size, for what is wrong with a gradient is wrong at every one, and once for a MODEL and a LoRA's settings
while ComfyUI runs. Where the host's own arithmetic rounds the activations of each layer (fast float8, nvfp4), the
velocity is a staircase: it has no slope that differences could find, and the gradient is meant to be that of the
unrounded model (``tests/host/test_quantised.py``). All else is proven of such a MODEL too.
"""

import logging
from collections.abc import Hashable, Sequence

import comfy.ops
import torch
from comfy.quant_ops import QuantizedTensor
from torch import nn

from ...mixgrpo_core.models.port import Velocity
from ...mixgrpo_core.models.proof import Proof
from ...mixgrpo_core.support.sized import Size
from .float16_range import compute_dtype
from .model import HostModel

_log = logging.getLogger(__name__)
_SIDE = 256
"""Pixels; larger images are proven at about this size."""
_proven: set[Hashable] = set()


def prove(model: HostModel, prompts: Sequence[str]) -> None:
    """Raise ``ValueError``, in one sentence, where ``model`` fails; its LoRA and its count are as before.

    Args:
        prompts: of the run; the first one is asked with, and the first that has other words.
    """
    first = str(prompts[0])
    two = [prompts[0], *[prompt for prompt in prompts if str(prompt) != first][:1]]
    about = _about(model, len(two))
    if about in _proven:
        return
    small, counted = _small(model), model.evaluations
    stairs = rounds_activations(model.patcher.model)

    def proven(velocity: Velocity) -> None:
        proof = Proof(
            model=small,
            name=model.family.name,
            low_precision=compute_dtype(model.patcher) is not torch.float32,
            velocity=velocity,
            x=small.noise(0, 1),
            prompts=len(two),
        )
        if stairs:
            proof.values_and_reach()
        else:
            proof.whole()

    try:
        with torch.inference_mode(False), torch.enable_grad():
            small.run([small.encode(prompt) for prompt in two], proven)
    finally:
        model.count_from(counted)
        for parameter in model.parameters():
            parameter.grad = None
    if stairs:
        _log.info(
            "MixGRPO took the slope of %s on trust: its layers round what they are given, and differences tell nothing",
            model.family.name,
        )
    _proven.add(about)


def rounds_activations(network: nn.Module) -> bool:
    """Whether layers of ``network`` compute in the host's fast arithmetic for quantised weights."""
    return any(_rounds(layer) for layer in network.modules())


def _rounds(layer: nn.Module) -> bool:
    weight = getattr(layer, "weight", None)
    if isinstance(weight, QuantizedTensor):
        return not getattr(layer, "_full_precision_mm", True)
    return isinstance(layer, comfy.ops.fp8_ops.Linear) and getattr(weight, "dtype", None) is torch.float8_e4m3fn


def _about(model: HostModel, prompts: int) -> Hashable:
    """What a proof is of."""
    shapes = tuple((name, tuple(tensor.shape)) for name, tensor in model.lora_state().items())
    settings = (model.checkpointing, model.cfg, model.guidance, model.lora.scale, prompts)
    return (model.digest, str(compute_dtype(model.patcher)), str(model.device), shapes, settings)


def _small(model: HostModel) -> HostModel:
    """The model at a small size of about its own shape, if it makes such images."""
    unit = model.family.pixels * model.family.patch
    longest = max(model.resolution)
    if longest <= _SIDE:
        return model
    height, width = (max(unit, round(side * _SIDE / longest / unit) * unit) for side in model.resolution)
    size: Size = (height, width)
    try:
        return model.at(size)
    except ValueError:
        return model
