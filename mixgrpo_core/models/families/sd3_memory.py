"""What the network of an SD3 folder holds while it computes, before anybody has read its weights."""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor

from ...support.activations import PassMemory
from ..diffusers.calls import Call
from ..diffusers.checkpointing import Checkpointing
from ..diffusers.decoding import at_once
from ..diffusers.loading import read_json, require_folder
from ..diffusers.memory import decoding_memory, pass_memory
from ..diffusers.peft_lora import PeftLora, attach_lora
from ..diffusers.repeated import AT_ONCE, repeated_blocks, waiting_places
from ..diffusers.sizes import latent_shape, pixels_of
from ..diffusers.smaller import AS_IT_IS, Smaller
from ..lora_file import load_lora
from ..lora_layers import Layers
from .sd3 import SD3


@dataclass(frozen=True, kw_only=True)
class Unloaded:
    """A folder's network that has a shape and no weights.

    Attributes:
        folder: with the configuration of its autoencoder.
        pixels: ``(H, W)`` of its images.
        weights: bytes that the network's weights will take on the device; in shards with the block that is whole.
        waiting: bytes of those that are in main memory instead.
        lora: bytes of the trained tensors.
    """

    folder: Path
    pixels: tuple[int, int]
    transformer: SD3Transformer2DModel
    adapter: PeftLora
    latent: tuple[int, ...]
    weights: int
    waiting: int
    lora: int

    def memory(self, *, rows: int, compute: torch.dtype, checkpointing: bool) -> PassMemory:
        """Bytes besides the weights of a call, by its images, each of which is ``rows`` of the network."""

        def calls(images: int) -> list[Call]:
            many = images * rows
            texts = SD3.example(self.transformer.config, torch.zeros)
            told = {
                "hidden_states": torch.zeros(many, *self.latent),
                "timestep": torch.zeros(many),
                "encoder_hidden_states": texts["prompt_embeds"].expand(many, -1, -1),
                "pooled_projections": texts["pooled_prompt_embeds"].expand(many, -1),
                "return_dict": False,
            }
            return [((), told)]

        low = compute != torch.float32
        with torch.autocast("cpu", compute if low else None, enabled=low, cache_enabled=False):
            blocks = Checkpointing(self.transformer, self.adapter)
            return pass_memory(self.transformer, self.adapter, calls, blocks, checkpointing=checkpointing)

    def decoding(self, images: int) -> int | None:
        """Bytes besides the weights that so many images take to be decoded; None where it cannot be told."""
        config = read_json(self.folder / "vae" / "config.json")
        if config.get("_class_name") != AutoencoderKL.__name__:
            return None
        with torch.device("meta"):
            autoencoder = AutoencoderKL.from_config(config)

        def decode(x: Tensor) -> Tensor:
            parts = [autoencoder.decode(part).sample / 2 + 0.5 for part in x.split(at_once(self.pixels))]
            return torch.cat(parts).movedim(1, -1).contiguous()

        return decoding_memory(SD3.name, autoencoder, decode, (images, *self.latent))


def is_sd3(folder: str | Path) -> bool:
    """Whether a folder's network is of Stable Diffusion 3."""
    found = read_json(Path(folder) / "transformer" / "config.json").get("_class_name")
    made: bool = found == SD3Transformer2DModel.__name__
    return made


def unloaded_sd3(
    folder: str | Path,
    *,
    rank: int | None = None,
    lora: str | Path | None = None,
    layers: Layers | None = None,
    resolution: tuple[int, int] | None = None,
    dtype: torch.dtype = torch.bfloat16,
    smaller: Smaller = AS_IT_IS,
) -> Unloaded:
    """The network of a local diffusers folder as ``load_sd3`` would load it, of its configuration alone."""
    folder = Path(folder)
    require_folder(folder, ("transformer", "vae"))
    with torch.device("meta"):
        transformer = SD3Transformer2DModel.from_config(read_json(folder / "transformer" / "config.json")).to(dtype)
    sizes = smaller.bytes_of(transformer, dtype)
    side = pixels_of(read_json(folder / "vae" / "config.json"))
    file = None if lora is None else load_lora(lora)
    rank = rank or (32 if file is None else file.rank)
    adapter = attach_lora(
        transformer, SD3.linears, rank=rank, alpha=None, seed=0, file=None, default_rank=32, layers=layers
    )
    blocks = [
        sum(sizes.get(weight, 0) for weight in block.parameters())
        for block in repeated_blocks(transformer, adapter).values()
    ]
    waiting = [blocks[place] for place in waiting_places(smaller.offload, len(blocks), type(transformer).__name__)]
    away = sum(waiting) - sum(sorted(waiting, reverse=True)[:AT_ONCE])
    if smaller.ranks.size > 1:  # a block is put together of a copy of its parts
        away = sum(blocks) * (1 - 1 / smaller.ranks.size) - 2 * max(blocks)
    pixels = resolution or (transformer.config["sample_size"] * side,) * 2
    return Unloaded(
        folder=folder,
        pixels=pixels,
        transformer=transformer,
        adapter=adapter,
        latent=latent_shape(transformer, side, pixels),
        weights=round(sum(sizes.values()) - away),
        waiting=round(sum(waiting)),
        lora=sum(tensor.numel() * tensor.element_size() for tensor in adapter.trained.values()),
    )
