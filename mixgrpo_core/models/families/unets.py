"""SDXL, Illustrious, Pony, Stable Diffusion 1.x and 2.x: UNets that predict noise or diffusion's v, as flows."""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from .. import facts
from ..diffusers.family import Config, Embeds, Family
from ..diffusers.loading import read_json

_TOKENS = 77  # of a prompt, however short
_LINEARS = (
    r"(down_blocks\.\d+|mid_block|up_blocks\.\d+)\.attentions\.\d+\.transformer_blocks\.\d+\."
    r"(attn[12]\.(to_[qkv]|to_out\.0)|ff\.net\.(0\.proj|2))"
)


def _embeds(network: Config, draw: Callable[..., Tensor]) -> Embeds:
    return {"prompt_embeds": draw(1, _TOKENS, network["cross_attention_dim"])}


def _with_pooled(network: Config, draw: Callable[..., Tensor]) -> Embeds:
    pooled = network["projection_class_embeddings_input_dim"] - 6 * network["addition_time_embed_dim"]
    return {**_embeds(network, draw), "pooled_prompt_embeds": draw(1, pooled)}


def _said(folder: Path, made: Embeds) -> Mapping[str, Tensor]:
    first, second = (f"{folder / name} with its tokenizer" for name in ("text_encoder", "text_encoder_2"))
    width = read_json(folder / "text_encoder" / "config.json").get("hidden_size", 0)
    return {first: made["prompt_embeds"][..., :width], second: made["prompt_embeds"][..., width:]}


def _distilled(pipeline: Config, network: Config) -> bool:
    return network.get("time_cond_proj_dim") is not None


SDXL = Family(
    name="SDXL, Illustrious, Pony",
    facts=facts.SDXL,
    pipelines=("StableDiffusionXLPipeline",),
    architecture=lambda network: "stable-diffusion-xl-v1-base",
    returns=("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds"),
    example=_with_pooled,
    linears=_LINEARS,
    network="unet",
    diffusion=True,
    side=1,
    distilled=_distilled,
    said=_said,
)
SD1 = Family(
    name="Stable Diffusion 1.5, 2.1",
    facts=facts.SD1,
    pipelines=("StableDiffusionPipeline",),
    architecture=lambda network: f"stable-diffusion-v{1 if network['cross_attention_dim'] == 768 else 2}",
    returns=("prompt_embeds", "negative_prompt_embeds"),
    example=_embeds,
    linears=_LINEARS,
    network="unet",
    diffusion=True,
    side=1,
    distilled=_distilled,
)
