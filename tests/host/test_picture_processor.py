"""Pictures for text encoders that see, without torchvision, against transformers' own with it: the host has it."""

import string
from pathlib import Path

import pytest
import torch
import transformers
from mixgrpo_pack.mixgrpo_core.models.diffusers.processors import PictureProcessor
from PIL import Image

pytest.importorskip("torchvision")
SEEN = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def test_tokens_and_patches_are_those_of_transformers(tmp_path: Path) -> None:
    words = {word: number for number, word in enumerate(("<|endoftext|>", "Ġ", *string.ascii_letters))}
    tokenizer = transformers.Qwen2Tokenizer(vocab=words, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": list(SEEN)})
    pictures = transformers.Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=16 * 28 * 28)
    theirs = transformers.Qwen2VLProcessor(
        image_processor=pictures, tokenizer=tokenizer, video_processor=transformers.Qwen2VLVideoProcessor()
    )
    theirs.save_pretrained(tmp_path)
    ours = PictureProcessor.of(transformers.AutoTokenizer.from_pretrained(tmp_path), tmp_path)
    noise = Image.effect_noise((300, 200), 50).convert("RGB")
    for images in ([noise], [noise, noise.rotate(90, expand=True)]):
        text = ["ab " + "<|vision_start|><|image_pad|><|vision_end|>" * len(images) + " cd"]
        wanted, found = (each(text=text, images=images, padding=True, return_tensors="pt") for each in (theirs, ours))
        assert set(found) == {"input_ids", "attention_mask", "pixel_values", "image_grid_thw"}
        for name, tensor in found.items():
            assert torch.equal(tensor, wanted[name]), name
