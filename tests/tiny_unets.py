"""Tiny random pipelines of SDXL and Stable Diffusion 1.5, in the very folder format of the real ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import EulerDiscreteScheduler, PNDMScheduler, UNet2DConditionModel
from tiny_pipelines import vae
from tiny_sd3 import clip_encoder, clip_tokenizer

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SDXL, SD1 = "StableDiffusionXLPipeline", "StableDiffusionPipeline"
WIDTHS = (32, 64)  # the host's norms have 32 groups
POOLED, TIMES = 16, 256
UNET = {
    "block_out_channels": WIDTHS,
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "sample_size": 8,
}
OF_SDXL = {  # heads as the host has them: of 64 channels, or 8 of them
    "attention_head_dim": 1,
    "use_linear_projection": True,
    "cross_attention_dim": 16 + POOLED,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": TIMES,
    "projection_class_embeddings_input_dim": POOLED + 6 * TIMES,
}


def unet(pipeline: str, **changes: object) -> UNet2DConditionModel:
    own = OF_SDXL if pipeline == SDXL else {"cross_attention_dim": 16, "attention_head_dim": 8}
    made = UNet2DConditionModel(**{**UNET, **own, **changes})  # type: ignore[arg-type]
    return made.eval()


def parts(pipeline: str, scheduler: Any, **network: object) -> dict[str, Any]:
    sizes = {"vocab_size": 54, "hidden_size": 16, "intermediate_size": 16, "bos_token_id": 52, "eos_token_id": 53}
    config = transformers.CLIPTextConfig(**sizes, num_hidden_layers=3, num_attention_heads=2, hidden_act="gelu")
    found: dict[str, Any] = {
        "scheduler": scheduler,
        "vae": vae(4, quant=True, blocks=4, scaling_factor=0.13025, shift_factor=None),
        "text_encoder": transformers.CLIPTextModel(config).eval(),
        "tokenizer": clip_tokenizer(),
        "unet": unet(pipeline, **network),
    }
    if pipeline == SDXL:
        return {**found, "text_encoder_2": clip_encoder(POOLED).eval(), "tokenizer_2": clip_tokenizer()}
    return {**found, "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def euler(**settings: object) -> EulerDiscreteScheduler:
    """As SDXL's folder has it."""
    return EulerDiscreteScheduler(**{**BETAS, "timestep_spacing": "leading", "steps_offset": 1, **settings})  # type: ignore[arg-type]


def pndm() -> PNDMScheduler:
    """As the folder of Stable Diffusion 1.5 has it."""
    return PNDMScheduler(**BETAS, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)


def make_folder(pipeline: str, path: Path, scheduler: Any = None, **network: object) -> Path:
    """Write a pipeline to ``path``."""
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = getattr(diffusers, pipeline)(**parts(pipeline, scheduler or euler(), **network))
        made.save_pretrained(path)
    return path


def of_host(pipeline: str) -> Mapping[str, object]:
    """The same network in the words of the host."""
    common = {
        "image_size": 32,
        "use_spatial_transformer": True,
        "legacy": False,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": WIDTHS[0],
        "num_res_blocks": [2, 2],
        "channel_mult": [1, 2],
        "transformer_depth": [0, 0, 1, 1],
        "transformer_depth_output": [0, 0, 0, 1, 1, 1],
        "transformer_depth_middle": 1,
        "use_temporal_attention": False,
        "use_temporal_resblock": False,
    }
    if pipeline == SDXL:
        own = {"use_linear_in_transformer": True, "context_dim": 16 + POOLED}
        return {**common, **own, "num_classes": "sequential", "adm_in_channels": POOLED + 6 * TIMES}
    return {**common, "use_linear_in_transformer": False, "context_dim": 16}
