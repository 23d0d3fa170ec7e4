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
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from ..evaluation.comparison import Comparing, Comparison, compared, drawn, hybrid
from ..rewards.port import Reward
from ..rewards.taste.reward import unattended
from ..settings.grids import grid_of
from ..settings.pictures import FileContexts
from ..views.grids import labelled_grid, strip
from .flags import IMPORT_WORDS
from .model_config import ModelConfig
from .pictures import check_counts, check_share, loaded, new_folder, read_words
from .settings import PromptConfig, RunConfig
from .sides import Side, freed, side

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
    seed: of the noise, which is that of Compare LoRA on the canvas.
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
    seed: int = 0


def evaluate_command(arguments: Sequence[str]) -> int:
    """Mean, spread and win rate of A against B, and a labelled grid of both."""
    flags = tyro.cli(
        EvaluateFlags, args=arguments, prog="mixgrpo evaluate", description=f"Compare two LoRAs or none. {IMPORT_WORDS}"
    )
    check_counts(flags.steps, flags.shift, flags.images, flags.batch)
    rewards = unattended(RunConfig(rewards=flags.rewards).make_rewards())
    train = flags.prompts.train
    prompts = read_words((train,) if isinstance(train, str) else train)
    check_share("--share-a", flags.share_a)
    check_share("--share-b", flags.share_b)
    sides = [side(flags.model, flags.lora_a, flags.share_a), side(flags.model, flags.lora_b, flags.share_b)]
    folder = new_folder(flags.out)
    for reward in rewards.values():
        reward.prepare(prompts)
    how = Comparing(
        prompts=prompts,
        sigmas=lambda model: grid_of(model, flags.steps, flags.shift),
        contexts=FileContexts(prompts),
        images=flags.images,
        seed=flags.seed,
        batch=flags.batch,
        decode_batch=flags.batch,
    )
    found, strips = _found(sides, how, rewards, flags.steps)
    _write_comparison(folder, prompts, found, strips)
    return 0


def _found(
    sides: Sequence[Side], how: Comparing, rewards: Mapping[str, Reward], steps: int
) -> tuple[Comparison, list[list[Image.Image]]]:
    """Both drawn, one model in memory at a time, and scored together; and the pictures of each prompt."""
    first, second = sides
    latents = [_latents(first, how, steps)]
    freed()
    model = loaded(second.model, how.prompts, steps)
    latents.append(drawn(hybrid(model, second.share), how))
    strips: list[list[Image.Image]] = []

    def seen(_place: int, images: Sequence[Tensor]) -> None:
        strips.append([strip(of, _TILE) for of in images])

    return compared([one.name for one in sides], latents, model, how, rewards, seen), strips


def _latents(one: Side, how: Comparing, steps: int) -> list[Tensor]:
    return drawn(hybrid(loaded(one.model, how.prompts, steps), one.share), how)


def _write_comparison(
    folder: Path, prompts: Sequence[str], found: Comparison, strips: Sequence[Sequence[Image.Image]]
) -> None:
    a, b = found.names
    content = {"a": a, "b": b, "rewards": {reward: _figures(found, reward) for reward in found.rewards}}
    (folder / "scores.json").write_text(json.dumps(content, indent=1, allow_nan=False))
    grid = folder / "grid.png"
    labelled_grid(strips, prompts, (f"A: {a}", f"B: {b}"), found.captions(), tile=_TILE).save(grid)
    table = Table("reward", f"A: {escape(a)}", f"B: {escape(b)}", "A wins")
    for reward in found.rewards:
        wins = found.wins(reward, 0, 1)
        table.add_row(*map(escape, (reward, *found.figures(reward))), "-" if math.isnan(wins) else f"{wins:.1%}")
    console = Console()
    console.print(table)
    for failure in dict.fromkeys(map(str, found.failures)):
        console.print(failure, style="yellow", highlight=False, markup=False)
    console.print(f"grid: {grid}", highlight=False, soft_wrap=True)


def _figures(found: Comparison, reward: str) -> dict[str, float | None]:
    """The figures of both sides; None where there is none, as JSON has no NaN."""
    left, right = (evaluation.rewards[reward] for evaluation in found.evaluations)
    figures = {"mean_a": left.mean, "spread_a": left.spread, "mean_b": right.mean, "spread_b": right.spread}
    figures = {**figures, "win_rate_a": found.wins(reward, 0, 1), "images": float(left.count)}
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}
