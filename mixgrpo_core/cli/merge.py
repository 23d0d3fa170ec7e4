"""``mixgrpo merge-loras``: several LoRAs become one, by training without a reward, or exactly with a larger rank."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.console import Console

from ..models.lora_file import load_lora, save_lora
from ..models.lora_joining import joined
from ..runs.model_card import BEFORE_AFTER
from ..support.files import append_line
from ..training.kept_lora import KeptLora
from ..training.merging.loop import MergeConfig, Teacher, merge, shown_of, teachers_of
from ..training.merging.words import described, progress
from .made import drawn_sheet
from .model_config import ModelConfig
from .pictures import new_folder, read_words
from .settings import RunConfig

if TYPE_CHECKING:  # it imports diffusers
    from ..models.diffusers.model import PipelineModel


@dataclass(frozen=True, kw_only=True)
class MergeFlags:
    """Attributes:
    teachers: LoRA files by a name of yours: ``--teachers colour a.safetensors shape b.safetensors``.
    prompts: by the same names, a prompt file with what each is for: ``--prompts colour colours.txt shape shapes.txt``.
    out: folder for the LoRA, the figures and the pictures; new or empty.
    how: ``train`` a student on the teachers' prompts, or ``join`` them exactly: ranks add up, and no model is needed.
    model: the model, and the student's rank.
    train: how the student is taught.
    """

    teachers: dict[str, str]
    prompts: dict[str, str] = field(default_factory=dict)
    out: str = "merged"
    how: Literal["train", "join"] = "train"
    model: ModelConfig = field(default_factory=ModelConfig)
    train: MergeConfig = field(default_factory=MergeConfig)


def merge_command(arguments: Sequence[str]) -> int:
    """One LoRA; where it was trained also ``merge.jsonl`` and pictures of the base, the teachers and the student."""
    flags = tyro.cli(MergeFlags, args=arguments, prog="mixgrpo merge-loras", description="Make one LoRA of several.")
    if len(flags.teachers) < 2:
        raise ValueError(f"expected two LoRAs or more to merge, found {len(flags.teachers)}: --teachers NAME FILE ...")
    files = {name: load_lora(path) for name, path in flags.teachers.items()}
    console = Console()
    if flags.how == "join":
        state = joined(list(files.values()), [1.0] * len(files))
        rank = max(len(tensor) for name, tensor in state.items() if ".lora_A" in name)
        path = new_folder(flags.out) / "lora.safetensors"
        save_lora(path, state, metadata=described(files, rank, path.parent.name))
        console.print(f"{path}: the sum of {', '.join(files)}, rank {rank}", highlight=False, soft_wrap=True)
        return 0
    prompts = {name: read_words([path]) for name, path in flags.prompts.items()}
    model = RunConfig(model=flags.model).make_model()
    teachers = teachers_of(model, files, prompts)
    _trained(model, teachers, flags, new_folder(flags.out), console)
    return 0


def _trained(
    model: "PipelineModel", teachers: Sequence[Teacher], flags: MergeFlags, folder: Path, console: Console
) -> None:
    kept = KeptLora(
        model=model,
        path=folder / "lora.safetensors",
        config={"teachers": list(flags.teachers), **vars(flags.train)},
        learning_rate=flags.train.learning_rate,
        seed=flags.train.seed,
    )
    for report in kept.following(merge(model, teachers, flags.train)):
        append_line(folder / "merge.jsonl", json.dumps(vars(report)))
        if report.distances:
            console.print(progress(report), highlight=False, markup=False, soft_wrap=True)
    _pictures(model, teachers, flags, folder, console)


def _pictures(
    model: "PipelineModel", teachers: Sequence[Teacher], flags: MergeFlags, folder: Path, console: Console
) -> None:
    columns = {"base model": None, **{one.name: one.weights for one in teachers}, "merged": model.lora_state()}
    drawn_sheet(model, shown_of(teachers), columns, flags.train.steps, console).save(folder / BEFORE_AFTER)
