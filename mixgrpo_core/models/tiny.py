"""Whether a tiny autoencoder is one of this model: it must decode a picture to what the model's own decodes it to."""

import math

import torch
from torch import Tensor

LEAST = 0.5
"""Correlation of the pixels of both: of another family's latents it is about 0, a tiny one's own is near 1."""


def picture(height: int, width: int) -> Tensor:
    """A picture ``[1, H, W, 3]`` in 0..1 to compare by: a soft background, and coloured discs on it."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    made = torch.stack([0.35 + 0.3 * x, 0.45 + 0.2 * y, 0.6 - 0.3 * x], -1)
    for number, colour in enumerate(_COLOURS):
        angle = math.tau * (number + 0.5) / len(_COLOURS)
        away = torch.hypot(x - 0.5 - 0.27 * math.cos(angle), y - 0.5 - 0.27 * math.sin(angle))
        made = torch.where((away < 0.16)[..., None], torch.tensor(colour), made)
    return made[None]


_COLOURS = ((0.9, 0.15, 0.1), (0.1, 0.75, 0.2), (0.15, 0.2, 0.9), (0.95, 0.9, 0.85))


def require_alike(own: Tensor, tiny: Tensor, name: str) -> None:
    """Raise ``ValueError``, in one sentence, unless two decodings ``[B, H, W, 3]`` of latents show one picture.

    Args:
        name: of the tiny autoencoder, for the sentence.
    """
    if own.shape != tiny.shape:
        raise ValueError(
            f"expected images of {own.shape[2]} x {own.shape[1]} out of the tiny autoencoder {name}, found "
            f"{tiny.shape[2]} x {tiny.shape[1]}: take the one of this model's family"
        )
    found = correlation(own, tiny)
    if not found >= LEAST:
        raise ValueError(
            f"expected the tiny autoencoder {name} to decode a picture as the model's own does, found other pixels (a "
            f"correlation of {found:.2f}, {LEAST} at least): take the one of this model's family, such as taesd3 for "
            "Stable Diffusion 3, taef1 for FLUX.1, taesdxl for SDXL"
        )


def correlation(one: Tensor, other: Tensor) -> float:
    """Of the pixels of two batches of images, each less its mean; 0 where one has no contrast."""
    a, b = (images.double().cpu().flatten() for images in (one, other))
    a, b = a - a.mean(), b - b.mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 0 else 0.0
