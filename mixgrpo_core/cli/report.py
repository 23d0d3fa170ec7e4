"""What a finished run leaves to look at: ``report.png`` with its before/after grid, and where everything is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from ..evaluation import shown
from ..models.lora_file import load_lora
from ..models.port import FlowModel
from ..models.sizes import sized
from ..rewards.port import Reward
from ..runs.folder import RunFolder
from ..runs.gallery import Gallery
from ..runs.metrics import iterations_done
from ..runs.model_card import write_card
from ..sampling.ode import decode, sample
from ..settings.prompts import Prompts
from ..support.paths import in_shell
from ..support.seeds import derive_seed
from ..views.figures import report_figure
from ..views.grids import labelled_grid
from .settings import RunConfig

if TYPE_CHECKING:  # it imports diffusers
    from ..models.diffusers.model import PipelineModel

SHOWN_PROMPTS, SHOWN_IMAGES = 6, 4


def finish(
    settings: RunConfig, run: RunFolder, model: "PipelineModel", rewards: Mapping[str, Reward], console: Console
) -> None:
    """Draw the grid and the report, write the model card, and print where they are.

    Where the run kept an average of the LoRA, held-out figures and the best LoRA are the average's; so are
    the pictures.
    """
    averaged = settings.train.ema is not None and run.lora("ema").exists()
    if averaged:
        model.load_lora_file(load_lora(run.lora("ema")))
    metrics = run.metrics()  # of fewer iterations than were asked for, where a guard stopped the run
    after = f"with the LoRA{', averaged' if averaged else ''} ({iterations_done(metrics)} iterations)"
    grid = before_after(model, shown_prompts(settings.make_prompts()), settings, after)
    grid.save(run.path / "before_after.png")
    report_figure(metrics, settings.train, run.path / "report.png", grid)
    prompts = settings.make_prompts()
    write_card(
        run,
        run.lora("last").with_name("README.md"),
        rewards=rewards,
        prompts=list(map(str, prompts.train)),
        held_out=list(map(str, prompts.held_out)),
    )
    print_summary(run, metrics, console)


def shown_prompts(prompts: Prompts) -> list[str]:
    """Which prompts the grid shows."""
    return shown.shown_prompts(prompts.train, prompts.held_out, SHOWN_PROMPTS)


def before_after(model: FlowModel, prompts: Sequence[str], settings: RunConfig, after: str) -> Image.Image:
    """Held-out prompts with the base model and with the LoRA, from the same noise; ``after`` labels the latter."""
    cells = []
    for index, prompt in enumerate(prompts):
        of_size = sized(model, prompt)
        noise = of_size.noise(derive_seed("before and after", index), SHOWN_IMAGES)
        cells.append([_images(of_size, prompt, noise, settings, share) for share in (0.0, 1.0)])
    return labelled_grid(cells, list(prompts), ("base model", after), tile=96)


def _images(model: FlowModel, prompt: str, noise: Tensor, settings: RunConfig, lora_share: float) -> Tensor:
    config = settings.train
    latents = sample(
        model, model.encode(prompt), noise, config.eval_sigmas(model), lora_share=lora_share, batch=config.rollout_batch
    )
    return decode(model, latents, config.decode_batch)


def print_summary(run: RunFolder, metrics: Sequence[dict], console: Console) -> None:
    evaluations = [evaluation for report in metrics for evaluation in report["evaluations"]]
    if evaluations:
        table = Table("held-out reward", "before", "after", title=None)
        for name, stats in evaluations[0]["rewards"].items():
            means = (stats["mean"], evaluations[-1]["rewards"][name]["mean"])
            table.add_row(escape(name), *("-" if mean is None else f"{mean:.3f}" for mean in means))
        console.print(table)
    _print_guards(run, metrics, console)
    seconds = sum(sum(report["seconds"].values()) for report in metrics)
    console.print(f"{iterations_done(metrics)} iterations in {seconds:.0f} s", highlight=False)
    for words in decoding_words(metrics[-1].get("decoded", {}) if metrics else {}):  # older versions told none
        console.print(words, highlight=False)
    gallery = Gallery(run)
    kept = gallery.kept
    for label, path in (
        ("LoRA", run.lora("last")),
        ("averaged LoRA (EMA)", run.lora("ema")),
        (f"best LoRA by {_judged(metrics)} reward", run.lora("best")),
        (f"kept LoRA (iteration {kept})", run.lora("kept")),
        ("gallery", gallery.folder),
        ("report", run.path / "report.png"),
        ("before and after", run.path / "before_after.png"),
        ("model card", run.lora("last").parent / "README.md"),
    ):
        if Path(path).exists():
            console.print(f"{label + ':':<30} {path}", highlight=False, soft_wrap=True)
    if torch.cuda.is_available() and metrics:
        most = max(report["peak_memory"] for report in metrics)
        console.print(f"peak memory: {most / 2**30:.1f} GiB", highlight=False)


def decoding_words(decoded: Mapping[str, Any]) -> list[str]:
    """How rollouts were decoded, where it was not in float32 by the model's own autoencoder."""
    words = []
    if "dtype" in decoded:
        tried = f"moved scores by {decoded['moved']:.2g} of a group's spread" if "moved" in decoded else "was not tried"
        words.append(f"rollouts decoded in {decoded['dtype']}; bfloat16 {tried}")
    if "tiny" in decoded:
        found = ", ".join(f"{name} {share:.2f}" for name, share in sorted(decoded["agreement"].items()))
        words.append(f"rollouts decoded by a tiny autoencoder; rank correlation with the model's own: {found or '-'}")
    return words


def _judged(metrics: Sequence[dict]) -> str:
    """By which reward the best LoRA is the best."""
    return "held-out" if any(report["evaluations"] for report in metrics) else "training"


def _print_guards(run: RunFolder, metrics: Sequence[dict], console: Console) -> None:
    """The last word of every guard that warned, and how a run that was stopped goes on."""
    last = {
        warning["guard"]: f"iteration {report['iteration'] + 1}, {warning['guard']}: {warning['sentence']}"
        for report in metrics
        for warning in report.get("warnings", ())  # runs of older versions have none
    }
    for words in last.values():
        console.print(words, style="yellow", highlight=False, markup=False, soft_wrap=True)
    if metrics and metrics[-1].get("stopped"):
        console.print(
            f"stopped by a guard after {iterations_done(metrics)} iterations; to go on all the same, ask for more "
            f"than before, or than these where there was no number: mixgrpo resume {in_shell(run.path)} --iterations N",
            style="bold red",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
