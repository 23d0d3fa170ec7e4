"""Families that few people train: one row each."""

from dataclasses import replace

import torch

from ..diffusers.family import Config, Family
from ..facts import OTHER
from .examples import BOTH_MASKED, FLUX_LAYERS, joint, kandinsky5, krea2, masked, said_of_the_prompt, two_masked


def _mean_flow(pipeline: Config, network: Config) -> str:
    if not network.get("use_meanflow"):
        return ""
    return "it is distilled to velocities over a whole step (use_meanflow), which no kernel here asks for; use the base"


AURA_FLOW = Family(
    name="AuraFlow",
    pipelines=("AuraFlowPipeline",),
    architecture=lambda network: "auraflow",
    returns=BOTH_MASKED,
    example=masked("joint_attention_dim"),
    linears=(
        r"(joint|single)_transformer_blocks\.\d+\."
        r"(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)|ff(_context)?\.(linear_[12]|out_projection))"
    ),
    even_grid=True,
)
COGVIEW4 = Family(
    name="CogView4",
    pipelines=("CogView4Pipeline",),
    architecture=lambda network: "cogview-4",
    returns=("prompt_embeds", "negative_prompt_embeds"),
    example=lambda network, draw: {"prompt_embeds": draw(1, 16, network["text_embed_dim"])},  # it pads to sixteens
    linears=r"transformer_blocks\.\d+\.(attn1\.(to_[qkv]|to_out\.0)|ff\.net\.(0\.proj|2))",
)
KREA2 = Family(
    name="Krea 2",
    pipelines=("Krea2Pipeline",),
    architecture=lambda network: "krea-2",
    returns=("prompt_embeds", "prompt_embeds_mask"),
    example=krea2,
    linears=r"transformer_blocks\.\d+\.(attn\.(to_[qkv]|to_gate|to_out\.0)|ff\.(gate|up|down))",
    unguided=0.0,
    distilled=lambda pipeline, network: bool(pipeline.get("is_distilled")),
)
HUNYUAN_IMAGE = Family(
    name="HunyuanImage 2.1",
    facts=replace(OTHER, cfg=1.0),
    pipelines=("HunyuanImagePipeline",),
    architecture=lambda network: "hunyuan-image-2.1",
    returns=("prompt_embeds", "prompt_embeds_mask", "prompt_embeds_2", "prompt_embeds_mask_2"),
    example=two_masked(torch.long),
    linears=FLUX_LAYERS,
    guidance=None,  # its own keeps a momentum of earlier steps, and its velocity would depend on them
    side=1,
    refused=_mean_flow,
    said=said_of_the_prompt,
)
OVIS = Family(
    name="Ovis-Image",
    pipelines=("OvisImagePipeline",),
    architecture=lambda network: "ovis-image",
    returns=("prompt_embeds", "negative_prompt_embeds", "", ""),
    example=joint,
    linears=FLUX_LAYERS,
    fixed=lambda height, width: {"negative_prompt": None},
)
BRIA = Family(
    name="Bria 3.2",
    pipelines=("BriaPipeline",),
    architecture=lambda network: "bria-3.2",
    returns=("prompt_embeds", "negative_prompt_embeds", ""),
    example=joint,
    linears=FLUX_LAYERS,
    side=1,
)
KANDINSKY5 = Family(
    name="Kandinsky 5 Image",
    pipelines=("Kandinsky5T2IPipeline",),
    architecture=lambda network: "kandinsky-5-image",
    returns=("prompt_embeds_qwen", "prompt_embeds_clip", "prompt_cu_seqlens"),
    example=kandinsky5,
    linears=(
        r"(text|visual)_transformer_blocks\.\d+\."
        r"((self|cross)_attention\.(to_(query|key|value)|out_layer)|feed_forward\.(in|out)_layer)"
    ),
    even_grid=True,
    one_row=True,  # lengths of prompts are sums over the rows before
)
