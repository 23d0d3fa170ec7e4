"""The demo model that ships with the package: 64 x 64 pixels, four shapes in a few colours, a CPU is enough."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ..diffusers.grid import read_grid
from ..diffusers.loading import load_transformer, load_vae, require_folder
from ..diffusers.peft_lora import attach_lora
from ..lora_file import load_lora
from .caption_encoder import CaptionEncoder
from .sd3 import SD3Model

DEMO = Path(__file__).resolve().parents[2] / "assets" / "demo"
_CAPTIONS = "caption_encoder.safetensors"


def load_demo(
    *,
    rank: int | None = None,
    alpha: float | None = None,
    lora: str | Path | None = None,
    seed: int = 0,
    guidance: float = 1.0,
    device: torch.device | str = "cpu",
    gradient_checkpointing: bool = False,
    folder: str | Path = DEMO,
    pipeline_grid: bool = False,
) -> SD3Model:
    """The demo model with a LoRA, computed in float32.

    Args:
        rank: of the LoRA; None is the rank of ``lora``, or 8.
        alpha: None is twice the rank.
        lora: a LoRA file to go on from.
        seed: draws the LoRA's first values.
        folder: where another model of the same make stands.
        pipeline_grid: see `load_sd3`.
    """
    folder = Path(folder)
    require_folder(folder, ("transformer", "vae", "scheduler", _CAPTIONS))
    transformer = load_transformer(folder / "transformer", torch.float32)
    file = None if lora is None else load_lora(lora)
    return SD3Model(
        transformer=transformer,
        vae=load_vae(folder / "vae"),
        texts=CaptionTexts(CaptionEncoder.load(folder / _CAPTIONS)),
        lora=attach_lora(transformer, rank=rank, alpha=alpha, seed=seed, file=file, default_rank=8),
        guidance=guidance,
        grid=read_grid(folder / "scheduler", tokens=256, pipeline=pipeline_grid),
        device=device,
        gradient_checkpointing=gradient_checkpointing,
        architecture="mixgrpo-demo",
        base_model="mixgrpo-demo",
    )


class CaptionTexts:
    """Prompts through the caption encoder, which is too small to be worth releasing."""

    def __init__(self, encoder: CaptionEncoder) -> None:
        self._encoder = encoder

    def __call__(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        return self._encoder([text])

    @property
    def digest(self) -> str:
        """Its embeddings take some KiB, and less than a file's reading to make."""
        return ""

    @property
    def limit(self) -> None:
        """A longer caption is an error."""

    def by_encoder(self, embeds: torch.Tensor, pooled: torch.Tensor) -> Mapping[str, torch.Tensor]:
        return {"the caption encoder": embeds}

    def release(self) -> None:
        """Nothing to let go of."""
