"""``mixgrpo align``: a LoRA from votes that are there, without rollouts and without a reward."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console

from ..models.lora import export_lora
from ..models.lora_metadata import training_metadata
from ..sampling.ode import decode, sample
from ..support.files import append_line
from ..support.seeds import derive_seed
from ..training.align.forms import FORMS, Form, Ups
from ..training.align.loop import AlignConfig, AlignReport, align
from ..training.align.voted import Found, require_trainable, voted_in
from ..views.grids import labelled_grid
from .model_config import ModelConfig
from .pictures import new_folder
from .settings import RunConfig

if TYPE_CHECKING:  # it imports diffusers
    from ..models.diffusers.model import PipelineModel

_SHOWN_PROMPTS, _SHOWN_IMAGES, _STEPS = 6, 4, 20


@dataclass(frozen=True, kw_only=True)
class AlignFlags:
    """Attributes:
    votes: run folders, or folders of ballots, whose votes are trained on.
    out: folder for the LoRA, the figures and the pictures; new or empty.
    model: the model that made the images, and the size of the LoRA.
    form: nft uses every vote; dpo and pnapo learn from pairs; ups from what is liked alone.
    beta: of the form; without one its own (nft 1, dpo and pnapo 2000).
    train: how it is trained.
    """

    votes: tuple[str, ...]
    out: str = "aligned"
    model: ModelConfig = field(default_factory=ModelConfig)
    form: Literal["nft", "dpo", "pnapo", "ups"] = "nft"
    beta: float | None = None
    train: AlignConfig = field(default_factory=AlignConfig)


def align_command(arguments: Sequence[str]) -> int:
    """A LoRA, ``align.jsonl`` and pictures from before and after."""
    flags = tyro.cli(
        AlignFlags, args=arguments, prog="mixgrpo align", description="Train a LoRA on the votes of earlier runs."
    )
    form, console = _form(flags), Console()
    found = voted_in([Path(place) for place in flags.votes])
    for fault in found.faults:
        console.print(fault, style="yellow", highlight=False, markup=False, soft_wrap=True)
    folder = new_folder(flags.out)
    model = RunConfig(model=flags.model).make_model()
    require_trainable(found, model.digest, model.latent_shape, pairs=form.paired, start=form.noise == "start")
    votes = sum(len(group.shares) for group in found.groups)
    words = f"{votes} votes on {len(found.groups)} groups"
    if found.without:
        words += f"; {found.without} ballots have votes but no latents, and teach nothing"
    console.print(words, highlight=False, soft_wrap=True)
    last = _trained(model, found, form, flags, folder, console)
    _pictures(model, found, folder)
    console.print(_verdict(last), highlight=False, markup=False, soft_wrap=True)
    return 0


def _form(flags: AlignFlags) -> Form:
    form = FORMS[flags.form]()
    if flags.beta is None:
        return form
    if isinstance(form, Ups):
        raise ValueError("the form ups has no beta: leave --beta out")
    return replace(form, beta=flags.beta)


def _trained(
    model: "PipelineModel", found: Found, form: Form, flags: AlignFlags, folder: Path, console: Console
) -> AlignReport:
    started = datetime.now(timezone.utc)
    for report in align(model, found.groups, form, flags.train):
        look = report.look
        line = {"update": report.update, "loss": report.loss, "grad_norm": report.grad_norm}
        if look is not None:
            line |= {"accuracy": look.accuracy, "better": look.better} if look.pairs else {}
            console.print(_progress(report), highlight=False, soft_wrap=True)
            metadata = training_metadata(
                title=folder.name,
                config={"form": form.name, **vars(form), **vars(flags.train)},
                learning_rate=flags.train.learning_rate,
                seed=flags.train.seed,
                steps=report.update,
                rewards_before={},
                rewards_after={},
                started=started,
                optimizer="AdamW",
            )
            export_lora(model, folder / "lora.safetensors", metadata, model.lora_state())
        append_line(folder / "align.jsonl", json.dumps(line))
    return report


def _progress(report: AlignReport) -> str:
    look = report.look
    words = f"update {report.update}: loss {report.loss:.4g}"
    if look is None or not look.pairs:
        return words
    return (
        f"{words}; of {look.pairs} pairs that are held out {look.accuracy:.0%} are told apart, the better image's own "
        f"error changed by {look.better:+.1%}"
    )


def _verdict(report: AlignReport) -> str:
    look = report.look
    if look is None or not look.pairs:
        return "no pairs are held out: compare the pictures from before and after"
    if look.better > 0.05:
        return (
            f"the better images' own error grew by {look.better:.0%}: it tells pairs apart by drawing the worse one "
            "worse still, and images suffer; take the form nft, a larger beta, or fewer updates"
        )
    if look.accuracy <= 0.5:
        return "pairs that are held out are not told apart: more votes, or more updates"
    return f"{look.accuracy:.0%} of the pairs that are held out are told apart, the better images being drawn as before"


def _pictures(model: "PipelineModel", found: Found, folder: Path) -> None:
    prompts = list(dict.fromkeys(group.prompt for group in found.groups))[:_SHOWN_PROMPTS]
    sigmas = model.grid(max(_STEPS, model.min_steps))
    cells = []
    for index, prompt in enumerate(prompts):
        noise, cond = model.noise(derive_seed("before and after", index), _SHOWN_IMAGES), model.encode(prompt)
        latents = [sample(model, cond, noise, sigmas, lora_share=share) for share in (0.0, 1.0)]
        cells.append([decode(model, found, _SHOWN_IMAGES) for found in latents])
    labelled_grid(cells, prompts, ("base model", "with the LoRA"), tile=96).save(folder / "before_after.png")
