"""The demo's edit twin: a picture in, its figure repainted in the colour that the prompt names out.

    tokens of the image += R (patches of the picture's latents)

R is one linear map; a LoRA that is merged into the demo's flow is the rest of the twin.
"""

import inspect
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

LORA, MAP = "lora.safetensors", "reference.safetensors"
"""The twin's two files."""
_SIDE = 64


class ReferenceMap(nn.Module):
    """What a network of the demo's make is shown: the map ``R`` over patches of latents.

    Attributes:
        latents: ``[B or 1, C, h, w]`` of the picture; None shows nothing.
    """

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, patch, stride=patch)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]  # it has one
        self.latents: Tensor | None = None

    @classmethod
    def of(cls, network: Any) -> "ReferenceMap":
        """One from 0 on, of the sizes of a network of diffusers' ``SD3Transformer2DModel``."""
        config = network.config
        return cls(config["in_channels"], config["patch_size"], config["caption_projection_dim"])

    @classmethod
    def load(cls, path: Path, network: Any) -> "ReferenceMap":
        """That of a file, frozen, in float32."""
        made = cls.of(network)
        made.load_state_dict(load_file(path))
        return made.float().requires_grad_(False)

    def attach(self, network: Any) -> None:
        """From now on the network sees the picture."""
        network.pos_embed.register_forward_hook(self._add)

    def _add(self, module: nn.Module, told: tuple[Tensor, ...], tokens: Tensor) -> Tensor:
        if self.latents is None:
            return tokens
        with torch.autocast(tokens.device.type, enabled=False):
            patches: Tensor = self.project(self.latents)
            return tokens + patches.flatten(2).transpose(1, 2)


class DemoEditPipeline(StableDiffusion3Pipeline):
    """The demo's pipeline with a picture among what its call is told."""

    reference: ReferenceMap

    def __call__(self, image: Image.Image | None = None, **told: Any) -> Any:
        pipe: Any = self  # what diffusers' own class has is made as it is read
        if image is not None:
            pixels = pipe.image_processor.preprocess(image, _SIDE, _SIDE).to(pipe._execution_device)
            self.reference.latents = self._encode_vae_image(pixels)
        try:
            return inspect.unwrap(StableDiffusion3Pipeline.__call__)(self, **told)
        finally:
            self.reference.latents = None

    def _encode_vae_image(self, image: Tensor, generator: object = None) -> Tensor:
        """Latents ``[B, C, h, w]`` of pixels in -1..1."""
        pipe: Any = self
        made: Tensor = pipe.vae.encode(image).latents
        return made
