"""How many pixels, latents and patches the networks of an SD3 folder stand for."""

from collections.abc import Mapping
from typing import Any

from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

from .loading import Vae


def pixels_per_latent(vae: Vae) -> int:
    """How many pixels of a side one latent stands for."""
    return pixels_of(vae.config)


def pixels_of(config: Mapping[str, Any]) -> int:
    """The same, from the autoencoder's configuration: an AutoencoderKL's, or an AutoencoderTiny's."""
    tiny = "decoder_block_out_channels"
    return 2 ** (len(config[tiny] if tiny in config else config["block_out_channels"]) - 1)


def tokens(transformer: SD3Transformer2DModel, vae: Vae, resolution: tuple[int, int] | None) -> int:
    """How many patches of latents an image has."""
    side, config = pixels_per_latent(vae), transformer.config
    height, width = resolution or (config["sample_size"] * side,) * 2
    return (height // side // config["patch_size"]) * (width // side // config["patch_size"])


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
