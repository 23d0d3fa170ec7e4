"""A diffusers pipeline as a velocity field: its own ``__call__`` is asked for one step, for a decoding, for a grid.

    velocity(x, sigma)    the call with one level; ``prepare_latents`` hands out x, ``Probe.step`` keeps the velocity
    decode(x)             the call without a level, up to the image that the processor is given
    grid(steps)           the levels that the pipeline asks its scheduler for

So guidance, sign, timestep scale, packing, position ids and masks are the pipeline's, and x is what its own loop holds
(packed where it packs).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...support.queued import sent
from ..pictures import within_0_to_1
from .arguments import Asked
from .interior import PICTURES, Interior


class PipelineField:
    """A pipeline without text encoders, at one size of images.

    Attributes:
        size: ``(H, W)`` that the pipeline makes, which need not be what was asked for.
        latent_shape: of one latent.

    Args:
        inside: the pipeline; fields of several sizes share it.
        embeds: arguments of one row, to ask where the text does not matter.
        asked: further arguments of every call.
    """

    def __init__(self, inside: Interior, embeds: Mapping[str, object], asked: Asked) -> None:
        self._inside, self._embeds, self._asked = inside, embeds, asked
        self._told = inside.told({"num_inference_steps": 1, **asked.named, **embeds}, asked.area)
        found = self.noise(0, 1)
        self.size: tuple[int, int] = (int(self._told["height"]), int(self._told["width"]))
        self.latent_shape = tuple(found.shape[1:])

    def within(self, inside: Interior) -> "PipelineField":
        """The same field of another interior over the same networks."""
        return PipelineField(inside, self._embeds, self._asked)

    def noise(self, seed: int, count: int) -> Tensor:
        """What the pipeline starts from, ``[count, *L]`` in float32: numbers of the CPU, packed there."""
        told = {name: None if name in PICTURES else value for name, value in self._told.items()}
        if "device" in told and not any(isinstance(value, Tensor) for value in told.values()):
            told["device"] = torch.device("cpu")  # where its numbers come from: to place them would wait for a GPU
        made = self._inside.drawn(told, count, seed)
        drawn: Tensor = made[0] if isinstance(made, tuple) else made
        return sent(drawn, self._inside.device)

    def velocity(self, x: Tensor, sigma: Tensor, embeds: Mapping[str, object]) -> Tensor:
        """``v [B, *L]`` of ``x``, float32, at the level ``sigma``; ``embeds`` are of B rows."""
        self._ask(sigma, x, embeds)
        return self._inside.probe.take().float()

    def grid(self, steps: int) -> Tensor:
        """The sigmas ``[steps + 1]`` that the pipeline samples on, float32 on the CPU."""
        self._ask(None, self.noise(0, 1), {**self._embeds, "num_inference_steps": steps})
        return self._inside.probe.take().float().cpu()

    def decode(self, x: Tensor, embeds: Mapping[str, object]) -> Tensor:
        """Images ``[B, H, W, 3]`` in 0..1, or ``[B, F, H, W, 3]`` of a video; cut off so that a gradient leads back."""
        made = self._ask(torch.ones(0), x, embeds, "pt")
        image = self._inside.image()
        if image is not None:
            return _pictures(within_0_to_1(image.float().movedim(1, -1) / 2 + 0.5))
        found: Tensor = made[0] if isinstance(made, tuple) else made
        return _pictures(found.float().movedim(-3, -1))

    def _ask(self, level: Tensor | None, x: Tensor, embeds: Mapping[str, object], output: str = "latent") -> Any:
        named = {"num_inference_steps": 1, **self._asked.named, **embeds}
        return self._inside.ask(level, x, named, output, self._asked.area)


def _pictures(images: Tensor) -> Tensor:
    """A video of one frame is a picture."""
    return images[:, 0] if images.ndim == 5 and images.shape[1] == 1 else images
