"""``mixgrpo align``: a LoRA from votes or pairs that are there, without rollouts and without a reward."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console

from ..sampling.ode import decode, sample
from ..support.files import append_line
from ..support.seeds import derive_seed
from ..training.align.forms import FORMS, Form, Ups
from ..training.align.loop import AlignConfig, AlignReport, align
from ..training.align.pairs import pairs_in
from ..training.align.voted import Found, joined, require_trainable, voted_in
from ..training.align.words import found_words, progress, verdict
from ..training.kept_lora import KeptLora
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
    _pictures(model, found, folder)
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
    kept = KeptLora(
        model=model,
        path=folder / "lora.safetensors",
        config={"form": form.name, **vars(form), **vars(flags.train)},
        learning_rate=flags.train.learning_rate,
        seed=flags.train.seed,
    )
    for report in kept.following(align(model, found.groups, form, flags.train)):
        look = report.look
        line = {"update": report.update, "loss": report.loss, "grad_norm": report.grad_norm}
        if look is not None:
            line |= {"accuracy": look.accuracy, "better": look.better} if look.pairs else {}
            console.print(progress(report), highlight=False, soft_wrap=True)
        append_line(folder / "align.jsonl", json.dumps(line))
    return report


def _pictures(model: "PipelineModel", found: Found, folder: Path) -> None:
    prompts = list(dict.fromkeys(group.prompt for group in found.groups))[:_SHOWN_PROMPTS]
    sigmas = model.grid(max(_STEPS, model.min_steps))
    cells = []
    for index, prompt in enumerate(prompts):
        noise, cond = model.noise(derive_seed("before and after", index), _SHOWN_IMAGES), model.encode(prompt)
        latents = [sample(model, cond, noise, sigmas, lora_share=share) for share in (0.0, 1.0)]
        cells.append([decode(model, found, _SHOWN_IMAGES) for found in latents])
    labelled_grid(cells, prompts, ("base model", "with the LoRA"), tile=96).save(folder / "before_after.png")
