"""What ComfyUI's class says of a model: whether it is a flow model, its latents, sizes, timestep shift and name."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import cast

import torch
from comfy.latent_formats import LatentFormat
from comfy.model_base import BaseModel
from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import CONST, IMG_TO_IMG_FLOW, ModelSamplingDiscreteFlow, ModelSamplingFlux
from torch import Tensor

from ...mixgrpo_core.models.diffusion_flow import even_timesteps
from ...mixgrpo_core.sampling.schedule import flow_sigmas
from .diffusion import noises_of, require_images_from_noise

ARCHITECTURES = MappingProxyType(
    {
        "SD3": "stable-diffusion-3",
        "Flux": "flux-1-dev",
        "Flux2": "flux-2",
        "Chroma": "chroma",
        "QwenImage": "qwen-image",
        "Lumina2": "lumina-2",
        "AuraFlow": "auraflow",
        "HiDream": "hidream-i1",
        "SDXL": "stable-diffusion-xl-v1-base",
        "SD15": "stable-diffusion-v1",
        "SD20": "stable-diffusion-v2",
    }
)
"""The ``modelspec.architecture`` of ComfyUI's classes, for the headers of LoRA files; others go by their class."""

_FlowSampling = ModelSamplingDiscreteFlow | ModelSamplingFlux


@dataclass(frozen=True, kw_only=True)
class HostFamily:
    """A flow model of the host.

    Attributes:
        name: ComfyUI's class (``SD3``, ``Flux``, ...).
        variant: ComfyUI's class of its settings, finer where one class serves several models (``ZImage``).
        architecture, base_model: names in the header of a LoRA file.
        channels: channels of a latent.
        pixels: pixels per latent along one side.
        patch: latents per token along one side.
        most: pixels of a side at which its position embedding ends; None where there is no such end.
        text_width: channels of a text token that it takes; None where it does not say.
        guided: whether it takes a guidance as an input, as FLUX.1-dev does.
        frames: whether latents have a frame dimension ``[C, 1, H, W]`` (models that share a video VAE).
        shift: timestep shift of the model's own schedule: ``sigma = shift t / (1 + (shift - 1) t)``; None where it has
            levels of its own.
        noises: the levels that a diffusion model has in the place of a shift (``diffusion.py``).
    """

    name: str
    variant: str
    architecture: str
    base_model: str
    channels: int
    pixels: int
    patch: int
    frames: bool
    shift: float | None
    most: int | None
    text_width: int | None
    guided: bool
    noises: Tensor | None = field(default=None, compare=False)

    def grid(self, steps: int) -> Tensor:
        """The model's own sigmas ``[steps + 1]``: even levels with its timestep shift, or even timesteps of its own."""
        if self.noises is not None:
            return even_timesteps(steps, self.noises)
        return flow_sigmas(steps, 1.0 if self.shift is None else self.shift)

    def latent_shape(self, width: int, height: int) -> tuple[int, ...]:
        """Shape of one latent. Raises ``ValueError`` for a size that does not divide into tokens, or is too large."""
        unit = self.pixels * self.patch
        most = max(width, height) if self.most is None else self.most
        if any(side % unit or not unit <= side <= most for side in (width, height)):
            near = (min(max(unit, round(side / unit) * unit), most // unit * unit) for side in (width, height))
            ends = "" if self.most is None else f" up to {self.most}"
            raise ValueError(
                f"this model ({self.name}) makes images whose width and height are multiples of {unit}{ends}, found "
                f"{width} x {height}: take {' x '.join(map(str, near))}"
            )
        size = (height // self.pixels, width // self.pixels)
        return (self.channels, 1, *size) if self.frames else (self.channels, *size)


def require_flow_model(model: ModelPatcher) -> HostFamily:
    """What is known of ``model``. Raises ``ValueError`` when it is no flow model that makes images."""
    base = getattr(model, "model", None)
    if not isinstance(base, BaseModel):
        raise ValueError(f"expected a MODEL of ComfyUI, found {type(model).__name__}: connect a model loader")
    name = _name(base)
    sampling = model.get_model_object("model_sampling")
    noises = noises_of(sampling)
    if noises is not None:
        require_images_from_noise(base, sampling, name)
    elif not isinstance(sampling, CONST) or isinstance(sampling, IMG_TO_IMG_FLOW):
        raise ValueError(
            f"MixGRPO trains flow-matching models (SD3.5, FLUX, Qwen-Image, Z-Image, ...) and UNets of noise or "
            f"v-prediction (SDXL, Illustrious, Pony, SD 1.5), found {name}, which is none: its noise is of another "
            "kind. Load one of these models"
        )
    if getattr(sampling, "noise_scale", 1.0) != 1.0:
        raise ValueError(
            f"{name} starts from noise of scale {sampling.noise_scale}, expected 1: this kind is not supported yet"
        )
    latent = cast(LatentFormat, model.get_model_object("latent_format"))  # the host takes any object for a module
    if latent.latent_dimensions not in (2, 3):
        raise ValueError(f"expected a model that makes images, found {name}, whose latents are no pictures")
    network = base.diffusion_model
    patch = _patch(network)
    return HostFamily(
        name=name,
        variant=_variant(base),
        architecture=ARCHITECTURES.get(name, name.lower()),
        base_model=_file_name(model),
        channels=latent.latent_channels,
        pixels=latent.spacial_downscale_ratio,
        patch=patch,
        frames=latent.latent_dimensions == 3,
        shift=None if noises is not None else _shift(cast(_FlowSampling, sampling)),  # which flow models' are made of
        noises=noises,
        most=_most(network, patch * latent.spacial_downscale_ratio),
        text_width=getattr(getattr(network, "context_embedder", None), "in_features", None),
        guided=bool(getattr(getattr(network, "params", None), "guidance_embed", False)),
    )


def _name(base: BaseModel) -> str:
    """ComfyUI's class, or that of the settings where the class is none of the model's own (SD15)."""
    return type(base.model_config if type(base) is BaseModel else base).__name__


def _variant(base: BaseModel) -> str:
    """ComfyUI's class of the settings; it has none of its own for Ovis, a FLUX with other layers."""
    ovis = getattr(getattr(base.diffusion_model, "params", None), "yak_mlp", False)
    return "Ovis" if ovis else type(base.model_config).__name__


def _shift(sampling: _FlowSampling) -> float:
    """The shift behind any schedule of the host's flow models, FLUX's exponential one too: read off half way."""
    half = sampling.sigma(torch.tensor(0.5 * getattr(sampling, "multiplier", 1.0), dtype=torch.float64))
    sigma = float(half)
    return round(sigma / (1 - sigma), 6) if 0 < sigma < 1 else math.nan


def _patch(network: torch.nn.Module) -> int:
    found = getattr(network, "patch_size", 1)
    return int(found[-1]) if isinstance(found, tuple | list) else int(found)


def _most(network: torch.nn.Module, unit: int) -> int | None:
    """Pixels of a side, for networks that have learned each place of an image (SD3's); ``unit`` pixels are a token."""
    tokens = getattr(network, "pos_embed_max_size", None)
    return None if tokens is None or getattr(network, "pos_embed", None) is None else int(tokens) * unit


def _file_name(model: ModelPatcher) -> str:
    """The file that the host loaded the model from, where it remembers it (0.26 and newer)."""
    loader = getattr(model, "cached_patcher_init", None)
    arguments = loader[1] if loader else ()
    return Path(arguments[0]).stem if arguments and isinstance(arguments[0], str | Path) else ""
