"""What a pipeline's network holds while it computes, from the calls that a velocity makes of it; its decoder, too."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map

from ...support.activations import PassMemory, count, stand_ins
from ...support.live_bytes import LiveBytes
from .calls import Call
from .checkpointing import Checkpointing
from .peft_lora import PeftLora

_log = logging.getLogger(__name__)
_UNCOUNTABLE = (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError)
"""What is raised of code that looks at numbers where there are only shapes."""


def pass_memory(
    network: ModelMixin,
    lora: PeftLora,
    calls: Callable[[int], Sequence[Call]],
    blocks: Checkpointing,
    *,
    checkpointing: bool,
) -> PassMemory:
    """Bytes besides the weights of a velocity and of its backward pass, by its images.

    Args:
        blocks: of the network, whose LoRA is ``lora``.
        calls: the arguments of the network's calls for a number of images.
        checkpointing: whether blocks are computed again in the backward pass.

    Raises:
        What the network raises where it looks at numbers to decide what it does: it cannot be counted.
    """
    heard = {images: calls(images) for images in (1, 2)}

    def velocity(images: int) -> Tensor:
        made = [network(*_without_numbers(args), **_without_numbers(kwargs)) for args, kwargs in heard[images]]
        return torch.cat([each.flatten() for each in tree_leaves(made)])

    with torch.inference_mode(False), lora.imitated(), blocks.switched(checkpointing):
        return PassMemory(
            sampling=count(network, velocity),
            training=count(network, velocity, trained=lora.trained.values()),
        )


def known_pass_memory(
    name: str,
    network: ModelMixin,
    lora: PeftLora,
    calls: Callable[[int], Sequence[Call]],
    blocks: Checkpointing,
    *,
    checkpointing: bool,
) -> PassMemory | None:
    """The same of a network called ``name``, and None, with a warning, where it cannot be counted."""
    try:
        return pass_memory(network, lora, calls, blocks, checkpointing=checkpointing)
    except _UNCOUNTABLE as error:
        _log.warning("The memory that %s needs cannot be told (%s): batches are as set", name, error)
        return None


def decoding_memory(
    name: str, autoencoder: nn.Module, decode: Callable[[Tensor], Tensor], latents: Sequence[int]
) -> int | None:
    """Bytes besides the weights of the decoding of ``latents [B, *L]``, images included; None, with a warning, where it
    cannot be counted.

    Args:
        name: of the model.
        decode: asks ``autoencoder``.
    """
    try:
        shapes = FakeTensorMode(allow_non_fake_inputs=True)
        with torch.inference_mode(False), torch.no_grad(), shapes, stand_ins(autoencoder), LiveBytes() as live:
            decode(torch.zeros(tuple(latents)))
            found: int = live.peak
        return found
    except _UNCOUNTABLE as error:
        _log.warning("The memory that decoding takes in %s cannot be told (%s): it is not counted", name, error)
        return None


def _without_numbers(told: Any) -> Any:
    return tree_map(lambda each: torch.zeros(each.shape, dtype=each.dtype) if isinstance(each, Tensor) else each, told)
