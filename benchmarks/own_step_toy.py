"""A learning rate that sets itself against fixed ones, on the toy of the tests: training reward after 24 iterations.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/own_step_toy.py [--seeds 11 12 13]    # six minutes on a quiet core

The rate that sets itself also begins ten times too low and too high, meets toys of more latent elements, a reward that
is chance, and objectives and numbers of updates that can be looked back at only.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

import torch
from torch.nn import Parameter

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from toy import Red, ToyModel

from mixgrpo_core import TrainConfig, WindowPlanner
from mixgrpo_core.objectives import AWM, DGPO, RAM, DiffusionNFT
from mixgrpo_core.objectives.own_step import AUTO, FIRST_RATE
from mixgrpo_core.rewards.port import Reward, RewardBatch, Scores
from mixgrpo_core.sampling.windows import SlidingWindow
from mixgrpo_core.training.loop import adamw, train

PAGE = Path(__file__).with_suffix(".md")
PROMPTS = ["a", "bbbb", "ccccccc", "dd"]
LAST = 3
"""Iterations at the end whose mean is told."""
CONFIG = TrainConfig(
    iterations=24,
    steps=8,
    images_per_prompt=12,
    prompts_per_iteration=len(PROMPTS),
    planner=WindowPlanner(window=SlidingWindow(size=3, stride=1, hold=6)),
    updates=8,
    eval_every=0,
)


FIXED_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to choose the steps; ``first`` is the rate of the first update."""

    rate: Any
    first: float
    config: TrainConfig = CONFIG
    side: int = 2
    reward: Reward = Red()

    def optimizer(self, config: TrainConfig) -> Callable[[Any], torch.optim.Optimizer]:
        """AdamW that begins at the first rate."""

        def make(parameters: Any) -> torch.optim.Optimizer:
            made = adamw(parameters, config=config)
            for group in made.param_groups:
                group["lr"] = self.first
            return made

        return make


class WideToy(ToyModel):
    """The toy with latents ``[3, side, side]``."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.latent_shape = (3, side, side)
        elements = 3 * side * side
        generator = torch.Generator().manual_seed(0)
        self.down = Parameter(torch.randn(2, elements + 2, generator=generator) / (elements + 2) ** 0.5)
        self.up = Parameter(torch.zeros(elements, 2))
        self.weights = self.lora()


class Chance(Red):
    """Scores that no image has anything to do with."""

    def __call__(self, batch: RewardBatch) -> Scores:
        generator = torch.Generator().manual_seed(batch.context.seed % 2**31)
        return replace(super().__call__(batch), values=torch.rand(len(batch.images), generator=generator))


def own(first: float = FIRST_RATE, **rest: Any) -> Case:
    return Case(rate=AUTO, first=first, **rest)


def fixed(rate: float, **rest: Any) -> Case:
    return Case(rate=rate, first=rate, **rest)


OTHERS: Mapping[str, TrainConfig] = MappingProxyType(
    {
        "GRPO, one update": replace(CONFIG, updates=1),
        "GRPO, two updates": replace(CONFIG, updates=2),
        "DiffusionNFT": replace(CONFIG, objective=DiffusionNFT()),
        "DiffusionNFT, one update": replace(CONFIG, objective=DiffusionNFT(), updates=1),
        "AWM": replace(CONFIG, objective=AWM()),
        "RAM": replace(CONFIG, objective=RAM()),
        "DGPO, four updates": replace(CONFIG, objective=DGPO(), updates=4),
    }
)


@dataclass(frozen=True)
class Found:
    """Training reward of the first iteration and mean of the last ones; the mean signal and the last target."""

    start: float
    end: float
    signal: float | None
    target: float | None


def found(case: Case, seed: int) -> Found:
    torch.manual_seed(seed)
    config = replace(case.config, learning_rate=case.rate, seed=seed)
    model = WideToy(case.side) if case.side != 2 else ToyModel()
    reports = list(train(model, PROMPTS, {"red": case.reward}, config, make_optimizer=case.optimizer(config)))
    rewards = [report.rewards["red"].mean for report in reports]
    figures = [report.update.figures for report in reports]
    signals = [each["signal"] for each in figures if "signal" in each]
    return Found(
        rewards[0], fmean(rewards[-LAST:]), fmean(signals) if signals else None, figures[-1].get("move_target")
    )


def page(seeds: Sequence[int]) -> str:
    told = ", ".join(map(str, seeds))
    lines = [
        "# A learning rate that sets itself, on the toy",
        "",
        f"`benchmarks/own_step_toy.py`: 12 latent elements, 8 steps, {CONFIG.iterations} iterations of 4 prompts x 12 "
        f"images, 8 updates. Mean training reward of the last {LAST} iterations, a number a seed ({told}).",
        "",
        "| rate | start | end |",
        "|---|---|---|",
    ]
    for name, case in {
        **{f"auto, from {first:g}": own(first) for first in (FIRST_RATE / 10, FIRST_RATE, 10 * FIRST_RATE)},
        **{f"{rate:g}": fixed(rate) for rate in FIXED_RATES},
    }.items():
        runs = [found(case, seed) for seed in seeds]
        lines.append(f"| {name} | {_each(run.start for run in runs)} | {_each(run.end for run in runs)} |")
    lines += [
        "",
        "What is asked for is told by the signal, the correlation of advantages with log-ratios on members that no "
        "update has used yet: its mean over the run, and the move that is asked for at the end, as shares of the "
        "velocity.",
        "",
        "| toy | end | at the best fixed rate | signal | move asked for at the end |",
        "|---|---|---|---|---|",
    ]
    for name, case in {
        "12 elements": own(),
        "192 elements": own(side=8),
        "1728 elements": own(side=24),
        "12 elements, a reward that is chance": own(reward=Chance()),
    }.items():
        runs = [found(case, seed) for seed in seeds]
        end, signal, target = (_each(getattr(run, key) for run in runs) for key in ("end", "signal", "target"))
        rates = (replace(case, rate=rate, first=rate) for rate in FIXED_RATES)
        best = max(([found(one, seed).end for seed in seeds] for one in rates), key=fmean)
        lines.append(f"| {name} | {end} | {_each(best)} | {signal} | {target} |")
    lines += [
        "",
        "Where updates cannot tell each other's moves, a look back at each iteration steers the next one:",
        "",
        f"| | auto | {' | '.join(f'{rate:g}' for rate in FIXED_RATES)} |",
        "|---|---|" + "---|" * len(FIXED_RATES),
    ]
    for name, config in OTHERS.items():
        cases = (own(config=config), *(fixed(rate, config=config) for rate in FIXED_RATES))
        cells = (f"{fmean(found(case, seed).end for seed in seeds):.3f}" for case in cases)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _each(values: Iterable[float | None]) -> str:
    return ", ".join("-" if value is None else f"{value:.3f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[11, 12, 13])
    torch.set_num_threads(1)
    PAGE.write_text(page(parser.parse_args().seeds), encoding="utf-8")


if __name__ == "__main__":
    main()
