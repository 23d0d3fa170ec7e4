"""The demo model that ships with the package: 64 x 64 pixels, four shapes in a few colours, a CPU is enough."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline

from ..diffusers.family import NEGATIVE, Config, Embeds
from ..diffusers.frozen_loras import Loras, merge_loras, names_of
from ..diffusers.grid import even_grid
from ..diffusers.loading import load_network, load_vae, read_json, require_folder
from ..diffusers.model import PipelineModel
from ..diffusers.peft_lora import attach_lora
from ..diffusers.probe import Probe
from ..diffusers.references import Reference
from ..lora_file import load_lora
from ..lora_layers import Layers
from .caption_encoder import TOKENS, CaptionEncoder
from .demo_edit import LORA, MAP, DemoEditPipeline, ReferenceMap
from .sd3 import SD3

DEMO = Path(__file__).resolve().parents[2] / "assets" / "demo"
EDIT = DEMO.with_name("demo_edit")
_CAPTIONS = "caption_encoder.safetensors"
_NO_TEXTS = tuple(f"{part}{number}" for part in ("text_encoder", "tokenizer") for number in ("", "_2", "_3"))


def load_demo(
    *,
    rank: int | None = None,
    alpha: float | None = None,
    lora: str | Path | None = None,
    layers: Layers | None = None,
    loras: Loras = MappingProxyType({}),
    seed: int = 0,
    guidance: float = 1.0,
    device: torch.device | str = "cpu",
    gradient_checkpointing: bool = False,
    folder: str | Path = DEMO,
    pipeline_grid: bool = False,
    edit: bool = False,
) -> PipelineModel:
    """The demo model with a LoRA, computed in float32.

    Args:
        rank: of the LoRA; None is the rank of ``lora``, or 8.
        alpha: None is twice the rank.
        lora: a LoRA file to go on from.
        layers, loras: see `load_pipeline`.
        seed: draws the LoRA's first values.
        folder: where another model of the same make stands.
        pipeline_grid: see `load_sd3`.
        edit: its twin, which repaints the figure of a picture in the colour that the caption names.
    """
    folder = Path(folder)
    require_folder(folder, ("transformer", "vae", "scheduler", _CAPTIONS))
    network = load_network(folder / "transformer", "SD3Transformer2DModel", torch.float32)
    merge_loras(network, StableDiffusion3Pipeline, {**({EDIT / LORA: 1.0} if edit else {}), **loras})
    file = None if lora is None else load_lora(lora)
    parts: dict[str, Any] = {
        "transformer": network,
        "vae": load_vae(folder / "vae", "AutoencoderTiny"),
        "scheduler": Probe.of(read_json(folder / "scheduler" / "scheduler_config.json")),
    }
    kind: Any = DemoEditPipeline if edit else StableDiffusion3Pipeline
    pipe = kind(**parts, **dict.fromkeys(_NO_TEXTS))
    if edit:
        pipe.reference = ReferenceMap.load(EDIT / MAP, network).to(device)
        pipe.reference.attach(network)
    return PipelineModel(
        pipe,
        _EDITS if edit else _DRAWS,
        CaptionTexts(CaptionEncoder.load(folder / _CAPTIONS)),
        attach_lora(network, SD3.linears, rank=rank, alpha=alpha, seed=seed, file=file, default_rank=8, layers=layers),
        guidance=guidance,
        grids=partial(even_grid, folder / "scheduler", SD3.side, pipeline_grid),
        device=device,
        gradient_checkpointing=gradient_checkpointing,
        architecture="mixgrpo-demo-edit" if edit else "mixgrpo-demo",
        base_model=" + ".join(filter(None, ("mixgrpo-demo-edit" if edit else "mixgrpo-demo", names_of(loras)))),
    )


def _example(network: Config, draw: Callable[..., torch.Tensor]) -> Embeds:
    return {**SD3.example(network, draw), "prompt_embeds": draw(1, TOKENS, network["joint_attention_dim"])}


_DRAWS = replace(SD3, name="the demo model", example=_example)
_EDITS = replace(_DRAWS, name="the demo's edit twin", reads_pictures=True, needs_picture=True, own_area=True)


class CaptionTexts:
    """Prompts through the caption encoder, which is too small to be worth releasing."""

    def __init__(self, encoder: CaptionEncoder) -> None:
        self._encoder = encoder

    def __call__(self, text: str, picture: Reference | None = None) -> Embeds:
        embeds, pooled = self._encoder([text])
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}

    sees = False

    def negative(self, picture: Reference | None = None) -> Embeds:
        return {NEGATIVE + name: tensor for name, tensor in self("").items()}

    @property
    def digest(self) -> str:
        """Its embeddings take some KiB, and less than a file's reading to make."""
        return ""

    @property
    def limit(self) -> None:
        """A longer caption is an error."""

    def by_encoder(self, made: Embeds) -> Mapping[str, torch.Tensor]:
        return {"the caption encoder": made["prompt_embeds"]}

    def release(self) -> None:
        """Nothing to let go of."""
