"""Stable Diffusion 3 and 3.5: their row, and what they tell of their text encoders."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from ..diffusers.arguments import require_range
from ..diffusers.family import Config, Embeds, Family
from ..diffusers.frozen_loras import Loras
from ..diffusers.loading import INDEX, ModelFilesError, read_json, require_folder
from ..diffusers.model import PipelineModel
from ..facts import SD35
from ..lora_layers import Layers
from .one_family import load_family

_CLIP_TOKENS, _TEXT_TOKENS = 77, 333  # of a prompt: 77 of CLIP's, and 256 of T5's behind them


def _architecture(network: Config) -> str:
    if network["qk_norm"] is None:
        return "stable-diffusion-3-medium"
    return f"stable-diffusion-3.5-{'medium' if network['dual_attention_layers'] else 'large'}"


def _said(folder: Path, made: Embeds) -> Mapping[str, Tensor]:
    first, second, third = (f"{folder / name} with its tokenizer" for name in _ENCODERS)
    width = read_json(folder / _ENCODERS[0] / "config.json").get("projection_dim", 0)
    pooled = made["pooled_prompt_embeds"]
    said = {first: pooled[:, :width], second: pooled[:, width:]}
    if (folder / _ENCODERS[2]).is_dir():
        said[third] = made["prompt_embeds"][:, _CLIP_TOKENS:]
    return said


_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


def _example(network: Config, draw: Callable[..., Tensor]) -> Embeds:
    return {
        "prompt_embeds": draw(1, _TEXT_TOKENS, network["joint_attention_dim"]),
        "pooled_prompt_embeds": draw(1, network["pooled_projection_dim"]),
    }


SD3 = Family(
    name="Stable Diffusion 3 / 3.5",
    facts=SD35,
    pipelines=("StableDiffusion3Pipeline",),
    architecture=_architecture,
    returns=("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds"),
    example=_example,
    linears=(
        r"transformer_blocks\.\d+\.("
        r"attn2?\.to_[qkv]|attn2?\.to_out\.0"
        r"|attn\.add_[qkv]_proj|attn\.to_add_out"
        r"|ff(_context)?\.net\.(0\.proj|2)"
        r")"
    ),
    even_grid=True,
    most_patches="pos_embed_max_size",
    optional=("text_encoder_3",),
    said=_said,
)
"""Modulation and final layers stay as they are: they do not reach every host."""


def load_sd3(
    folder: str | Path,
    *,
    rank: int | None = None,
    alpha: float | None = None,
    resolution: tuple[int, int] | None = None,
    guidance: float = 1.0,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    gradient_checkpointing: bool = False,
    lora: str | Path | None = None,
    layers: Layers | None = None,
    loras: Loras = MappingProxyType({}),
    seed: int = 0,
    pipeline_grid: bool = False,
) -> PipelineModel:
    """Stable Diffusion 3 or 3.5 from a local diffusers folder; nothing is ever downloaded. See `load_pipeline`.

    Raises:
        ModelFilesError: the folder lacks something, or holds another pipeline.
        ValueError: a setting is out of its range; see `load_pipeline`.
    """
    require_range(dtype)
    require_folder(Path(folder), (INDEX,))
    found = read_json(Path(folder) / INDEX).get("_class_name")
    if found not in SD3.pipelines:
        raise ModelFilesError(f"expected a {SD3.pipelines[0]} in {folder}, found {found}; use a folder of SD3 or SD3.5")
    return load_family(
        SD3,
        folder,
        rank=rank,
        alpha=alpha,
        resolution=resolution,
        guidance=guidance,
        dtype=dtype,
        device=device,
        gradient_checkpointing=gradient_checkpointing,
        lora=lora,
        layers=layers,
        loras=loras,
        seed=seed,
        pipeline_grid=pipeline_grid,
    )
