"""Files of reward models at full size, with random weights, in the layouts that users have."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mixgrpo_core.rewards.clip import CLIPScore, HPSv2
from mixgrpo_core.rewards.embedders.aesthetic import AestheticScore
from mixgrpo_core.rewards.embedders.dino import DinoV2
from mixgrpo_core.rewards.embedders.similarity import ImageSimilarity
from mixgrpo_core.rewards.image_reward import ImageReward
from mixgrpo_core.rewards.networks.places import Placement
from mixgrpo_core.rewards.networks.reference_picture import Pixels
from mixgrpo_core.rewards.port import Reward
from mixgrpo_core.rewards.siglip.scores import SigLIPScore

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "portrait", "of", "old", "fisherman", "red", "circle")


@dataclass(frozen=True)
class Case:
    """``write(folder, tiny)`` writes the files; ``make(folder, place, batch)`` is the reward that reads them."""

    write: Callable[[Path, bool], None]
    make: Callable[[Path, Placement, int], Reward]


def random_like(network: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights for a network of the meta device; small, so that nothing overflows."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: (
            torch.ones(value.shape)
            if value.ndim == 1 and "weight" in name
            else 0.02 * torch.randn(value.shape, generator=generator)
        ).to(dtype)
        for name, value in network.state_dict().items()
        if value.is_floating_point()
    }


def clip_file(
    folder: Path, vision: Mapping[str, int], text: Mapping[str, int], projected: int, activation: str = "gelu"
) -> None:
    """A whole CLIP in transformers' naming, float16."""
    from transformers import CLIPConfig, CLIPModel

    both = {"hidden_act": activation, "projection_dim": projected}
    config = CLIPConfig(
        vision_config={**vision, **both},
        text_config={**text, **both},
        projection_dim=projected,
    )
    with torch.device("meta"):
        network = CLIPModel(config)
    save_file(random_like(network, torch.float16), folder / "clip.safetensors")


def vit(width: int, layers: int, heads: int, side: int = 224, patch: int = 14) -> dict[str, int]:
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
    return {**sizes, "num_attention_heads": heads, "image_size": side, "patch_size": patch}


def words(width: int, layers: int) -> dict[str, int]:
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers}
    return {**sizes, "num_attention_heads": width // 64}


def write_hps(folder: Path, tiny: bool) -> None:
    clip_file(folder, vit(1280, 1 if tiny else 32, 16), words(1024, 1 if tiny else 24), 1024)


def write_dfn(folder: Path, tiny: bool) -> None:
    vision = vit(1280, 1 if tiny else 32, 16, side=378)
    clip_file(folder, vision, words(1024, 1 if tiny else 24), 1024, activation="quick_gelu")


def write_clip_l(folder: Path, tiny: bool) -> None:
    vision, text = vit(1024, 1 if tiny else 24, 16), words(768, 1 if tiny else 12)
    clip_file(folder, vision, text, 768, activation="quick_gelu")


def write_aesthetic(folder: Path, tiny: bool) -> None:
    write_clip_l(folder, tiny)
    layers = {}
    for number, (into, out) in zip((0, 2, 4, 6, 7), pairwise((768, 1024, 128, 64, 16, 1)), strict=True):
        layers |= {f"layers.{number}.weight": 0.1 * torch.randn(out, into), f"layers.{number}.bias": torch.zeros(out)}
    torch.save(layers, folder / "sac+logos+ava1-l14-linearMSE.pth")


def write_dino(folder: Path, tiny: bool) -> None:
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=768, num_hidden_layers=1 if tiny else 12, num_attention_heads=12, image_size=518)
    with torch.device("meta"):
        network = Dinov2Model(config)
    save_file(random_like(network, torch.float32), folder / "dinov2-base.safetensors")


