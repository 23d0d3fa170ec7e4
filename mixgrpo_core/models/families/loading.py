"""A model of any family from a local diffusers folder."""

from pathlib import Path
from types import MappingProxyType

import torch

from ..diffusers.frames import PICTURE, Frames
from ..diffusers.frozen_loras import Loras
from ..diffusers.loading import INDEX, read_json, require_folder
from ..diffusers.model import PipelineModel
from ..diffusers.proof import prove as proven
from ..diffusers.smaller import AS_IT_IS, Smaller
from ..lora_layers import Layers
from .one_family import load_family
from .table import family_of
from .unlisted import attempted


def load_pipeline(
    folder: str | Path,
    *,
    rank: int | None = None,
    alpha: float | None = None,
    resolution: tuple[int, int] | None = None,
    guidance: float = 1.0,
    embedded_guidance: float | None = None,
    frames: Frames = PICTURE,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    gradient_checkpointing: bool = False,
    lora: str | Path | None = None,
    layers: Layers | None = None,
    loras: Loras = MappingProxyType({}),
    seed: int = 0,
    pipeline_grid: bool = False,
    prove: bool = True,
    smaller: Smaller = AS_IT_IS,
) -> PipelineModel:
    """A model from a local diffusers folder, of the family that its ``model_index.json`` names.

    Nothing is ever downloaded. Text encoders go when all prompts are encoded. Where no row of the table is about a
    pipeline, its own code is read, without guidance, and the proof tells whether rightly.

    Args:
        rank, alpha, seed: of the LoRA; None is the rank of ``lora``, or 32, and twice the rank. ``seed`` draws it.
        resolution: ``(H, W)``; None is the pipeline's own.
        guidance: classifier-free guidance; 1 is off, above it every velocity costs two evaluations.
        frames: of a video, by a family that makes them, and how many of them are decoded and scored.
        embedded_guidance: what a network distilled with guidance is told (FLUX.1 dev); None is the family's own.
        dtype: of the frozen weights and, below float32, of autocast. The LoRA and the VAE stay float32.
        lora, layers: a file to go on from; which layers carry the LoRA, None is those of the file, or the usual ones.
        loras: LoRA files that lie under it, with their strengths: they are merged, and part of the base model.
        pipeline_grid: whether steps lie as in diffusers' own pipeline where that shifts the ends twice.
        smaller: how the frozen weights are to take fewer bytes.
        prove: whether velocity and gradient are proven on one image; where there is no row, they always are.

    Raises:
        ValueError: the folder is not whole, or of a pipeline whose code does not say enough; a size, frames or guidance
            that the model does not have; a proof that fails; a quantization without its library.
    """
    require_folder(folder := Path(folder), (INDEX,))
    family = family_of(found := str(read_json(folder / INDEX).get("_class_name")))

    def loaded() -> PipelineModel:
        model = load_family(
            family,
            folder,
            rank=rank,
            alpha=alpha,
            resolution=resolution,
            guidance=guidance,
            embedded_guidance=embedded_guidance,
            frames=frames,
            dtype=dtype,
            device=device,
            gradient_checkpointing=gradient_checkpointing,
            lora=lora,
            layers=layers,
            loras=loras,
            seed=seed,
            pipeline_grid=pipeline_grid,
            smaller=smaller,
        )
        if prove or family is None:
            proven(model)
        return model

    return loaded() if family is not None else attempted(found, loaded)
