"""What is left of a run: a picture of before and after, the curves, the MODEL with its LoRA."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.utils
import torch
from PIL import Image
from torch import Tensor

from ...mixgrpo_core import TrainConfig
from ...mixgrpo_core.evaluation.shown import shown_prompts
from ...mixgrpo_core.support.pixels import rgb_of
from ...mixgrpo_core.views.before_after import before_after
from ...mixgrpo_core.views.figures import report_figure
from ..host.model import HostModel
from ..host.texts import PromptSet
from ..live.canvas_run import CanvasRun
from ..sockets import LoraWeights
from .loop import fitting


def grid_that_fits(policy: HostModel, run: CanvasRun, prompts: PromptSet, config: TrainConfig) -> Image.Image:
    """The run's picture of before and after, with batches halved until they fit: a run must not end in an error after
    its last iteration."""
    shown = shown_prompts(prompts.train, prompts.held_out)
    return fitting(lambda config: before_after(policy, run, shown, config), config)


def applied(model: Any, file: Path) -> tuple[Any, LoraWeights]:
    """A MODEL with the LoRA of a file, and that LoRA.

    They are copies: the host maps the file into memory, and Windows replaces no mapped file.
    """
    tensors, words = comfy.utils.load_torch_file(str(file), safe_load=True, return_metadata=True)
    lora = LoraWeights({name: tensor.clone() for name, tensor in tensors.items()}, words)
    with_lora, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)
    return with_lora, lora


def to_tensor(picture: Image.Image) -> Tensor:
    """A picture as an IMAGE ``[1, H, W, 3]`` in 0..1."""
    return torch.from_numpy(rgb_of(picture))[None]


def curve(metrics: Sequence[Mapping[str, Any]], config: TrainConfig, path: Path, grid: Image.Image) -> Tensor:
    """The report's drawing as an IMAGE, and as a file at ``path``; the grid where matplotlib is missing."""
    try:
        report_figure(metrics, config, path, grid)
    except ImportError:  # the one requirement beyond the host's; a run must not be lost for a drawing
        return to_tensor(grid)
    return to_tensor(Image.open(path))
