"""The quick look, a still shorter one, and MixGRPO-Flash with the same levers, on the demo model.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/quick_look.py [--seeds 16 17 18]

Held-out figures after 8, 16 and 24 iterations, and the CPU seconds of training up to there; held-out images are made
outside of that clock. All set their own step, make up to 16 updates of 8 prompts x 12 images and decode in bfloat16
where the reward cannot tell. Flash's window moves every 2 iterations: as far in 24 as the published 20 does in 300.
Runs are kept in ``results/``; a stopped benchmark goes on, and what was not run is told.
"""

import argparse
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from time import process_time
from types import MappingProxyType
from typing import Any

import torch
from demo_runs import RESULTS, figures, keep

from mixgrpo_core.demo import train_prompts
from mixgrpo_core.models.families.demo import load_demo
from mixgrpo_core.rewards.shapes import ShapeReward
from mixgrpo_core.sampling.planners import WindowPlanner
from mixgrpo_core.sampling.windows import FrozenWindow, SlidingWindow
from mixgrpo_core.settings.config import TrainConfig, to_dict
from mixgrpo_core.settings.presets import mixgrpo_flash, quick_look
from mixgrpo_core.training.cost import iteration_cost
from mixgrpo_core.training.loop import train

PAGE = Path(__file__).with_suffix(".md")
EVERY, IMAGES = 8, 4
LENGTH = quick_look().iterations
FIGURES = ("shape", "adherence", "clean", "diversity")


def _flash() -> TrainConfig:
    levers = ("learning_rate", "updates", "decode_dtype", "images_per_prompt", "prompts_per_iteration", "iterations")
    window = SlidingWindow(size=4, stride=1, hold=2)
    return replace(
        mixgrpo_flash(),
        planner=WindowPlanner(window=window, tail_ratio=0.4),
        **{name: getattr(quick_look(), name) for name in levers},
    )


def _fewest() -> TrainConfig:
    return replace(quick_look(), planner=WindowPlanner(window=FrozenWindow(size=2, start=0), tail_ratio=0.2))


CASES: Mapping[str, TrainConfig] = MappingProxyType(
    {
        "Quick look": quick_look(),
        "the first two steps, and two after them": _fewest(),
        "MixGRPO-Flash": _flash(),
    }
)


def config_of(name: str, seed: int) -> TrainConfig:
    return replace(CASES[name], seed=seed, eval_every=0, rollout_batch=96, decode_batch=96, update_batch=48)


def kept(name: str, seed: int) -> Mapping[str, Any] | None:
    """The run that is there, if it was made with these settings."""
    path = _path(name, seed)
    found = json.loads(path.read_text()) if path.exists() else None
    return found if found and found["config"] == to_dict(config_of(name, seed)) else None


def make(name: str, seed: int) -> None:
    """Train, look every `EVERY` iterations, and keep what was seen."""
    config, model, cpu = config_of(name, seed), load_demo(seed=seed), 0.0
    points, moves = [{"iteration": 0, "cpu": 0.0, **_means(model)}], []
    torch.manual_seed(seed)
    reports = train(model, train_prompts(), {"shape": ShapeReward()}, config)
    for done in range(1, LENGTH + 1):
        begun = process_time()
        report = next(reports)
        cpu += process_time() - begun
        moves.append(report.update.figures.get("move"))
        if done % EVERY == 0:
            points.append({"iteration": done, "cpu": cpu, **_means(model)})
    keep(_path(name, seed), {"config": to_dict(config), "points": points, "moves": moves})


def _means(model: Any) -> dict[str, float]:
    return {name: stats.mean for name, stats in figures(model, IMAGES).items()}


def _path(name: str, seed: int) -> Path:
    return RESULTS / "quick_look" / f"{name.lower().replace(',', '').replace(' ', '-')}-{seed}.json"


def evaluations(name: str, done: int) -> float:
    """Of the network for an image, in rollouts and updates of ``done`` iterations."""
    return sum(_counted(name, iteration) for iteration in range(done))


@cache
def _counted(name: str, iteration: int) -> float:
    """Those of one iteration, counted on one prompt."""
    one = replace(CASES[name], prompts_per_iteration=1, updates=1, learning_rate=1.0)
    cost = iteration_cost(one, iteration).nfe
    return cost["rollout"] + cost["train"]


def table(seeds: Sequence[int]) -> str:
    """A row per preset and look, a number a seed."""
    lines = [
        "# A quick look",
        "",
        f"`benchmarks/quick_look.py` on the demo model, 8 prompts x 12 images: held-out figures of {32 * IMAGES} "
        f"images, a number a seed ({', '.join(map(str, seeds))}), and CPU seconds of one thread in training; other "
        "work ran on the machine. All set their own step and decode in bfloat16 where the reward cannot tell. Move: "
        "the largest of any iteration after the first, as a share of the velocity. Evaluations: "
        "of the network for an image, since the start, counted.",
        "",
        "| preset | iterations | evaluations | CPU s | reward | mean | adherence | clean | diversity | move |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in CASES:
        runs = [found for seed in seeds if (found := kept(name, seed))]
        if len(runs) < len(seeds):
            lines.append(f"| {name} | {len(runs)} of {len(seeds)} seeds were run | | | | | | | | |")
        for place in range(len(runs[0]["points"]) if runs else 0):
            points = [run["points"][place] for run in runs]
            cells = [", ".join(f"{point[figure]:.3f}" for point in points) for figure in FIGURES]
            seconds = ", ".join(f"{point['cpu']:.0f}" for point in points)
            done = points[0]["iteration"]
            most = max((move or 0.0 for run in runs for move in run["moves"][1:done]), default=0.0)
            cells.insert(1, f"{statistics.mean(point['shape'] for point in points):.3f}")
            rows = sum(sum(iteration_cost(config_of(name, 0), place).nfe.values()) for place in range(done))
            lines.append(
                f"| {name} | {done} | {rows:.0f} | {seconds} | {' | '.join(cells)} | {f'{most:.0%}' if done else ''} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[16, 17, 18])
    seeds = parser.parse_args().seeds
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    for seed in seeds:
        for name in CASES:
            if kept(name, seed) is None:
                make(name, seed)
            PAGE.write_text(table(seeds), encoding="utf-8")


if __name__ == "__main__":
    main()
