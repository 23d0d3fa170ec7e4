"""A LoRA that is made without a run: its training fits in memory, and pictures say what it does."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image
from rich.console import Console
from torch import Tensor

from ..evaluation.shown import IMAGES
from ..models.port import FlowModel, LoraState
from ..training.out_of_memory import OutOfMemory as OneImageTooLarge
from ..training.out_of_memory import begun_anew
from ..views.before_after import lora_sheet
from .memory import OutOfMemory

if TYPE_CHECKING:  # it imports diffusers
    from ..models.diffusers.model import PipelineModel

R = TypeVar("R")


def begun_anew_on(model: "PipelineModel", attempt: Callable[[int], R], batch: int, work: str, console: Console) -> R:
    """`begun_anew` of the core, which is told on ``console``. Raises ``OutOfMemory``, which says what to lower."""
    try:
        return begun_anew(attempt, model, batch, work, lambda words: console.print(words, style="yellow"))
    except OneImageTooLarge as error:
        raise OutOfMemory(f"{error}, which cannot be lowered: make smaller images") from error


def drawn_sheet(
    model: "PipelineModel",
    prompts: Sequence[str],
    columns: Mapping[str, LoraState | None],
    steps: int,
    console: Console,
) -> Image.Image:
    """Pictures of LoRAs, on the model's own grid of so many steps or as few as it can do with."""

    def attempt(batch: int) -> Image.Image:
        def sigmas(sized: FlowModel[Any]) -> Tensor:
            return sized.grid(max(steps, model.min_steps))

        return lora_sheet(model, prompts, columns, sigmas, batch=batch, decode_batch=batch)

    return begun_anew_on(model, attempt, IMAGES, "sampling", console)
