"""``mixgrpo align``: a LoRA from votes or pairs that are there, without rollouts and without a reward."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console

from ..evaluation.shown import PROMPTS
from ..runs.model_card import BEFORE_AFTER
from ..support.files import append_line
from ..training.align.forms import FORMS, Form, Ups
from ..training.align.loop import AlignConfig, AlignReport, align
from ..training.align.pairs import pairs_in
from ..training.align.voted import Found, joined, require_trainable, voted_in
from ..training.align.words import found_words, progress, verdict
from ..training.kept_lora import KeptLora
from ..views.before_after import WITH, WITHOUT
from .made import begun_anew_on, drawn_sheet
from .model_config import ModelConfig
from .pictures import new_folder
from .settings import RunConfig

if TYPE_CHECKING:  # it imports diffusers
    from ..models.diffusers.model import PipelineModel

_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class AlignFlags:
    """Attributes:
    votes: run folders, or folders of ballots, whose votes are trained on.
    pairs: folders with better/ and worse/, pictures of one name in both, and captions beside them (better/fox.txt).
    out: folder for the LoRA, the figures and the pictures; new or empty.
    model: the model that made the images, and the size of the LoRA.
    form: nft uses every vote; dpo and pnapo learn from pairs; ups from what is liked alone.
    beta: of the form; without one its own (nft 1, dpo and pnapo 2000).
    train: how it is trained.
    """

    votes: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    out: str = "aligned"
    model: ModelConfig = field(default_factory=ModelConfig)
    form: Literal["nft", "dpo", "pnapo", "ups"] = "nft"
    beta: float | None = None
    train: AlignConfig = field(default_factory=AlignConfig)


def align_command(arguments: Sequence[str]) -> int:
    """A LoRA, ``align.jsonl`` and pictures from before and after."""
    words = "Train a LoRA on the votes of earlier runs, or on pairs of pictures."
    flags = tyro.cli(AlignFlags, args=arguments, prog="mixgrpo align", description=words)
    form, console = _form(flags), Console()
    if not flags.votes and not flags.pairs:
        raise ValueError("expected votes or pairs to train on: mixgrpo align --votes RUN, or --pairs FOLDER")
    voted = voted_in([Path(place) for place in flags.votes])
    folder = new_folder(flags.out)
    model = RunConfig(model=flags.model).make_model()
    found = joined([voted, *(pairs_in(Path(place), model) for place in flags.pairs)])
    for fault in found.faults:
        console.print(fault, style="yellow", highlight=False, markup=False, soft_wrap=True)
    require_trainable(found, model.digest, model.latent_shape, pairs=form.paired, start=form.noise == "start")
    console.print(found_words(found), highlight=False, soft_wrap=True)
    last = _trained(model, found, form, flags, folder, console)
    _pictures(model, found, folder, console)
    console.print(verdict(last.look), highlight=False, markup=False, soft_wrap=True)
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
    figures = folder / "align.jsonl"

    def attempt(batch: int) -> AlignReport:
        figures.unlink(missing_ok=True)
        config = replace(flags.train, batch=batch)
        kept = KeptLora(
            model=model,
            path=folder / "lora.safetensors",
            config={"form": form.name, **vars(form), **vars(config)},
            learning_rate=config.learning_rate,
            seed=config.seed,
        )
        for report in kept.following(align(model, found.groups, form, config)):
            look = report.look
            line = {"update": report.update, "loss": report.loss, "grad_norm": report.grad_norm}
            if look is not None:
                line |= {"accuracy": look.accuracy, "better": look.better} if look.pairs else {}
                console.print(progress(report), highlight=False, soft_wrap=True)
            append_line(figures, json.dumps(line))
        return report

    return begun_anew_on(model, attempt, flags.train.batch, "training", console)


def _pictures(model: "PipelineModel", found: Found, folder: Path, console: Console) -> None:
    prompts = list(dict.fromkeys(group.prompt for group in found.groups))[:PROMPTS]
    columns = {WITHOUT: None, WITH: model.lora_state()}
    drawn_sheet(model, prompts, columns, _STEPS, console).save(folder / BEFORE_AFTER)
