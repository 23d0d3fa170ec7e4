"""``mixgrpo evaluate``: two LoRAs (or none, or hybrid) on the same prompts and seeds.

Images of diffusers' pipeline compare with those of ``--model.pipeline-grid``: its grid is another one.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

from ..evaluation.held_out import Evaluation, win_rate
from ..rewards.port import Reward
from ..views.grids import labelled_grid, strip
from .flags import IMPORT_WORDS
from .model_config import ModelConfig
from .pictures import check_share, new_folder, read_words
from .settings import PromptConfig, RunConfig
from .sides import Drawing, Side, caption, drawn, side

_TILE = 96
"""Height of a picture in the grid, in pixels."""


@dataclass(frozen=True, kw_only=True)
class EvaluateFlags:
    """Attributes:
    lora_a, lora_b: LoRA files to compare; None is the base model.
    prompts: ``--prompts.train`` is the list or file to evaluate on.
    rewards: per name a reward, as in a run file.
    out: folder for the labelled grid and ``scores.json``; new or empty.
    model: the model (its own ``lora`` is not used).
    steps, shift, images, batch: plain ODE sampling, on the model's own grid without a shift; images per prompt.
    share_a, share_b: share of the steps with the LoRA on (hybrid inference); 1 is throughout.
    """

    lora_a: str | None = None
    lora_b: str | None = None
    prompts: PromptConfig = field(default_factory=PromptConfig)
    rewards: dict[str, str] = field(default_factory=dict)
    out: str = "evaluation"
    model: ModelConfig = field(default_factory=ModelConfig)
    steps: int = 25
    shift: float | None = None
    images: int = 4
    batch: int = 16
    share_a: float = 1.0
    share_b: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one side made: scores, and per prompt its pictures side by side."""

    name: str
    evaluation: Evaluation
    pictures: Sequence[Image.Image]


def evaluate_command(arguments: Sequence[str]) -> int:
    """Mean, spread and win rate of A against B, and a labelled grid of both."""
    flags = tyro.cli(
        EvaluateFlags, args=arguments, prog="mixgrpo evaluate", description=f"Compare two LoRAs or none. {IMPORT_WORDS}"
    )
    how = Drawing(steps=flags.steps, shift=flags.shift, images=flags.images, batch=flags.batch)
    rewards = RunConfig(rewards=flags.rewards).make_rewards()
    train = flags.prompts.train
    prompts = read_words((train,) if isinstance(train, str) else train)
    check_share("--share-a", flags.share_a)
    check_share("--share-b", flags.share_b)
    sides = [side(flags.model, flags.lora_a, flags.share_a), side(flags.model, flags.lora_b, flags.share_b)]
    folder = new_folder(flags.out)
    for reward in rewards.values():
        reward.prepare(prompts)
    a, b = (_run(one, prompts, rewards, how) for one in sides)
    _write_comparison(folder, prompts, a, b)
    return 0


def _run(one: Side, prompts: Sequence[str], rewards: Mapping[str, Reward], how: Drawing) -> Found:
    pictures: list[Image.Image] = []
    found = drawn(one, prompts, rewards, how, lambda index, images: pictures.append(strip(images, _TILE)))
    return Found(name=one.name, evaluation=found, pictures=pictures)


def _write_comparison(folder: Path, prompts: Sequence[str], a: Found, b: Found) -> None:
    scores = _scores(a.evaluation, b.evaluation)
    content = {"a": a.name, "b": b.name, "rewards": scores}
    (folder / "scores.json").write_text(json.dumps(content, indent=1, allow_nan=False))
    cells = [[x, y] for x, y in zip(a.pictures, b.pictures, strict=True)]
    captions = [[caption(a.evaluation, i), caption(b.evaluation, i)] for i in range(len(prompts))]
    grid = folder / "grid.png"
    labelled_grid(cells, prompts, (f"A: {a.name}", f"B: {b.name}"), captions, tile=_TILE).save(grid)
    console = Console()
    console.print(_table(a, b))
    for failure in dict.fromkeys(map(str, (*a.evaluation.failures, *b.evaluation.failures))):
        console.print(failure, style="yellow", highlight=False, markup=False)
    console.print(f"grid: {grid}", highlight=False, soft_wrap=True)


def _table(a: Found, b: Found) -> Table:
    table = Table("reward", f"A: {a.name}", f"B: {b.name}", "A wins")
    for reward in a.evaluation.rewards:
        left, right = a.evaluation.rewards[reward], b.evaluation.rewards[reward]
        rate = win_rate(a.evaluation, b.evaluation, reward)
        means = [f"{stats.mean:.4f} ± {stats.spread:.4f}" for stats in (left, right)]
        table.add_row(reward, *means, f"{rate:.1%}")
    return table


def _scores(a: Evaluation, b: Evaluation) -> dict[str, dict[str, float | None]]:
    """Per reward the figures of both sides; None where there is none, as JSON has no NaN."""
    rows = {}
    for reward in a.rewards:
        left, right = a.rewards[reward], b.rewards[reward]
        figures = {"mean_a": left.mean, "spread_a": left.spread, "mean_b": right.mean, "spread_b": right.spread}
        figures = {**figures, "win_rate_a": win_rate(a, b, reward), "images": float(left.count)}
        rows[reward] = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    return rows
