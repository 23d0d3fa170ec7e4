"""The families of models: one row each.

A row says what its pipeline does not: what the values that ``encode_prompt`` returns are called, which layers carry the
LoRA, which argument is guidance. Sizes of the embeddings that a row draws stand for any prompt's.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .. import facts
from ..diffusers.family import Config, Embeds, Family
from .sd3 import SD3
from .unets import SD1, SDXL

Draw = Callable[..., Tensor]
_TOKENS = 8

_JOINT = r"attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"
_FLUX = (
    rf"transformer_blocks\.\d+\.({_JOINT}|ff(_context)?\.net\.(0\.proj|2))"
    r"|single_transformer_blocks\.\d+\.(attn\.to_[qkv]|proj_mlp|proj_out)"
)
_FLUX2 = (
    rf"transformer_blocks\.\d+\.({_JOINT}|ff(_context)?\.linear_(in|out))"
    r"|single_transformer_blocks\.\d+\.attn\.(to_qkv_mlp_proj|to_out)"
)


def _joint(network: Config, draw: Draw) -> Embeds:
    return {"prompt_embeds": draw(1, _TOKENS, network["joint_attention_dim"])}


def _joint_and_pooled(network: Config, draw: Draw) -> Embeds:
    return {**_joint(network, draw), "pooled_prompt_embeds": draw(1, network["pooled_projection_dim"])}


def _masked(
    width: str, mask: str = "prompt_attention_mask", kind: torch.dtype = torch.long
) -> Callable[[Config, Draw], Embeds]:
    def example(network: Config, draw: Draw) -> Embeds:
        embeds = draw(1, _TOKENS, network[width])
        read = embeds.new_ones(1, _TOKENS, dtype=kind)
        read[:, _TOKENS // 2 :] = 0  # so that leaving the mask out shows
        return {"prompt_embeds": embeds, mask: read}

    return example


def _plain(width: str) -> Callable[[Config, Draw], Embeds]:
    return lambda network, draw: {"prompt_embeds": draw(1, _TOKENS, network[width])}


def _hidream(network: Config, draw: Draw) -> Embeds:
    t5, llama = network["caption_channels"]
    return {
        "prompt_embeds_t5": draw(1, _TOKENS, t5),
        "prompt_embeds_llama3": draw(len(network["llama_layers"]), 1, _TOKENS, llama),
        "pooled_prompt_embeds": draw(1, network["text_emb_dim"]),
    }


def _krea2(network: Config, draw: Draw) -> Embeds:
    embeds = draw(1, _TOKENS, network["num_text_layers"], network["text_hidden_dim"])
    return {"prompt_embeds": embeds, "prompt_embeds_mask": embeds.new_ones(1, _TOKENS, dtype=torch.bool)}


_BOTH_MASKED = (
    *("prompt_embeds", "prompt_attention_mask"),
    *("negative_prompt_embeds", "negative_prompt_attention_mask"),
)

FLUX = Family(
    name="FLUX.1",
    facts=facts.FLUX_DEV,
    pipelines=("FluxPipeline",),
    architecture=lambda network: "flux-1-dev" if network["guidance_embeds"] else "flux-1-schnell",
    returns=("prompt_embeds", "pooled_prompt_embeds", ""),
    example=_joint_and_pooled,
    linears=_FLUX,
    guidance="true_cfg_scale",
    embedded="guidance_scale",
    distilled=lambda pipeline, network: not network["guidance_embeds"],
)
KONTEXT = Family(
    name="FLUX.1 Kontext",
    facts=facts.FLUX_DEV,
    pipelines=("FluxKontextPipeline",),
    architecture=lambda network: "flux-1-kontext-dev",
    returns=FLUX.returns,
    example=_joint_and_pooled,
    linears=_FLUX,
    guidance="true_cfg_scale",
    embedded="guidance_scale",
    fixed=lambda height, width: {"max_area": height * width, "_auto_resize": False},
    reads_pictures=True,
)
FLUX2 = Family(
    name="FLUX.2 dev",
    facts=facts.FLUX2,
    pipelines=("Flux2Pipeline",),
    architecture=lambda network: "flux-2-dev",
    returns=("prompt_embeds", ""),
    example=_joint,
    linears=_FLUX2,
    guidance=None,
    embedded="guidance_scale",
    reads_pictures=True,
)
KLEIN = Family(
    name="FLUX.2 klein",
    pipelines=("Flux2KleinPipeline",),
    architecture=lambda network: "flux-2-klein",
    returns=("prompt_embeds", ""),
    example=_joint,
    linears=_FLUX2,
    reads_pictures=True,
    distilled=lambda pipeline, network: bool(pipeline.get("is_distilled")),
)
QWEN = Family(
    name="Qwen-Image",
    facts=facts.QWEN,
    pipelines=("QwenImagePipeline",),
    architecture=lambda network: "qwen-image",
    returns=("prompt_embeds", "prompt_embeds_mask"),
    example=_masked("joint_attention_dim", "prompt_embeds_mask"),
    linears=rf"transformer_blocks\.\d+\.({_JOINT}|(img|txt)_mlp\.net\.(0\.proj|2))",
    guidance="true_cfg_scale",
)
Z_IMAGE = Family(
    name="Z-Image",
    facts=facts.Z_IMAGE,
    pipelines=("ZImagePipeline",),
    architecture=lambda network: "z-image",
    returns=("prompt_embeds", "negative_prompt_embeds"),
    example=_plain("cap_feat_dim"),
    linears=r"(layers|noise_refiner|context_refiner)\.\d+\.(attention\.(to_[qkv]|to_out\.0)|feed_forward\.w[123])",
    unguided=0.0,
    listed=True,
)
LUMINA2 = Family(
    name="Lumina 2",
    pipelines=("Lumina2Pipeline",),
    architecture=lambda network: "lumina-2",
    returns=_BOTH_MASKED,
    example=_masked("cap_feat_dim"),
    linears=(r"(layers|noise_refiner|context_refiner)\.\d+\.(attn\.(to_[qkv]|to_out\.0)|feed_forward\.linear_[123])"),
)
SANA = Family(
    name="SANA",
    pipelines=("SanaPipeline",),
    architecture=lambda network: "sana",
    returns=_BOTH_MASKED,
    example=_masked("caption_channels"),
    linears=r"transformer_blocks\.\d+\.attn[12]\.(to_[qkv]|to_out\.0)",
    fixed=lambda height, width: {"use_resolution_binning": False, "negative_prompt": None},
    side=1,
    even_grid=True,
)
CHROMA = Family(
    name="Chroma",
    facts=facts.CHROMA,
    pipelines=("ChromaPipeline",),
    architecture=lambda network: "chroma",
    returns=(
        *("prompt_embeds", "", "prompt_attention_mask"),
        *("negative_prompt_embeds", "", "negative_prompt_attention_mask"),
    ),
    example=_masked("joint_attention_dim", kind=torch.float32),
    linears=_FLUX,
)
HIDREAM = Family(
    name="HiDream-I1",
    pipelines=("HiDreamImagePipeline",),
    architecture=lambda network: "hidream-i1",
    returns=(
        *("prompt_embeds_t5", "negative_prompt_embeds_t5", "prompt_embeds_llama3", "negative_prompt_embeds_llama3"),
        *("pooled_prompt_embeds", "negative_pooled_prompt_embeds"),
    ),
    example=_hidream,
    linears=(
        r"(double|single)_stream_blocks\.\d+\.block\.(attn1\.(to_[qkv](_t)?|to_out(_t)?)"
        r"|ff_t\.w[123]|ff_i\.(shared_experts|experts\.\d+)\.w[123])"
    ),
    rows={"prompt_embeds_llama3": 1},
    even_grid=True,
    training=("MOEFeedForwardSwiGLU",),
    one_area=True,
)
WAN = Family(
    name="Wan 2.1",
    pipelines=("WanPipeline",),
    architecture=lambda network: "wan-2.1",
    returns=("prompt_embeds", "negative_prompt_embeds"),
    example=_plain("text_dim"),
    linears=r"blocks\.\d+\.(attn[12]\.(to_[qkv]|to_out\.0)|ffn\.net\.(0\.proj|2))",
    fixed=lambda height, width: {"num_frames": 1},
    even_grid=True,
)
AURA_FLOW = Family(
    name="AuraFlow",
    pipelines=("AuraFlowPipeline",),
    architecture=lambda network: "auraflow",
    returns=_BOTH_MASKED,
    example=_masked("joint_attention_dim"),
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
    example=_krea2,
    linears=r"transformer_blocks\.\d+\.(attn\.(to_[qkv]|to_gate|to_out\.0)|ff\.(gate|up|down))",
    unguided=0.0,
    distilled=lambda pipeline, network: bool(pipeline.get("is_distilled")),
)

FAMILIES = (
    SD3,
    FLUX,
    KONTEXT,
    FLUX2,
    KLEIN,
    QWEN,
    Z_IMAGE,
    LUMINA2,
    SANA,
    CHROMA,
    HIDREAM,
    WAN,
    AURA_FLOW,
    COGVIEW4,
    KREA2,
    SDXL,
    SD1,
)
"""In the order of the table in README."""


def family_of(pipeline: str) -> Family | None:
    """The family of a pipeline's class; None where there is no row."""
    return next((family for family in FAMILIES if pipeline in family.pipelines), None)
