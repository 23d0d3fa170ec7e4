"""The finished model as a diffusers folder of fp16 files, with the figures of what is really in it."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel

from mixgrpo_core.models.families.caption_encoder import CaptionEncoder
from mixgrpo_core.shapes.captions import all_captions, split_captions
from mixgrpo_core.shapes.drawing import draw

from . import measure
from .settings import Settings


def write(
    settings: Settings, transformer: SD3Transformer2DModel, autoencoder: AutoencoderTiny, encoder: CaptionEncoder
) -> None:
    """Save everything under `settings.assets`. The modules become fp16."""
    settings.assets.mkdir(parents=True, exist_ok=True)
    transformer.half().save_pretrained(settings.assets / "transformer")
    autoencoder.half().to(memory_format=torch.contiguous_format).save_pretrained(settings.assets / "vae")
    _without_derived_entry(settings.assets / "vae" / "config.json")
    FlowMatchEulerDiscreteScheduler(shift=measure.SHIFT).save_pretrained(settings.assets / "scheduler")
    CaptionEncoder(encoder.vocabulary, encoder.table.half()).save(settings.assets / "caption_encoder.safetensors")


def _without_derived_entry(config: Path) -> None:
    """Drop what `AutoencoderTiny` adds to its configuration and warns about when it is read back."""
    entries = json.loads(config.read_text())
    del entries["block_out_channels"]
    config.write_text(json.dumps(entries, indent=2) + "\n")


def read(assets: Path) -> tuple[SD3Transformer2DModel, AutoencoderTiny, CaptionEncoder]:
    """The shipped files as float32 modules."""
    transformer = SD3Transformer2DModel.from_pretrained(assets / "transformer", torch_dtype=torch.float32)
    autoencoder = AutoencoderTiny.from_pretrained(assets / "vae", torch_dtype=torch.float32)
    return transformer.eval(), autoencoder.eval(), CaptionEncoder.load(assets / "caption_encoder.safetensors")


def measure_assets(assets: Path, *, repeats: int = 20) -> dict[str, Any]:
    """Figures of the shipped files: reconstructions, and samples of every caption group."""
    transformer, autoencoder, encoder = read(assets)
    generator = np.random.default_rng(1_000)
    drawn = all_captions() * 4
    drawings = torch.from_numpy(np.stack([draw(caption, generator) for caption in drawn]))
    training, held_out = split_captions()
    result: dict[str, Any] = {"reconstruction": measure.reconstruction(autoencoder, drawings, drawn)}
    for name, captions in (("held_out", held_out * repeats), ("training", training * (repeats // 4))):
        noise = torch.Generator().manual_seed(77)
        latents = measure.sample(transformer, encoder, [str(caption) for caption in captions], noise)
        result[name] = asdict(measure.figures(measure.to_images(autoencoder, latents), captions))
        result[name]["images"] = len(captions)
    return result


def write_report(settings: Settings, stages: dict[str, Any], note: str) -> None:
    """`training.json`: settings, versions, journals and figures; replaced in one move."""
    recipe = asdict(settings)
    del recipe["work"], recipe["assets"]
    report = {
        "settings": recipe,
        "note": note,
        "threads_per_process": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__},
        "stages": stages,
        "figures": measure_assets(settings.assets),
    }
    path = settings.assets / "training.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(partial, path)
