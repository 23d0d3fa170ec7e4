"""What is left of a run: a picture of before and after, the curves, a summary in words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.utils
import torch
from PIL import Image
from torch import Tensor

from ...mixgrpo_core import TrainConfig
from ...mixgrpo_core.runs.metrics import iterations_done
from ...mixgrpo_core.support.durations import duration
from ...mixgrpo_core.support.pixels import rgb_of
from ...mixgrpo_core.views.figures import report_figure
from ...mixgrpo_core.views.grids import labelled_grid
from ..host.model import HostModel
from ..host.texts import PromptSet
from ..live.canvas_run import CanvasRun
from ..sockets import LoraWeights
from .expected import shown_of
from .loop import fitting, sample_prompt

TILE = 160  # pixels


def before_after(policy: HostModel, prompts: PromptSet, config: TrainConfig) -> Image.Image:
    """A few prompts with the base model and with the LoRA, from the same noise."""
    shown = shown_of(prompts)
    cells = [
        [sample_prompt(policy, prompt, index, config, lora_share=share) for share in (0.0, 1.0)]
        for index, prompt in enumerate(shown)
    ]
    return labelled_grid(cells, shown, ("without the LoRA", "with the LoRA"), tile=TILE)


def grid_that_fits(policy: HostModel, prompts: PromptSet, config: TrainConfig) -> Image.Image:
    """``before_after`` with batches halved until they fit: a run must not end in an error after its last iteration."""
    return fitting(lambda config: before_after(policy, prompts, config), config)


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


def summary(
    run: CanvasRun, config: TrainConfig, metrics: Sequence[Mapping[str, Any]], file: Path, kept: int | None
) -> str:
    """Iterations, held-out rewards before and after, time, what guards said last, and where the files are.

    ``file`` is the run's LoRA, that of iteration ``kept`` where one was chosen.
    """
    seconds = sum(sum(report["seconds"].values()) for report in metrics)
    whole = "" if config.endless else f" of {config.iterations}"
    lines = [f"{run.name}: {iterations_done(metrics)}{whole} iterations in {duration(seconds)}"]
    points = [evaluation for report in metrics for evaluation in report["evaluations"]]
    for name in points[0]["rewards"] if points else ():
        first, last = (point["rewards"][name] for point in (points[0], points[-1]))
        lines.append(
            f"held-out {name}: {_figures(first)} before, {_figures(last)} at iteration {points[-1]['iteration']}"
        )
    for name in metrics[0]["rewards"] if metrics and not (points and points[0]["rewards"]) else ():
        first, last = (metrics[place]["rewards"][name] for place in (0, -1))
        lines.append(f"{name} while training: {_figures(first)} at first, {_figures(last)} at last")
    watched = [report for report in metrics if report["evaluations"]][-1:]
    told = [alarm for report in watched for alarm in report.get("warnings", ())]
    told += [alarm for alarm in (metrics[-1].get("warnings", ()) if metrics else ()) if alarm not in told]
    lines += [f"warning: {alarm['sentence']}" for alarm in told]
    last = run.lora("last" if config.ema is None else "ema")
    chosen = "" if kept is None else f" (of iteration {kept}, which was kept; that of the last one is {last})"
    return "\n".join([*lines, f"LoRA: {file}{chosen}", f"run: {run.path}"])


def guard_stop(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Why a guard ended the run, if one did."""
    return metrics[-1].get("stopped", "") if metrics else ""


def _figures(stats: Mapping[str, Any]) -> str:
    mean, spread = stats["mean"], stats["spread"]
    return "no score" if mean is None else f"{mean:.4g}" if spread is None else f"{mean:.4g} ± {spread:.3g}"
