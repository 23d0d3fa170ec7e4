"""What a network of the host holds while it computes, counted before anything is loaded."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import comfy.sampler_helpers
import comfy.samplers
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.model_base import BaseModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ...mixgrpo_core.support.activations import PassMemory, count
from .bypass_lora import ATTENTION, HostLora
from .gradients import block_checkpointing, trainable
from .texts import Conditioning

_OF_THE_CALL = ("weight_function", "bias_function")
"""What the host does to the weights of a layer at each call."""


def host_pass_memory(
    patcher: ModelPatcher,
    lora: HostLora,
    latent: Sequence[int],
    inputs: Callable[[int], Mapping[str, Any]],
    *,
    rows: int,
    checkpointing: bool,
) -> PassMemory:
    """Bytes besides the weights of one call, by its images: the network with ``lora`` on and fused attention.

    Args:
        patcher: the clone that the LoRA is attached to.
        latent: shape of one latent.
        inputs: what is passed besides latents and time, for so many rows.
        rows: of the network for each image; guidance makes it two.

    Raises:
        What a network raises that looks at numbers to decide what it does.
    """
    base: BaseModel = patcher.model

    def velocity(images: int) -> Tensor:
        given = tree_map_only(Tensor, _without_memory, dict(inputs(images * rows)))
        sigma = torch.full((images * rows,), 0.5)
        options = {ATTENTION: _fused, "cond_or_uncond": [*range(rows)], "sigmas": sigma}
        return base.apply_model(torch.zeros(images * rows, *latent), sigma, transformer_options=options, **given)

    network, compute = base.diffusion_model, base.get_dtype_inference()
    with torch.inference_mode(False), _injected(patcher), _at_rest(network), lora.imitated():
        with trainable(nn.Module(), grad=False):
            sampling = count(network, velocity, dtype=compute)
        blocks = block_checkpointing(network, lora) if checkpointing else nullcontext()
        with trainable(nn.Module()), blocks:
            training = count(network, velocity, trained=[*lora.trained.values()], dtype=compute)
    return PassMemory(sampling=sampling, training=training)


def inputs_of(
    base: BaseModel, latent: Sequence[int], conds: Sequence[Conditioning]
) -> Callable[[int], Mapping[str, Any]]:
    """What the host gives the network besides latents and time: so many rows of the conditioning with most tokens."""
    longest = max(conds, key=lambda cond: cond[0][0].numel())
    with torch.inference_mode(False), torch.no_grad():
        converted = comfy.sampler_helpers.convert_cond(longest)[:1]
        encoded = comfy.samplers.encode_model_conds(
            base.extra_conds, converted, torch.zeros(1, *latent), torch.device("cpu"), "positive"
        )
    kept = encoded[0]["model_conds"]
    return lambda rows: {name: cond.process_cond(batch_size=rows, area=None).cond for name, cond in kept.items()}


def _without_memory(real: Tensor) -> Tensor:
    """To be called where the memory of tensors is made up."""
    return torch.zeros(real.shape, dtype=real.dtype)


def _fused(_own: Callable[..., Tensor], *args: object, **options: object) -> Tensor:
    return attention_pytorch(*args, **options)


@contextmanager
def _injected(patcher: ModelPatcher) -> Iterator[None]:
    before = patcher.is_injected
    patcher.inject_model()
    try:
        yield
    finally:
        if not before:
            patcher.eject_model()


@contextmanager
def _at_rest(network: nn.Module) -> Iterator[None]:
    """Inside, the layers know nothing of weights that come and go, nor of patches that are laid on at each call."""
    before: list[tuple[dict[str, Any], Mapping[str, Any]]] = []
    try:
        for module in network.modules():
            own = module.__dict__
            before.append((own, {name: own[name] for name in ("_v", *_OF_THE_CALL) if name in own}))
            own.pop("_v", None)
            own.update({name: [] for name in _OF_THE_CALL if name in own})
        yield
    finally:
        for own, kept in before:
            own.update(kept)
