"""Pictures of what LoRAs do: the shown prompts, each from one noise, a column for each LoRA and one without any."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from ..evaluation.shown import IMAGES, shown_images
from ..models.lora_file import LoraFile, load_lora
from ..models.port import Cond, FlowModel, LoraState
from ..runs.folder import RunFolder
from ..runs.gallery import result_of
from ..runs.metrics import iterations_done
from ..settings.config import TrainConfig
from .grids import labelled_grid, strip

TILE = 160
"""Height of a picture in pixels."""
WITHOUT, WITH = "without the LoRA", "with the LoRA"


class ReadsLoras(FlowModel[Cond], Protocol[Cond]):
    """A model whose LoRA can be that of a file."""

    def load_lora_file(self, file: LoraFile) -> None:
        """Afterwards the velocity is the file's."""
        ...


@torch.no_grad()
def lora_sheet(
    model: FlowModel[Cond],
    prompts: Sequence[str],
    columns: Mapping[str, LoraState | None],
    sigmas: Callable[[FlowModel[Cond]], Tensor],
    *,
    batch: int = IMAGES,
    decode_batch: int = IMAGES,
) -> Image.Image:
    """Prompts down, LoRAs across: weights by name, None without any.

    Args:
        sigmas: gives the grid ``[T + 1]`` of a model at a prompt's size.
        batch, decode_batch: rows at a time.
    """
    cells = []
    for index, prompt in enumerate(prompts):
        row = []
        for weights in columns.values():
            with model.with_weights(weights):
                images = shown_images(
                    model, prompt, index, sigmas, images=IMAGES, batch=batch, decode_batch=decode_batch
                )
            row.append(strip(images, TILE))
        cells.append(row)
    return labelled_grid(cells, list(prompts), list(columns), tile=TILE)


def before_after(model: ReadsLoras[Cond], run: RunFolder, prompts: Sequence[str], config: TrainConfig) -> Image.Image:
    """The shown ``prompts`` without and with a run's LoRA: the one that was kept, its average, or the last.

    Where the run kept an average of the LoRA, held-out figures and the best LoRA are the average's; so are the
    pictures. ``model`` wears that LoRA afterwards.
    """
    file, kept = result_of(run, averaged=config.ema is not None)
    if file != run.lora("last"):
        model.load_lora_file(load_lora(file))
    done = iterations_done(run.metrics())
    more = ", averaged" if file == run.lora("ema") else ""
    of = f"{done} iterations" if kept is None else f"iteration {kept}, which was kept"
    columns = {WITHOUT: None, f"{WITH}{more} ({of})": model.lora_state()}
    batches = {"batch": config.rollout_batch, "decode_batch": config.decode_batch}
    return lora_sheet(model, prompts, columns, config.eval_sigmas, **batches)
