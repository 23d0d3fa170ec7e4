"""What a pipeline's call is asked for besides the prompt: size and guidance, and what is refused before any work."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from .family import Config, Family

_USUAL = 1024  # pixels, where a pipeline's call decides inside


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What every call of a pipeline is asked for at one size.

    Attributes:
        named: arguments.
        area: the side, in latents, of a square with as many: what a pipeline of one area goes by; None for others.
    """

    named: Mapping[str, Any]
    area: float | None = None


def require_range(compute: torch.dtype) -> None:
    """Raise for a precision in which the gradient would be 0."""
    if compute == torch.float16:
        raise ValueError(
            "expected bfloat16 or float32 to compute in, found float16: the gradient of a mean log-probability is "
            "about 1e-8, which is 0 in it. Take dtype=torch.bfloat16"
        )


def arguments(
    pipe: DiffusionPipeline,
    family: Family,
    resolution: tuple[int, int] | None,
    frames: int,
    guidance: float,
    embedded: float | None,
) -> Asked:
    """Size, frames and guidance.

    Raises:
        ValueError: a size or a number of frames that cannot be, or a guidance that the model does not have.
    """
    area = None
    if resolution is not None:
        _require_size(pipe, family, resolution)
        if family.one_area:  # a little more, since it rounds down
            area = math.sqrt(resolution[0] * resolution[1]) * (1 + 1e-9) / pixels_per_latent(pipe)
        asked = {"height": resolution[0], "width": resolution[1], **family.fixed(*resolution)}
    else:
        asked = dict(family.fixed(*default_size(pipe)))
    guided = {**_guidance(pipe, family, guidance), **_embedded(pipe, family, embedded)}
    return Asked(named={**asked, **_frames(pipe, family, frames), **guided}, area=area)


def config_of(pipe: DiffusionPipeline, family: Family) -> Config:
    """The configuration of its network."""
    found: Config = getattr(pipe, family.network).config
    return found


def _require_size(pipe: DiffusionPipeline, family: Family, resolution: tuple[int, int]) -> None:
    unit = pixels_per_latent(pipe) * family.side
    patches = config_of(pipe, family).get(family.most_patches) if family.most_patches else None
    most = math.inf if patches is None else unit * patches
    if any(length < unit or length % unit or length > most for length in resolution):
        to = "" if patches is None else f" up to {most}"
        raise ValueError(
            f"expected a height and width that are multiples of {unit}{to}, found {resolution[0]} x {resolution[1]}: "
            "correct the size"
        )


def _frames(pipe: DiffusionPipeline, family: Family, frames: int) -> dict[str, Any]:
    if family.frames_a_latent is None:
        if frames != 1:
            raise ValueError(
                f"expected one frame of {family.name}, found {frames}: it makes pictures. Leave frames out"
            )
        return {}
    unit: int = getattr(pipe, family.frames_a_latent)
    if (frames - 1) % unit:
        below = (frames - 1) // unit * unit + 1
        raise ValueError(
            f"expected a number of frames that is 1 more than a multiple of {unit} for {family.name}, found {frames}: "
            f"take {below} or {below + unit}"
        )
    return {"num_frames": frames}


def pixels_per_latent(pipe: DiffusionPipeline) -> int:
    """How many pixels of a side one latent stands for."""
    names = ("vae_scale_factor", "vae_scale_factor_spatial", "vae_spatial_compression_ratio")
    found: int = next((getattr(pipe, name) for name in names if hasattr(pipe, name)), 8)
    return found


def default_size(pipe: DiffusionPipeline) -> tuple[int, int]:
    """``(H, W)`` that the pipeline makes where nothing is asked."""
    side = getattr(pipe, "default_sample_size", None)
    if side is not None:
        return (side * pixels_per_latent(pipe),) * 2
    takes = inspect.signature(type(pipe).__call__).parameters
    height, width = (takes[name].default if name in takes else None for name in ("height", "width"))
    return (height or _USUAL, width or _USUAL)


def _guidance(pipe: DiffusionPipeline, family: Family, guidance: float) -> dict[str, Any]:
    distilled = family.distilled(pipe.config, config_of(pipe, family))
    if guidance > 1 and (distilled or (family.guidance is None and family.guider is None)):
        why = "this folder is distilled, with its guidance in its weights" if distilled else "it has none here"
        raise ValueError(f"expected guidance 1 for {family.name}, found {guidance}: {why}. Leave guidance out")
    return {} if family.guidance is None else {family.guidance: family.unguided + guidance - 1}


def _embedded(pipe: DiffusionPipeline, family: Family, embedded: float | None) -> dict[str, Any]:
    has = family.embedded is not None and config_of(pipe, family).get("guidance_embeds", True)
    if embedded is not None and not has:
        raise ValueError(
            f"expected no embedded guidance, found {embedded}: this network of {family.name} is not told of any. Leave "
            "embedded_guidance out"
        )
    if family.embedded is None or not has:
        return {}
    value = family.embedded_value if embedded is None else embedded
    if value is None or not 0 <= value < math.inf:
        raise ValueError(f"expected a finite embedded guidance of 0 or more, found {value}")
    return {family.embedded: value}


def place_vae(vae: Any, device: torch.device) -> None:
    """Move the autoencoder there, with channels last where it decodes planes: on a CPU its convolutions take less time
    so (`benchmarks/levers.md`), and the images differ by rounding."""
    flat = all(weight.ndim <= 4 for weight in vae.parameters())
    vae.to(device, **({"memory_format": torch.channels_last} if flat else {}))
