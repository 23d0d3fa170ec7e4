"""Figures of the finished parts: how clean drawings come back, how clean and how obedient samples are."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import AutoencoderTiny, SD3Transformer2DModel
from torch import Tensor

from mixgrpo_core.models.families.caption_encoder import CaptionEncoder
from mixgrpo_core.rewards.shapes import is_clean
from mixgrpo_core.shapes.captions import COLOURS, SHAPES, Caption
from mixgrpo_core.shapes.detector import detect

from .autoencoder import decode, encode_all
from .data import to_batch

STEPS, SHIFT = 25, 3.0


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Shares of the images, 0..1."""

    clean: float
    adherence: float
    colour: float
    shape: float


def schedule(steps: int = STEPS, shift: float = SHIFT) -> Tensor:
    """steps + 1 noise levels from 1 to 0: shift * u / (1 + (shift - 1) * u) with u evenly spaced."""
    u = torch.linspace(1, 0, steps + 1)
    return shift * u / (1 + (shift - 1) * u)


@torch.no_grad()
def sample(
    transformer: SD3Transformer2DModel, encoder: CaptionEncoder, captions: Sequence[str], generator: torch.Generator
) -> Tensor:
    """Latents (n, 16, 8, 8) by plain Euler steps along dx/dsigma = v."""
    latents = torch.randn(len(captions), 16, 8, 8, generator=generator)
    tokens, pooled = encoder(captions)
    sigmas = schedule()
    for sigma, sigma_next in itertools.pairwise(sigmas):
        timestep = (sigma * 1000).expand(len(captions))
        velocity = transformer(latents, tokens, pooled, timestep, return_dict=False)[0]
        latents = latents + (sigma_next - sigma) * velocity
    return latents


@torch.no_grad()
def to_images(model: AutoencoderTiny, latents: Tensor, batch: int = 64) -> Tensor:
    """Images (n, 64, 64, 3) in 0..1."""
    parts = [decode(model, part.contiguous(memory_format=torch.channels_last)) for part in latents.split(batch)]
    return torch.cat(parts).clamp(0, 1).permute(0, 2, 3, 1)


def figures(images: Tensor, captions: Sequence[Caption]) -> Figures:
    found = detect(images)
    colour = found.colour == torch.tensor([COLOURS.index(caption.colour) for caption in captions])
    shape = found.shape == torch.tensor([SHAPES.index(caption.shape) for caption in captions])
    return Figures(
        clean=share(is_clean(found)), adherence=share(colour & shape), colour=share(colour), shape=share(shape)
    )


def share(flags: Tensor) -> float:
    return round(flags.float().mean().item(), 4)


@torch.no_grad()
def reconstruction(model: AutoencoderTiny, drawings: Tensor, captions: Sequence[Caption]) -> dict[str, float]:
    """Encode and decode uint8 drawings: peak signal-to-noise ratio in dB and the shares of `figures`."""
    images = to_images(model, encode_all(model, drawings))
    error = (images.permute(0, 3, 1, 2) - to_batch(drawings)).square().mean((1, 2, 3))
    found = figures(images, captions)
    spread = detect(images).spread
    return {
        "psnr": round((-10 * error.log10()).mean().item(), 2),
        "clean": found.clean,
        "adherence": found.adherence,
        "spread": round(spread.mean().item(), 4),
    }
