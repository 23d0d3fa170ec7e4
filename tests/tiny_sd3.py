"""A tiny random Stable Diffusion 3.5 in the very folder format of the real one, and what its tests share."""

from contextlib import nullcontext
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from mixgrpo_core.models.diffusers.model import PipelineModel
from mixgrpo_core.models.families.sd3 import load_sd3

PROMPT = "a red circle"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def clip_tokenizer() -> CLIPTokenizer:
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=77)


def clip_encoder(width: int) -> CLIPTextModelWithProjection:
    sizes = {"vocab_size": 54, "hidden_size": width, "intermediate_size": 16, "projection_dim": width}
    ends = {"bos_token_id": 52, "eos_token_id": 53}
    return CLIPTextModelWithProjection(
        CLIPTextConfig(**sizes, **ends, num_hidden_layers=3, num_attention_heads=2, hidden_act="gelu")
    )


def transformer(context: int = 32, pooled: int = 20) -> SD3Transformer2DModel:
    """Three blocks of the SD3.5-medium kind: a second attention in the first, normalised queries and keys."""
    widths = {"attention_head_dim": 8, "num_attention_heads": 2, "caption_projection_dim": 16}
    texts = {"joint_attention_dim": context, "pooled_projection_dim": pooled}
    kind = {"dual_attention_layers": (0,), "qk_norm": "rms_norm"}
    return SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=16, num_layers=3, pos_embed_max_size=12, **widths, **texts, **kind
    )


def make_folder(path: Path) -> Path:
    """Write the pipeline to ``path`` as the real one is written."""
    torch.set_num_threads(1)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), *((letter, -2.0) for letter in LETTERS)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        StableDiffusion3Pipeline(
            transformer=transformer(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=AutoencoderKL(
                block_out_channels=(8, 8),
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                latent_channels=16,
                norm_num_groups=4,
                scaling_factor=1.5305,
                shift_factor=0.0609,
                use_quant_conv=False,
                use_post_quant_conv=False,
            ),
            text_encoder=clip_encoder(12),
            tokenizer=clip_tokenizer(),
            text_encoder_2=clip_encoder(8),
            tokenizer_2=clip_tokenizer(),
            text_encoder_3=T5EncoderModel(
                T5Config(vocab_size=30, d_model=32, d_ff=16, d_kv=8, num_heads=2, num_layers=1)
            ),
            tokenizer_3=T5TokenizerFast(vocab=pieces, extra_ids=0),
        ).save_pretrained(path)
    return path


def load(folder: Path, **changes: object) -> PipelineModel:
    return load_sd3(folder, **{"rank": 4, "dtype": torch.float32, **changes})


def stir(model: PipelineModel, seed: int = 1, size: float = 0.3) -> PipelineModel:
    """Give the LoRA a weight that shows."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * size)
    return model


def kept(model: PipelineModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.lora_state().items()}


def velocity_of(model: PipelineModel, sigma: float = 0.7, rows: int = 2, prompt: str = PROMPT) -> Tensor:
    x = model.noise(3, rows)
    with torch.no_grad():
        return model.run([model.encode(prompt)], lambda velocity: velocity(x, torch.tensor(sigma)))


def weigh(v: Tensor) -> Tensor:
    """A scalar of a velocity that every element enters with a weight of its own."""
    return (v * torch.linspace(-1, 1, v.numel()).view_as(v)).sum()


def gradients(model: PipelineModel, between: object = None, within: object = None) -> list[Tensor]:
    """The LoRA's gradient, with something done between forward and backward, and the backward in some context."""
    for parameter in model.parameters():
        parameter.grad = None

    def body(velocity):
        loss = weigh(velocity(model.noise(3, 2), torch.tensor(0.7)))
        if between is not None:
            between(velocity)
        with within or nullcontext():
            loss.backward()

    model.run([model.encode(PROMPT)], body)
    return [parameter.grad.clone() for parameter in model.parameters()]


UNUSED = "transformer_blocks.2.attn.add_q_proj"
"""The last block throws its text tokens away, and so what they ask for."""


def without_gradient(model: PipelineModel) -> set[str]:
    found = zip(model.lora_state(), gradients(model), strict=True)
    return {name.rsplit(".", 2)[0] for name, gradient in found if not gradient.abs().sum() > 0}


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))
