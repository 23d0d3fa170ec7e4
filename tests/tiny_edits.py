"""Tiny random pipelines of the families that edit pictures and see them: Qwen-Image-Edit and its Plus."""

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKLQwenImage
from tiny_pipelines import qwen_parts, qwen_tokenizer

from mixgrpo_core.models.diffusers.processors import PictureProcessor

SIDE = 64  # of the images; the reference pictures become of one megapixel, 32 times as long a side
EDITS = {"qwen-edit": "QwenImageEditPipeline", "qwen-edit-plus": "QwenImageEditPlusPipeline"}
_SEEN = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def make_folder(name: str, path: Path) -> Path:
    """Write a pipeline to ``path``; its processor lies there as the real one's, without what is for videos."""
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = _parts()
        getattr(diffusers, EDITS[name])(**parts, processor=None).save_pretrained(path)
    parts["tokenizer"].save_pretrained(path / "processor")
    pictures = transformers.Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=2 * 28 * 28)
    pictures.save_pretrained(path / "processor")
    index = json.loads((path / "model_index.json").read_text())
    (path / "model_index.json").write_text(json.dumps({**index, "processor": ["transformers", "Qwen2VLProcessor"]}))
    return path


def diffusers_own(folder: Path) -> Any:
    """The pipeline as diffusers loads it, where torchvision is missing too."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "processor")
    processor = PictureProcessor.of(tokenizer, folder / "processor")
    made = diffusers.DiffusionPipeline.from_pretrained(folder, processor=None)
    made.processor = processor
    made.set_progress_bar_config(disable=True)
    return made


def _parts() -> dict[str, Any]:
    tokenizer = qwen_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", *_SEEN]})
    numbers = {word: tokenizer.convert_tokens_to_ids(word) for word in _SEEN}
    plain = qwen_parts()
    text = {**plain["text_encoder"].config.text_config.to_dict(), "vocab_size": len(tokenizer)}
    seen = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    config = transformers.Qwen2_5_VLConfig(
        text_config=text,
        vision_config=seen,
        image_token_id=numbers["<|image_pad|>"],
        video_token_id=numbers["<|video_pad|>"],
        vision_start_token_id=numbers["<|vision_start|>"],
        vision_end_token_id=numbers["<|vision_end|>"],
    )
    return {
        **plain,
        "vae": AutoencoderKLQwenImage(
            base_dim=2,
            z_dim=4,
            dim_mult=[1] * 6,
            num_res_blocks=1,
            temperal_downsample=[False] * 5,
            latents_mean=[0.1] * 4,
            latents_std=[0.8] * 4,
        ),
        "text_encoder": transformers.Qwen2_5_VLForConditionalGeneration(config).eval(),
        "tokenizer": tokenizer,
    }
