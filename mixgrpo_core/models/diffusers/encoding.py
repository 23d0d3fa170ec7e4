"""Latents of pictures, by a pipeline's own VAE, as its own decoding takes them back."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from ..pictures import within_0_to_1

Decode = Callable[[Tensor], Tensor]
_TOLERANCE = 0.02
"""Largest mean difference, of 0..1, between what the pipeline decodes and what its VAE alone does."""


class ImageEncoder:
    """A VAE's latents, scaled and shifted, and packed as FLUX.1's where the pipeline packs.

    The first picture is the proof: the pipeline must decode its latents to what the VAE alone makes of them.
    """

    def __init__(self, pipe: DiffusionPipeline, latent_shape: tuple[int, ...]) -> None:
        self._pipe, self._latent_shape = pipe, latent_shape
        self._shift: float | None = None

    def __call__(self, images: Tensor, decode: Decode) -> Tensor:
        """Latents ``[B, *L]`` of images ``[B, H, W, 3]`` in 0..1, which the pipeline would ``decode``.

        Raises ``ValueError`` where the way is not known.
        """
        vae: Any = getattr(self._pipe, "vae", None)
        if vae is None or not hasattr(vae, "encode") or not hasattr(vae.config, "scaling_factor"):
            raise self._unknown()
        x = images.movedim(-1, 1).to(vae.device, vae.dtype) * 2 - 1
        try:
            found = vae.encode(x)
            raw = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latents
            back = vae.decode(raw[:1]).sample
        except (RuntimeError, ValueError, AttributeError) as error:  # a VAE of videos takes no pictures
            raise self._unknown() from error
        if self._shift is None:
            alone = within_0_to_1(back.movedim(1, -1).float() / 2 + 0.5)
            self._shift = self._proven(raw[:1], alone, vae, decode)
        return self._latents(raw, self._shift, vae)

    def _proven(self, raw: Tensor, alone: Tensor, vae: Any, decode: Decode) -> float:
        """The shift by which the pipeline decodes as the VAE does: some do not use the one that the VAE names."""
        for shift in dict.fromkeys((getattr(vae.config, "shift_factor", None) or 0.0, 0.0)):
            decoded = decode(self._latents(raw, shift, vae)).to(alone.device)
            if decoded.shape == alone.shape and float((decoded - alone).abs().mean()) < _TOLERANCE:
                return shift
        raise self._unknown()

    def _latents(self, raw: Tensor, shift: float, vae: Any) -> Tensor:
        latents: Tensor = (raw.float() - shift) * vae.config.scaling_factor
        if tuple(latents.shape[1:]) != self._latent_shape and hasattr(self._pipe, "_pack_latents"):
            try:
                latents = self._pipe._pack_latents(latents, *latents.shape)
            except (TypeError, RuntimeError) as error:
                raise self._unknown() from error
        if tuple(latents.shape[1:]) != self._latent_shape:
            raise self._unknown()
        return latents

    def _unknown(self) -> ValueError:
        return ValueError(
            f"{type(self._pipe).__name__} has no way from pictures to latents that is known here: train on votes of "
            "its own images instead"
        )


class EncodesByVae:
    """The part of a model that makes latents of pictures."""

    _encoder: ImageEncoder
    device: torch.device

    def decode(self, x: Tensor, *, grad: bool = False) -> Tensor:
        """The pipeline's own decoding."""
        raise NotImplementedError

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> Tensor:
        """Images ``[B, H, W, 3]`` in 0..1 of its size as latents ``[B, *L]``: see `EncodesImages`."""
        return self._encoder(images, self.decode).to(self.device)
