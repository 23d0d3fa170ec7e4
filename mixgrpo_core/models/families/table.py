"""The families of models: one row each.

A row says what its pipeline does not: what the values that ``encode_prompt`` returns are called, which layers carry the
LoRA, which argument is guidance. Sizes of the embeddings that a row draws stand for any prompt's.
"""

import torch

from .. import facts
from ..diffusers.family import Family
from .examples import BOTH_MASKED, FLUX_LAYERS, JOINT, hidream, joint, joint_and_pooled, masked, plain
from .more import AURA_FLOW, BRIA, COGVIEW4, HUNYUAN_IMAGE, KANDINSKY5, KREA2, OVIS
from .qwen import QWEN, QWEN_EDIT, QWEN_EDIT_PLUS
from .sd3 import SD3
from .unets import SD1, SDXL
from .videos import HUNYUAN_VIDEO, LTX, WAN

_FLUX2 = (
    rf"transformer_blocks\.\d+\.({JOINT}|ff(_context)?\.linear_(in|out))"
    r"|single_transformer_blocks\.\d+\.attn\.(to_qkv_mlp_proj|to_out)"
)


FLUX = Family(
    name="FLUX.1",
    facts=facts.FLUX_DEV,
    pipelines=("FluxPipeline",),
    architecture=lambda network: "flux-1-dev" if network["guidance_embeds"] else "flux-1-schnell",
    returns=("prompt_embeds", "pooled_prompt_embeds", ""),
    example=joint_and_pooled,
    linears=FLUX_LAYERS,
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
    example=joint_and_pooled,
    linears=FLUX_LAYERS,
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
    example=joint,
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
    example=joint,
    linears=_FLUX2,
    reads_pictures=True,
    distilled=lambda pipeline, network: bool(pipeline.get("is_distilled")),
)
Z_IMAGE = Family(
    name="Z-Image",
    facts=facts.Z_IMAGE,
    pipelines=("ZImagePipeline",),
    architecture=lambda network: "z-image",
    returns=("prompt_embeds", "negative_prompt_embeds"),
    example=plain("cap_feat_dim"),
    linears=r"(layers|noise_refiner|context_refiner)\.\d+\.(attention\.(to_[qkv]|to_out\.0)|feed_forward\.w[123])",
    unguided=0.0,
    listed=True,
)
LUMINA2 = Family(
    name="Lumina 2",
    pipelines=("Lumina2Pipeline",),
    architecture=lambda network: "lumina-2",
    returns=BOTH_MASKED,
    example=masked("cap_feat_dim"),
    linears=(r"(layers|noise_refiner|context_refiner)\.\d+\.(attn\.(to_[qkv]|to_out\.0)|feed_forward\.linear_[123])"),
)
SANA = Family(
    name="SANA",
    pipelines=("SanaPipeline",),
    architecture=lambda network: "sana",
    returns=BOTH_MASKED,
    example=masked("caption_channels"),
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
    example=masked("joint_attention_dim", kind=torch.float32),
    linears=FLUX_LAYERS,
)
HIDREAM = Family(
    name="HiDream-I1",
    pipelines=("HiDreamImagePipeline",),
    architecture=lambda network: "hidream-i1",
    returns=(
        *("prompt_embeds_t5", "negative_prompt_embeds_t5", "prompt_embeds_llama3", "negative_prompt_embeds_llama3"),
        *("pooled_prompt_embeds", "negative_pooled_prompt_embeds"),
    ),
    example=hidream,
    linears=(
        r"(double|single)_stream_blocks\.\d+\.block\.(attn1\.(to_[qkv](_t)?|to_out(_t)?)"
        r"|ff_t\.w[123]|ff_i\.(shared_experts|experts\.\d+)\.w[123])"
    ),
    rows={"prompt_embeds_llama3": 1},
    even_grid=True,
    training=("MOEFeedForwardSwiGLU",),
    one_area=True,
)
FAMILIES = (
    SD3,
    FLUX,
    KONTEXT,
    FLUX2,
    KLEIN,
    QWEN,
    QWEN_EDIT,
    QWEN_EDIT_PLUS,
    Z_IMAGE,
    LUMINA2,
    SANA,
    CHROMA,
    HIDREAM,
    WAN,
    LTX,
    HUNYUAN_VIDEO,
    AURA_FLOW,
    COGVIEW4,
    KREA2,
    HUNYUAN_IMAGE,
    OVIS,
    BRIA,
    KANDINSKY5,
    SDXL,
    SD1,
)
"""In the order of the page Models."""


def family_of(pipeline: str) -> Family | None:
    """The family of a pipeline's class; None where there is no row."""
    return next((family for family in FAMILIES if pipeline in family.pipelines), None)
