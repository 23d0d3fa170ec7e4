"""What an SD3 network holds while it computes: of a loaded one, or of a folder whose weights nobody has read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor

from ...support.activations import PassMemory, count
from ..diffusers.loading import read_json, require_folder
from ..diffusers.peft_lora import PeftLora, attach_lora
from ..diffusers.sizes import latent_shape, pixels_of
from ..lora_file import load_lora

TEXT_TOKENS = 333
"""Of a prompt in an SD3 pipeline: 77 of CLIP's and 256 of T5's."""


def sd3_memory(
    transformer: SD3Transformer2DModel,
    lora: PeftLora,
    latent: tuple[int, ...],
    *,
    rows: int,
    compute: torch.dtype,
    checkpointing: bool,
    text_tokens: int = TEXT_TOKENS,
) -> PassMemory:
    """Bytes besides the weights of a call, by its images.

    Args:
        latent: shape of one latent.
        rows: of the network for each image; guidance makes it two.
        compute: the dtype of autocast; float32 is none.
        checkpointing: whether blocks are computed again in the backward pass.
    """
    config = transformer.config

    def velocity(images: int) -> Tensor:
        many = images * rows
        low = compute != torch.float32
        with torch.autocast("cpu", compute if low else None, enabled=low, cache_enabled=False):
            return transformer(
                hidden_states=torch.zeros(many, *latent),
                timestep=torch.zeros(many),
                encoder_hidden_states=torch.zeros(many, text_tokens, config["joint_attention_dim"]),
                pooled_projections=torch.zeros(many, config["pooled_projection_dim"]),
                return_dict=False,
            )[0].float()

    with torch.inference_mode(False), lora.imitated(), _checkpointed(transformer, lora, checkpointing):
        return PassMemory(
            sampling=count(transformer, velocity),
            training=count(transformer, velocity, trained=lora.trained.values()),
        )


@contextmanager
def _checkpointed(transformer: SD3Transformer2DModel, lora: PeftLora, on: bool) -> Iterator[None]:
    before = transformer.is_gradient_checkpointing
    try:
        checkpoint_blocks(transformer, lora, on)
        yield
    finally:
        checkpoint_blocks(transformer, lora, before)


def checkpoint_blocks(transformer: SD3Transformer2DModel, lora: PeftLora, on: bool) -> None:
    """Have each block compute again in the backward pass what is inside of it, or keep it."""
    if on:
        transformer.enable_gradient_checkpointing(lora.checkpointed)
    else:
        transformer.disable_gradient_checkpointing()


@dataclass(frozen=True, kw_only=True)
class Unloaded:
    """A folder's network that has a shape and no weights.

    Attributes:
        weights: bytes that the network's weights will take.
        lora: bytes of the trained tensors.
    """

    transformer: SD3Transformer2DModel
    adapter: PeftLora
    latent: tuple[int, ...]
    weights: int
    lora: int

    def memory(self, *, rows: int, compute: torch.dtype, checkpointing: bool) -> PassMemory:
        """Bytes besides the weights."""
        return sd3_memory(
            self.transformer, self.adapter, self.latent, rows=rows, compute=compute, checkpointing=checkpointing
        )


def unloaded_sd3(
    folder: str | Path,
    *,
    rank: int | None = None,
    lora: str | Path | None = None,
    resolution: tuple[int, int] | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> Unloaded:
    """The network of a local diffusers folder as ``load_sd3`` would load it, of its configuration alone."""
    folder = Path(folder)
    require_folder(folder, ("transformer", "vae"))
    with torch.device("meta"):
        transformer = SD3Transformer2DModel.from_config(read_json(folder / "transformer" / "config.json")).to(dtype)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in transformer.parameters())
    side = pixels_of(read_json(folder / "vae" / "config.json"))
    file = None if lora is None else load_lora(lora)
    rank = rank or (32 if file is None else file.rank)
    adapter = attach_lora(transformer, rank=rank, alpha=None, seed=0, file=None, default_rank=32)
    return Unloaded(
        transformer=transformer,
        adapter=adapter,
        latent=latent_shape(transformer, side, resolution or (transformer.config["sample_size"] * side,) * 2),
        weights=weights,
        lora=sum(tensor.numel() * tensor.element_size() for tensor in adapter.trained.values()),
    )
