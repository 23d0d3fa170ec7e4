"""A learning rate that sets itself against fixed ones, on the toy of the tests: training reward after 24 iterations.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/own_step_toy.py [--seeds 11 12 13]    # a minute on a quiet core

The rate that sets itself also begins ten times too low and too high.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from toy import Red, ToyModel

from mixgrpo_core import TrainConfig, WindowPlanner
from mixgrpo_core.objectives.own_step import AUTO, FIRST_RATE
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


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to choose the steps; ``first`` is the rate of the first update."""

    name: str
    rate: Any
    first: float

    def config(self, seed: int) -> TrainConfig:
        return replace(CONFIG, learning_rate=self.rate, seed=seed)

    def optimizer(self, seed: int) -> Callable[[Any], torch.optim.Optimizer]:
        """AdamW that begins at the first rate."""

        def make(parameters: Any) -> torch.optim.Optimizer:
            made = adamw(parameters, config=self.config(seed))
            for group in made.param_groups:
                group["lr"] = self.first
            return made

        return make


CASES = (
    *(
        Case(name=f"auto, from {first:g}", rate=AUTO, first=first)
        for first in (FIRST_RATE / 10, FIRST_RATE, 10 * FIRST_RATE)
    ),
    *(Case(name=f"{rate:g}", rate=rate, first=rate) for rate in (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
)


def reached(case: Case, seed: int) -> tuple[float, float]:
    """The mean training reward of the first iteration and of the last ones."""
    torch.manual_seed(seed)
    reports = train(ToyModel(), PROMPTS, {"red": Red()}, case.config(seed), make_optimizer=case.optimizer(seed))
    found = [report.rewards["red"].mean for report in reports]
    return found[0], fmean(found[-LAST:])


def table(seeds: Sequence[int]) -> str:
    lines = [
        "# A learning rate that sets itself, on the toy",
        "",
        f"`benchmarks/own_step_toy.py`: 12 latent elements, 8 steps, {CONFIG.iterations} iterations of 4 prompts x 12 "
        f"images, 8 updates. Mean training reward of the last {LAST} iterations, a number a seed "
        f"({', '.join(map(str, seeds))}).",
        "",
        "| rate | start | end |",
        "|---|---|---|",
    ]
    for case in CASES:
        runs = [reached(case, seed) for seed in seeds]
        starts, ends = (", ".join(f"{run[at]:.3f}" for run in runs) for at in (0, 1))
        lines.append(f"| {case.name} | {starts} | {ends} |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[11, 12, 13])
    torch.set_num_threads(1)
    PAGE.write_text(table(parser.parse_args().seeds), encoding="utf-8")


if __name__ == "__main__":
    main()
