"""``mixgrpo eval``: the base model and a LoRA on a standard prompt set that is on disk.

The images lie as the set's own scorer reads them, ``base`` and ``lora`` each in a folder; what can be scored here is.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from ..evaluation.by_category import Row, by_category
from ..evaluation.comparison import caption
from ..evaluation.held_out import Evaluation
from ..evaluation.prompt_sets import Item, PromptSet, set_at
from ..rewards.port import Reward
from ..rewards.taste.reward import unattended
from ..settings.parts import all_parts
from ..support.paths import user_path
from ..support.pixels import to_image
from ..views.grids import labelled_grid, strip
from .flags import IMPORT_WORDS
from .model_config import ModelConfig
from .pictures import new_folder
from .settings import RunConfig
from .sides import Drawing, Side, evaluated, side

_TILE = 96
"""Height of a picture in a grid, in pixels."""
SHOWN = 12
"""Prompts of a category in its grid."""


@dataclass(frozen=True, kw_only=True)
class EvalFlags:
    """Attributes:
    prompts: where the set is: GenEval's evaluation_metadata.jsonl, DPG-Bench's folder of prompts, HPDv2's or
        T2I-CompBench's files.
    lora: a LoRA file; without one the base model is drawn alone.
    rewards: per name a reward, as in a run file; none where only images are wanted, for the set's own scorer.
    out: folder for the images, a grid per category and ``scores.json``; new or empty.
    model: the model (its own ``lora`` is not used).
    most: prompts of a category at most, its first; 0 is all of them.
    images: per prompt; without a number as many as the set's authors make.
    steps, shift, batch: plain ODE sampling, on the model's own grid without a shift; images at a time.
    """

    prompts: Annotated[str, tyro.conf.Positional]
    lora: str | None = None
    rewards: dict[str, str] = field(default_factory=dict)
    out: str = "evaluation"
    model: ModelConfig = field(default_factory=ModelConfig)
    most: int = 0
    images: int | None = None
    steps: int = 25
    shift: float | None = None
    batch: int = 16


def eval_command(arguments: Sequence[str]) -> int:
    """Images of base and LoRA, scores by category as a table and as JSON, a grid per category."""
    flags = tyro.cli(
        EvalFlags,
        args=arguments,
        prog="mixgrpo eval",
        description=f"Base and LoRA on a standard prompt set. {IMPORT_WORDS}",
    )
    path = user_path(flags.prompts)
    chosen = set_at(path)
    if flags.most < 0:
        raise ValueError(f"--most is the number of prompts of a category, 0 for all, found {flags.most}")
    images = chosen.images if flags.images is None else flags.images
    how = Drawing(steps=flags.steps, shift=flags.shift, images=images, batch=flags.batch)
    items = first_of_each(chosen.read(path), flags.most)
    rewards = unattended(RunConfig(rewards=flags.rewards).make_rewards()) if flags.rewards else {}
    parts = {type(part).__name__ for reward in rewards.values() for part in all_parts(reward)}
    sides = [side(flags.model, lora) for lora in dict.fromkeys((None, flags.lora))]
    folder = new_folder(flags.out)
    prompts = [item.prompt for item in items]
    for reward in rewards.values():
        reward.prepare(list(dict.fromkeys(prompts)))
    shown = _shown(items)
    runs = [
        _Drawn(one, folder / ("base" if one.share == 0 else "lora"), chosen, items, shown).run(rewards, how)
        for one in sides
    ]
    found = Outcome(chosen.label, [one.name for one in sides], items, [evaluation for evaluation, _ in runs])
    _write(folder, found, [strips for _, strips in runs])
    _tell(found, chosen.needs(parts), folder, Console())
    return 0


def first_of_each(items: Iterable[Item], most: int) -> list[Item]:
    """The first ``most`` items of every category, in the set's order; all of them where ``most`` is 0."""
    seen: Counter[str] = Counter()
    kept = []
    for item in items:
        seen[item.category] += 1
        if not most or seen[item.category] <= most:
            kept.append(item)
    return kept


@dataclass(frozen=True)
class Outcome:
    """What was found: per side its name and its evaluation of ``items``."""

    label: str
    names: Sequence[str]
    items: Sequence[Item]
    evaluations: Sequence[Evaluation]

    @property
    def rows(self) -> list[Row]:
        return by_category([item.category for item in self.items], self.evaluations)


@dataclass(frozen=True)
class _Drawn:
    """One side at work: its images go to ``folder`` as they come, and those of ``shown`` into a grid, too."""

    side: Side
    folder: Path
    chosen: PromptSet
    items: Sequence[Item]
    shown: frozenset[int]

    def run(self, rewards: Mapping[str, Reward], how: Drawing) -> tuple[Evaluation, dict[int, Image.Image]]:
        strips: dict[int, Image.Image] = {}

        def on_prompt(index: int, images: Tensor) -> None:
            self.chosen.write(self.folder, self.items[index], [to_image(image) for image in images])
            if index in self.shown:
                strips[index] = strip(images, _TILE)

        return evaluated(self.side, [item.prompt for item in self.items], rewards, how, on_prompt), strips


def _categories(items: Iterable[Item]) -> list[str]:
    return list(dict.fromkeys(item.category for item in items))


def _shown(items: Sequence[Item]) -> frozenset[int]:
    places = {name: [i for i, item in enumerate(items) if item.category == name] for name in _categories(items)}
    return frozenset(place for found in places.values() for place in found[:SHOWN])


def _write(folder: Path, found: Outcome, strips: Sequence[dict[int, Image.Image]]) -> None:
    content = {"set": found.label, "models": list(found.names), "rows": [row.to_json() for row in found.rows]}
    (folder / "scores.json").write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
    for category in _categories(found.items):
        places = [place for place in sorted(strips[0]) if found.items[place].category == category]
        labelled_grid(
            [[own[place] for own in strips] for place in places],
            [found.items[place].prompt for place in places],
            found.names,
            [[caption(evaluation, place) for evaluation in found.evaluations] for place in places],
            tile=_TILE,
            title=f"{found.label}: {category}",
        ).save(folder / f"grid-{category}.png")


def _tell(found: Outcome, needs: Sequence[str], folder: Path, console: Console) -> None:
    table = Table("category", "prompts", "reward", *map(escape, found.names), *(["LoRA wins"] * (len(found.names) > 1)))
    for row in found.rows:
        means = [f"{mean:.4f} ± {spread:.4f}" for mean, spread in zip(row.means, row.spreads, strict=True)]
        wins = [] if row.wins is None else [f"{row.wins:.1%}"]
        table.add_row(escape(row.category), str(row.prompts), escape(row.reward), *means, *wins)
    if found.rows:
        console.print(table)
    failures = dict.fromkeys(str(failure) for one in found.evaluations for failure in one.failures)
    for words in (*failures, *needs):
        console.print(words, style="yellow", highlight=False, markup=False, soft_wrap=True)
    console.print(f"images, grids and scores.json: {folder}", highlight=False, soft_wrap=True)
