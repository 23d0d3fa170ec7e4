"""A LoRA that a node makes without a run: its file, the MODEL with it, and pictures of what it does."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import comfy.model_management
from comfy_api.latest import io
from PIL import Image
from torch import Tensor

from ...mixgrpo_core.evaluation.shown import IMAGES
from ...mixgrpo_core.models.port import FlowModel, LoraState
from ...mixgrpo_core.training.out_of_memory import OutOfMemory as TooLarge
from ...mixgrpo_core.training.out_of_memory import begun_anew
from ...mixgrpo_core.views.before_after import lora_sheet
from ..host.model import HostModel
from ..live.canvas_run import loras_folder
from ..names import check_name, require_place
from ..training.loop import OutOfMemory, no_room
from ..training.runs import require_writable
from .files import free_path

log = logging.getLogger(__name__)
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


def fitting_batch(attempt: Callable[[int], R], policy: HostModel, batch: int, work: str = "training") -> R:
    """``begun_anew`` of the core, with the host's caches emptied between attempts.

    Raises:
        OutOfMemory: with one image, too; says what to lower.
    """

    def lowered(words: str) -> None:
        comfy.model_management.soft_empty_cache()
        log.warning("MixGRPO: %s", words)

    try:
        return begun_anew(attempt, policy, batch, work, lowered)
    except TooLarge as error:
        raise OutOfMemory(no_room(error.work)) from error


def pictures(
    policy: HostModel, prompts: Sequence[str], columns: Mapping[str, LoraState | None], sigmas: Grid
) -> Image.Image:
    """Prompts down, LoRAs across: weights by name, ``None`` without any."""

    def attempt(batch: int) -> Image.Image:
        return lora_sheet(policy, prompts, columns, sigmas, batch=batch, decode_batch=batch)

    return fitting_batch(attempt, policy, IMAGES, "sampling")
