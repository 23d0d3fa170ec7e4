"""``mixgrpo sample`` and ``mixgrpo evaluate``: with a LoRA, without, hybrid; same prompts, same seeds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ..evaluate import Evaluation, HeldOut, Prompted, decode, evaluate, sample
from ..grids import labelled_grid, to_image
from ..lora_format import load_lora
from ..model import derive_seed
from ..prompts import read_prompts
from ..schedule import flow_sigmas
from .settings import ModelConfig, PromptConfig, RunConfig


@dataclass(frozen=True, kw_only=True)
class SampleFlags:
    """Attributes:
    prompts: prompts themselves, or one path of a prompt file.
    out: folder for the pictures and the labelled grid.
    model: the model; ``--model.lora`` is the LoRA.
    steps, shift: the sigma grid; plain ODE.
    images: per prompt.
    hybrid: share of the steps with the LoRA on in the hybrid column; None leaves the column out.
    seed: of the starting noise.
    batch: images per network call.
    """

    prompts: tuple[str, ...]
    out: str = "samples"
    model: ModelConfig = field(default_factory=ModelConfig)
    steps: int = 25
    shift: float = 3.0
    images: int = 4
    hybrid: float | None = 0.8
    seed: int = 0
    batch: int = 16


def sample_command(arguments: Sequence[str]) -> int:
    """Pictures, one PNG each, and a labelled grid."""
    flags = tyro.cli(SampleFlags, args=arguments, prog="mixgrpo sample", description="Sample with and without a LoRA.")
    prompts = _prompts(flags.prompts)
    model = RunConfig(model=flags.model).make_model()
    shares = {"base": 0.0} if flags.model.lora is None else {"base": 0.0, "LoRA": 1.0}
    if flags.hybrid is not None and flags.model.lora is not None:
        shares[f"hybrid {flags.hybrid:g}"] = flags.hybrid
    folder = Path(flags.out)
    folder.mkdir(parents=True, exist_ok=True)
    sigmas, cells = flow_sigmas(flags.steps, flags.shift), []
    for index, prompt in enumerate(prompts):
        noise = model.noise(derive_seed("sample", flags.seed, index), flags.images)
        row = []
        for name, share in shares.items():
            latents = sample(model, model.encode(prompt), noise, sigmas, lora_share=share, batch=flags.batch)
            row.append(decode(model, latents, flags.batch))
            for number, image in enumerate(row[-1]):
                to_image(image).save(folder / f"{index:03}-{number}-{name.replace(' ', '-')}.png")
        cells.append(row)
    grid = folder / "grid.png"
    labelled_grid(cells, prompts, list(shares), tile=min(256, cells[0][0].shape[1] * 2)).save(grid)
    Console().print(f"{len(prompts) * flags.images * len(shares)} pictures and {grid}", highlight=False)
    return 0


@dataclass(frozen=True, kw_only=True)
class EvaluateFlags:
    """Attributes:
    lora_a, lora_b: LoRA files to compare; None is the base model.
    prompts: ``--prompts.train`` is the list or file to evaluate on.
    rewards: per name a reward, as in a run file.
    out: folder for the labelled grid and ``scores.json``.
    model: the model (its own ``lora`` is not used).
    steps, shift, images, batch: plain ODE sampling; images per prompt.
    share_a, share_b: share of the steps with the LoRA on (hybrid inference); 1 is throughout.
    """

    lora_a: str | None = None
    lora_b: str | None = None
    prompts: PromptConfig = field(default_factory=PromptConfig)
    rewards: dict[str, str] = field(default_factory=dict)
    out: str = "evaluation"
    model: ModelConfig = field(default_factory=ModelConfig)
    steps: int = 25
    shift: float = 3.0
    images: int = 4
    batch: int = 16
    share_a: float = 1.0
    share_b: float = 1.0


def evaluate_command(arguments: Sequence[str]) -> int:
    """Mean, spread and win rate of A against B, and a labelled grid of both."""
    flags = tyro.cli(EvaluateFlags, args=arguments, prog="mixgrpo evaluate", description="Compare two LoRAs or none.")
    settings = RunConfig(model=flags.model, rewards=flags.rewards)
    rewards = settings.make_rewards()
    prompts = _prompts(flags.prompts.train if not isinstance(flags.prompts.train, str) else (flags.prompts.train,))
    for reward in rewards.values():
        reward.prepare(prompts)
    sides = []
    for lora, share in ((flags.lora_a, flags.share_a), (flags.lora_b, flags.share_b)):
        model = RunConfig(model=_with_lora(flags.model, lora)).make_model()
        held_out = HeldOut(
            prompts=[Prompted(prompt=prompt, cond=model.encode(prompt)) for prompt in prompts],
            sigmas=flow_sigmas(flags.steps, flags.shift),
            images_per_prompt=flags.images,
            batch=flags.batch,
        )
        pictures: list[Tensor] = []
        found = evaluate(
            model,
            held_out,
            rewards,
            lora_share=share if lora else 0.0,
            on_prompt=lambda index, images, kept=pictures: kept.append(images),
        )
        sides.append((_name(lora, share), found, pictures))
    _write_comparison(Path(flags.out), prompts, sides)
    return 0


def win_rate(a: Evaluation, b: Evaluation, reward: str) -> float:
    """Share of image pairs (same prompt, same noise) in which ``a`` scores higher; a tie is half; NaN without pairs."""
    wins, pairs = 0.0, 0
    for left, right in zip(a.scores[reward], b.scores[reward], strict=True):
        valid = left.valid & right.valid
        difference = (left.values - right.values)[valid]
        wins += float((difference > 0).sum() + 0.5 * (difference == 0).sum())
        pairs += int(valid.sum())
    return wins / pairs if pairs else float("nan")


def _write_comparison(
    folder: Path, prompts: Sequence[str], sides: Sequence[tuple[str, Evaluation, Sequence[Tensor]]]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (name_a, a, pictures_a), (name_b, b, pictures_b) = sides
    table = Table("reward", f"A: {name_a}", f"B: {name_b}", "A wins")
    rows: dict[str, Mapping[str, float]] = {}
    for reward in a.rewards:
        rate = win_rate(a, b, reward)
        left, right = a.rewards[reward], b.rewards[reward]
        table.add_row(
            reward, f"{left.mean:.4f} ± {left.spread:.4f}", f"{right.mean:.4f} ± {right.spread:.4f}", f"{rate:.1%}"
        )
        rows[reward] = {"mean_a": left.mean, "spread_a": left.spread, "mean_b": right.mean, "spread_b": right.spread}
        rows[reward] = {**rows[reward], "win_rate_a": rate, "images": float(left.count)}
    (folder / "scores.json").write_text(json.dumps({"a": name_a, "b": name_b, "rewards": rows}, indent=1))
    cells = [[x, y] for x, y in zip(pictures_a, pictures_b, strict=True)]
    captions = [[_scores(a, i), _scores(b, i)] for i in range(len(prompts))]
    grid = folder / "grid.png"
    labelled_grid(cells, prompts, (f"A: {name_a}", f"B: {name_b}"), captions, tile=96).save(grid)
    console = Console()
    console.print(table)
    console.print(f"grid: {grid}", highlight=False)


def _scores(evaluation: Evaluation, index: int) -> str:
    means = {name: scores[index].values[scores[index].valid] for name, scores in evaluation.scores.items()}
    return "  ".join(f"{name} {float(torch.mean(values)):.2f}" for name, values in means.items() if len(values))


def _prompts(words: Sequence[str]) -> list[str]:
    is_file = len(words) == 1 and Path(words[0]).suffix in (".txt", ".jsonl")
    return list(read_prompts(words[0] if is_file else words, held_out=()).train)


def _with_lora(model: ModelConfig, lora: str | None) -> ModelConfig:
    return replace(model, lora=lora, rank=load_lora(lora).rank if lora else 1, alpha=None)


def _name(lora: str | None, share: float) -> str:
    if lora is None:
        return "base model"
    return Path(lora).stem if share == 1 else f"{Path(lora).stem}, first {share:.0%} of the steps"
