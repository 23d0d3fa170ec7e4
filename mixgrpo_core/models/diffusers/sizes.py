"""How many pixels and latents the networks of an SD3 folder stand for, by their configurations."""

from collections.abc import Mapping
from typing import Any

from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel


def pixels_of(config: Mapping[str, Any]) -> int:
    """How many pixels of a side one latent stands for, by an AutoencoderKL's or an AutoencoderTiny's configuration."""
    tiny = "decoder_block_out_channels"
    made: int = 2 ** (len(config[tiny] if tiny in config else config["block_out_channels"]) - 1)
    return made


def latent_shape(transformer: SD3Transformer2DModel, side: int, resolution: tuple[int, int]) -> tuple[int, int, int]:
    """``[C, h, w]`` of images of ``resolution``, where a latent stands for ``side`` pixels.

    Raises:
        ValueError: the network has no images of that resolution.
    """
    config = transformer.config
    unit, most = side * config["patch_size"], side * config["patch_size"] * config["pos_embed_max_size"]
    if any(length < unit or length % unit or length > most for length in resolution):
        raise ValueError(
            f"expected a height and width that are multiples of {unit} up to {most}, "
            f"found {resolution[0]} x {resolution[1]}"
        )
    return (config["in_channels"], resolution[0] // side, resolution[1] // side)