def write_siglip(folder: Path, tiny: bool) -> None:
    """So400m, patches of 14 at 384 pixels, with a tokenizer of made-up words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import SiglipConfig, SiglipModel

    both = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 1 if tiny else 27}
    both["num_attention_heads"] = 16
    config = SiglipConfig(
        vision_config={**both, "image_size": 384, "patch_size": 14, "model_type": "siglip_vision_model"},
        text_config={**both, "vocab_size": 32000, "projection_size": 1152, "model_type": "siglip_text_model"},
    )
    with torch.device("meta"):
        network = SiglipModel(config)
    save_file(random_like(network, torch.float32), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_diff_dict()))
    words = ["<pad>", "</s>", "<unk>", *(f"word{i}" for i in range(31997))]
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))


def write_image_reward(folder: Path, tiny: bool) -> None:
    """ImageReward.pt: BLIP's ViT-L/16 and a BERT that attends to it, under BLIP's own names."""
    generator, wide, deep = torch.Generator().manual_seed(0), 1024, 1 if tiny else 24
    tensors: dict[str, Tensor] = {}

    def put(name: str, *shape: int) -> None:
        tensors[name] = 0.02 * torch.randn(*shape, generator=generator)

    def linear(name: str, out: int, into: int) -> None:
        put(f"{name}.weight", out, into)
        put(f"{name}.bias", out)

    def norm(name: str, width: int) -> None:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = torch.ones(width), torch.zeros(width)

    see, read = "blip.visual_encoder.", "blip.text_encoder."
    put(f"{see}cls_token", 1, 1, wide)
    put(f"{see}pos_embed", 1, 197, wide)
    put(f"{see}patch_embed.proj.weight", wide, 3, 16, 16)
    put(f"{see}patch_embed.proj.bias", wide)
    norm(f"{see}norm", wide)
    for layer in range(deep):
        block = f"{see}blocks.{layer}."
        norm(f"{block}norm1", wide)
        norm(f"{block}norm2", wide)
        linear(f"{block}attn.qkv", 3 * wide, wide)
        linear(f"{block}attn.proj", wide, wide)
        linear(f"{block}mlp.fc1", 4 * wide, wide)
        linear(f"{block}mlp.fc2", wide, 4 * wide)
    put(f"{read}embeddings.word_embeddings.weight", 30524, 768)
    put(f"{read}embeddings.position_embeddings.weight", 512, 768)
    norm(f"{read}embeddings.LayerNorm", 768)
    for layer in range(1 if tiny else 12):
        block = f"{read}encoder.layer.{layer}."
        for attention, keys in (("attention", 768), ("crossattention", wide)):
            linear(f"{block}{attention}.self.query", 768, 768)
            linear(f"{block}{attention}.self.key", 768, keys)
            linear(f"{block}{attention}.self.value", 768, keys)
            linear(f"{block}{attention}.output.dense", 768, 768)
            norm(f"{block}{attention}.output.LayerNorm", 768)
        linear(f"{block}intermediate.dense", 3072, 768)
        linear(f"{block}output.dense", 768, 3072)
        norm(f"{block}output.LayerNorm", 768)
    for number, (into, out) in zip((0, 2, 4, 6, 7), pairwise((768, 1024, 128, 64, 16, 1)), strict=True):
        linear(f"mlp.layers.{number}", out, into)
    torch.save(tensors, folder / "ImageReward.pt")
    (folder / "vocab.txt").write_text("\n".join([*WORDS, *(f"word{i}" for i in range(30522 - len(WORDS)))]) + "\n")


def clip_in(folder: Path) -> str:
    return str(folder / "clip.safetensors")


def resembling(folder: Path, place: Placement, batch: int) -> Reward:
    reference = Pixels(torch.rand(256, 256, 3, generator=torch.Generator().manual_seed(1)))
    return ImageSimilarity(DinoV2(str(folder / "dinov2-base.safetensors")), reference, place=place, batch=batch)


def beautiful(folder: Path, place: Placement, batch: int) -> Reward:
    return AestheticScore(str(folder / "sac+logos+ava1-l14-linearMSE.pth"), clip_in(folder), place=place, batch=batch)


def matching(folder: Path, place: Placement, batch: int) -> Reward:
    return CLIPScore(clip_in(folder), place=place, batch=batch)


CASES: Mapping[str, Case] = {
    "HPSv2": Case(write_hps, lambda folder, place, batch: HPSv2(clip_in(folder), place=place, batch=batch)),
    "CLIPScore, OpenAI L/14": Case(write_clip_l, matching),
    "CLIPScore, DFN5B H/14 at 378": Case(write_dfn, matching),
    "SigLIP so400m at 384": Case(
        write_siglip, lambda folder, place, batch: SigLIPScore(str(folder), place=place, batch=batch)
    ),
    "ImageReward": Case(
        write_image_reward,
        lambda folder, place, batch: ImageReward(str(folder / "ImageReward.pt"), place=place, batch=batch),
    ),
    "aesthetic v2": Case(write_aesthetic, beautiful),
    "similarity, DINOv2 base": Case(write_dino, resembling),
}
