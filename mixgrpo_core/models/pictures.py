"""What models share of pictures: values cut off at 0 and 1, and maps over images as maps over latents."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class _Clamped(torch.autograd.Function):
    """Forward a clamp to 0..1; backward, where a value was cut off, only a gradient that points back inside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,), (gradient,) = ctx.saved_tensors, gradients
        outward = ((x < 0) & (gradient > 0)) | ((x > 1) & (gradient < 0))  # descent moves against the gradient
        return gradient.masked_fill(outward, 0)


def within_0_to_1(images: Tensor) -> Tensor:
    """``images`` cut off at 0 and 1; what was cut off keeps a gradient whose descent leads back inside."""
    if not images.requires_grad:
        return images.clamp(0, 1)
    clamped: Tensor = _Clamped.apply(images)  # type: ignore[no-untyped-call]  # of torch
    return clamped


def maps_over_latents(maps: Tensor, latent_shape: tuple[int, ...]) -> Tensor:
    """Maps over images ``[B, H, W]`` as ``[B, 1, .., h, w]`` over latents ``[C, .., h, w]``: means of the pixels."""
    height, width = latent_shape[-2:]
    small = F.adaptive_avg_pool2d(maps[:, None].float(), (height, width))
    return small.reshape(len(maps), *(1,) * (len(latent_shape) - 2), height, width)


def maps_over_tokens(maps: Tensor, tokens: int, size: tuple[int, int]) -> Tensor:
    """Maps over images ``[B, H, W]`` as ``[B, tokens, 1]``: means over the patches of images of ``size``, by rows.

    Videos have as many tokens for each of their frames, and the map is that of every frame.
    """
    for frames in range(1, tokens + 1):
        height = round((tokens / frames * size[0] / size[1]) ** 0.5)
        width = round(height * size[1] / size[0])
        if height * width * frames == tokens and height * size[1] == width * size[0]:
            small = F.adaptive_avg_pool2d(maps[:, None].float(), (height, width)).flatten(1)
            return small.repeat(1, frames)[..., None]
    raise ValueError(f"{tokens} tokens make no grid of images of {size[0]} x {size[1]}")
