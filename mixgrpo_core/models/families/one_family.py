"""A model from a local diffusers folder, by its family's row."""

from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch
from diffusers.models.modeling_utils import ModelMixin

from ..diffusers.arguments import require_range
from ..diffusers.diffusion_probe import DiffusionProbe
from ..diffusers.family import Family
from ..diffusers.frames import PICTURE, Frames
from ..diffusers.frozen_loras import Loras, merge_loras, names_of
from ..diffusers.grid import even_grid
from ..diffusers.loading import (
    INDEX,
    ModelFilesError,
    is_flow,
    load_network,
    load_vae,
    pipeline_of,
    read_index,
    read_json,
    require_flow,
    require_folder,
)
from ..diffusers.model import PipelineModel
from ..diffusers.peft_lora import attach_lora
from ..diffusers.probe import Probe
from ..diffusers.smaller import AS_IT_IS, Smaller
from ..diffusers.texts import PipelineTexts
from ..lora_file import load_lora
from ..lora_layers import Layers
from .unlisted import family_from, network_part, with_shapes

DEFAULT_RANK = 32
_ANY_PROMPT = "a photograph of a red circle on a blue table"


def load_family(
    family: Family | None,
    folder: str | Path,
    *,
    rank: int | None,
    alpha: float | None,
    resolution: tuple[int, int] | None,
    guidance: float,
    dtype: torch.dtype,
    device: torch.device | str,
    gradient_checkpointing: bool,
    lora: str | Path | None,
    seed: int,
    pipeline_grid: bool,
    layers: Layers | None = None,
    loras: Loras = MappingProxyType({}),
    embedded_guidance: float | None = None,
    frames: Frames = PICTURE,
    smaller: Smaller = AS_IT_IS,
) -> PipelineModel:
    """A folder of one family; `load_pipeline` says what is usual. None is one that no row is about."""
    require_range(dtype)
    folder = Path(folder)
    require_folder(folder, (INDEX,))
    index = read_index(folder, () if family is None else family.optional)
    part = network_part(index) if family is None else family.network
    require_folder(folder, (part, "vae", "scheduler"))
    _require_trainable(family, folder, part)
    probe = _probe(folder, family)
    network = load_network(folder / part, index.part(part), dtype, smaller.there())
    _require_images_from_noise(network, folder)
    listed, family = family is not None, family or family_from(index.pipeline, network, part)
    vae = load_vae(folder / "vae", index.part("vae"))
    texts = PipelineTexts(index, family, {part: network, "vae": vae}, dtype, torch.device(device))
    if not listed:
        family = with_shapes(family, texts(_ANY_PROMPT))
        texts.release()
    merge_loras(network, index.pipeline, loras)
    smaller.finish(network, dtype, torch.device(device))
    adapter = attach_lora(
        network,
        family.linears,
        rank=rank,
        alpha=alpha,
        seed=seed,
        file=None if lora is None else load_lora(lora),
        default_rank=DEFAULT_RANK,
        layers=layers,
    )
    for module in network.modules():
        module.training = type(module).__name__ in family.training
    guider = {} if family.guider is None else {"guider": family.guider(guidance)}
    return PipelineModel(
        pipeline_of(index, **{part: network, "vae": vae, "scheduler": probe, **guider}),
        family,
        texts,
        adapter,
        resolution=resolution,
        guidance=guidance,
        embedded_guidance=embedded_guidance,
        frames=frames,
        grids=partial(even_grid, folder / "scheduler", family.side, pipeline_grid) if family.even_grid else None,
        compute=dtype,
        device=device,
        gradient_checkpointing=gradient_checkpointing,
        offload=smaller.offload,
        ranks=smaller.ranks,
        architecture=family.architecture(network.config),
        base_model=" + ".join(filter(None, (folder.name, names_of(loras)))),
    )


def _probe(folder: Path, family: Family | None) -> Probe | DiffusionProbe:
    """What stands in for the folder's scheduler."""
    settings = read_json(folder / "scheduler" / "scheduler_config.json")
    if family is not None and family.diffusion and is_flow(settings):
        raise ModelFilesError(
            f"expected a scheduler of noise or v-prediction in {folder}, found {settings.get('_class_name')}, with "
            f"which diffusers does not run a {family.pipelines[0]}: write an EulerDiscreteScheduler there"
        )
    if (family is None or family.diffusion) and not is_flow(settings):
        return DiffusionProbe.of(settings, folder / "scheduler")
    require_flow(settings, folder)
    return Probe.of(settings)


def _require_trainable(family: Family | None, folder: Path, part: str) -> None:
    """Raise where the family's row knows that a folder cannot be trained."""
    why = "" if family is None else family.refused(read_json(folder / INDEX), read_json(folder / part / "config.json"))
    if why:
        raise ModelFilesError(f"{folder} cannot be trained: {why}")


def _require_images_from_noise(network: ModelMixin, folder: Path) -> None:
    """Raise for a UNet that is given more than noise: a picture to fill in, to follow or to enlarge."""
    taken, given = (network.config.get(name) for name in ("in_channels", "out_channels"))
    if "UNet" in type(network).__name__ and taken != given:
        raise ModelFilesError(
            f"expected a model that makes images from noise alone in {folder}, found a UNet that takes {taken} "
            f"channels for the {given} of an image (inpainting or instructions): use the base model that it was made of"
        )
