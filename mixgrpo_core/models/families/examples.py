"""What rows of families share: embeddings to ask a network with where the text does not matter, and names of layers."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..diffusers.family import Config, Embeds

Draw = Callable[..., Tensor]
TOKENS = 8

FLUX_LAYERS = (
    r"transformer_blocks\.\d+\.(attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)|ff(_context)?\.net\.(0\.proj|2))"
    r"|single_transformer_blocks\.\d+\.(attn\.to_[qkv]|proj_mlp|proj_out)"
)
JOINT = r"attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"


def joint(network: Config, draw: Draw) -> Embeds:
    return {"prompt_embeds": draw(1, TOKENS, network["joint_attention_dim"])}


def joint_and_pooled(network: Config, draw: Draw) -> Embeds:
    return {**joint(network, draw), "pooled_prompt_embeds": draw(1, network["pooled_projection_dim"])}


def masked(
    width: str, mask: str = "prompt_attention_mask", kind: torch.dtype = torch.long
) -> Callable[[Config, Draw], Embeds]:
    def example(network: Config, draw: Draw) -> Embeds:
        embeds = draw(1, TOKENS, network[width])
        read = embeds.new_ones(1, TOKENS, dtype=kind)
        read[:, TOKENS // 2 :] = 0  # so that leaving the mask out shows
        return {"prompt_embeds": embeds, mask: read}

    return example


def plain(width: str) -> Callable[[Config, Draw], Embeds]:
    return lambda network, draw: {"prompt_embeds": draw(1, TOKENS, network[width])}


def hidream(network: Config, draw: Draw) -> Embeds:
    t5, llama = network["caption_channels"]
    return {
        "prompt_embeds_t5": draw(1, TOKENS, t5),
        "prompt_embeds_llama3": draw(len(network["llama_layers"]), 1, TOKENS, llama),
        "pooled_prompt_embeds": draw(1, network["text_emb_dim"]),
    }


def krea2(network: Config, draw: Draw) -> Embeds:
    embeds = draw(1, TOKENS, network["num_text_layers"], network["text_hidden_dim"])
    return {"prompt_embeds": embeds, "prompt_embeds_mask": embeds.new_ones(1, TOKENS, dtype=torch.bool)}


BOTH_MASKED = (
    *("prompt_embeds", "prompt_attention_mask"),
    *("negative_prompt_embeds", "negative_prompt_attention_mask"),
)


def two_masked(kind: torch.dtype) -> Callable[[Config, Draw], Embeds]:
    """HunyuanImage's and HunyuanVideo's: of a language model, and of the letters that are to be written."""

    def example(network: Config, draw: Draw) -> Embeds:
        read = torch.ones(1, TOKENS, dtype=kind)
        read[:, TOKENS // 2 :] = 0
        return {
            "prompt_embeds": draw(1, TOKENS, network["text_embed_dim"]),
            "prompt_embeds_mask": read,
            "prompt_embeds_2": draw(1, TOKENS, network["text_embed_2_dim"]),
            "prompt_embeds_mask_2": read.clone(),
        }

    return example


def said_of_the_prompt(folder: Path, made: Embeds) -> Mapping[str, Tensor]:
    """What HunyuanImage's and HunyuanVideo's language model says: their other encoder is silent where no letters are
    to be written."""
    return {f"{folder / 'text_encoder'} with its tokenizer": made["prompt_embeds"]}


def kandinsky5(network: Config, draw: Draw) -> Embeds:
    return {
        "prompt_embeds_qwen": draw(1, TOKENS, network["in_text_dim"]),
        "prompt_embeds_clip": draw(1, network["in_text_dim2"]),
        "prompt_cu_seqlens": torch.tensor([0, TOKENS], dtype=torch.int32),
    }
