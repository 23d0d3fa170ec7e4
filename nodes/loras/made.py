"""A LoRA that a node makes without a run: its file, the MODEL with it, and pictures of what it does."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

import comfy.model_management
import torch
from comfy_api.latest import io
from PIL import Image
from torch import Tensor

from ...mixgrpo_core.evaluation.shown import shown_images
from ...mixgrpo_core.models.port import FlowModel, LoraState
from ...mixgrpo_core.support.micro_batches import ran_out
from ...mixgrpo_core.views.grids import labelled_grid
from ..host.model import HostModel
from ..live.canvas_run import loras_folder
from ..names import check_name, require_place
from ..training.loop import SHOWN_IMAGES, OutOfMemory
from ..training.outcome import TILE
from ..training.runs import require_writable
from .files import free_path

log = logging.getLogger(__name__)
OWN = "the LoRA as it is"
Grid = Callable[[FlowModel], Tensor]
"""The sigmas that pictures are made with, of a model."""
R = TypeVar("R")


def name_input(default: str) -> io.Input:
    """The name of the LoRA's file."""
    return io.String.Input(
        "name",
        default=default,
        tooltip="Name of the LoRA file in output/loras/mixgrpo; portraits/anna is anna in the folder portraits. A file "
        "that exists is kept, the new one gets a number.",
    )


def require_file_name(name: str) -> str:
    """The name in its composed form. Raises ``ValueError`` or ``RunError`` where no file of it can be written."""
    found = check_name(name, "name")
    folder = loras_folder()
    require_place(folder, f"{found}.safetensors", "name")
    require_writable((folder / found).parent)
    return found


def new_file(name: str) -> Path:
    """Where the LoRA will be; a file of that name stays as it is."""
    return free_path(loras_folder(), require_file_name(name))


def ended_early(work: str, path: Path) -> Callable[[int], None]:
    """What is told where a training breaks off: its LoRA stands."""
    return lambda update: log.warning("MixGRPO: %s ended after update %s; its LoRA is %s", work, update, path)


def fitting_batch(attempt: Callable[[int], R], policy: HostModel, batch: int) -> R:
    """``attempt`` with so many images at a time, begun anew with half of them where memory runs out.

    Raises:
        OutOfMemory: with one image, too.
    """
    start = {name: tensor.clone() for name, tensor in policy.lora_state().items()}
    while True:
        try:
            return attempt(batch)
        except Exception as error:
            if not ran_out(error):
                raise
            if batch == 1:
                raise OutOfMemory(
                    "out of memory with one image at a time: choose a smaller width and height, a lower rank, or a "
                    "quantised model"
                ) from error
        batch //= 2
        policy.load_lora_state(start)
        comfy.model_management.soft_empty_cache()
        log.warning("MixGRPO: out of memory, begun anew with %s images at a time", batch)


def pictures(
    policy: HostModel, prompts: Sequence[str], columns: Mapping[str, LoraState | str | None], sigmas: Grid
) -> Image.Image:
    """Prompts down, LoRAs across: weights by name, ``None`` without any, ``OWN`` for those in training."""

    def made(batch: int) -> list[list[Tensor]]:
        found = []
        for index, prompt in enumerate(prompts):
            row = []
            for weights in columns.values():
                with nullcontext() if isinstance(weights, str) else policy.with_weights(weights), torch.no_grad():
                    row.append(
                        shown_images(
                            policy, prompt, index, sigmas, images=SHOWN_IMAGES, batch=batch, decode_batch=batch
                        )
                    )
            found.append(row)
        return found

    return labelled_grid(fitting_batch(made, policy, SHOWN_IMAGES), list(prompts), list(columns), tile=TILE)
