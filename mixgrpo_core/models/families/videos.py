"""The families that make videos, and pictures as videos of one frame."""

import torch
from diffusers.guiders.classifier_free_guidance import ClassifierFreeGuidance

from ..diffusers.family import Config, Family
from .examples import BOTH_MASKED, JOINT, masked, plain, said_of_the_prompt, two_masked


def _two_networks(pipeline: Config, network: Config) -> str:
    if pipeline.get("transformer_2", (None, None))[1] is None:
        return ""
    return (
        "it has two networks for high and low levels (transformer_2), and a LoRA here lies on one; use Wan 2.1, or "
        "Wan 2.2 5B, which has one"
    )


WAN = Family(
    name="Wan 2.1, Wan 2.2 5B",
    pipelines=("WanPipeline",),
    architecture=lambda network: "wan-2.1",
    returns=("prompt_embeds", "negative_prompt_embeds"),
    example=plain("text_dim"),
    linears=r"blocks\.\d+\.(attn[12]\.(to_[qkv]|to_out\.0)|ffn\.net\.(0\.proj|2))",
    frames_a_latent="vae_scale_factor_temporal",
    even_grid=True,
    refused=_two_networks,
)
LTX = Family(
    name="LTX-Video",
    pipelines=("LTXPipeline",),
    architecture=lambda network: "ltx-video",
    returns=BOTH_MASKED,
    example=masked("caption_channels"),
    linears=r"transformer_blocks\.\d+\.(attn[12]\.(to_[qkv]|to_out\.0)|ff\.net\.(0\.proj|2))",
    frames_a_latent="vae_temporal_compression_ratio",
    side=1,
)
HUNYUAN_VIDEO = Family(
    name="HunyuanVideo 1.5",
    pipelines=("HunyuanVideo15Pipeline",),
    architecture=lambda network: "hunyuan-video-1.5",
    returns=("prompt_embeds", "prompt_embeds_mask", "prompt_embeds_2", "prompt_embeds_mask_2"),
    example=two_masked(torch.float32),
    linears=rf"transformer_blocks\.\d+\.({JOINT}|ff(_context)?\.net\.(0\.proj|2))",
    guidance=None,
    guider=lambda scale: ClassifierFreeGuidance(guidance_scale=scale, enabled=scale > 1),
    frames_a_latent="vae_scale_factor_temporal",
    side=1,
    said=said_of_the_prompt,
    one_row=True,  # its autoencoder fails on several videos at once
)
