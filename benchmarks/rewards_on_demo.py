"""Rewards and guards at work on the demo model: two rewards at once, a reward that fails, a reward that can be hacked.

    OMP_NUM_THREADS=1 python benchmarks/rewards_on_demo.py [NAME ...]

Each run is kept under ``results/rewards_on_demo``; the table that is printed is made from those that are there.
"""

import os
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

import torch
from demo_runs import fixed_rate_demo

from mixgrpo_core import BatchNormalised, DiversityLoss, HeldOutFall, PixelDrift, RunFolder, Scores, TrainConfig, train
from mixgrpo_core.advantages.combine import Credit, WeightedAdvantages
from mixgrpo_core.demo import held_out_prompts, train_prompts
from mixgrpo_core.models.families.demo import load_demo
from mixgrpo_core.rewards.pixels.measures import Brightness, PixelReward
from mixgrpo_core.rewards.port import Reward, RewardBatch, StatelessReward
from mixgrpo_core.rewards.shapes import ShapeAdherence, ShapeCleanliness, ShapeReward

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "rewards_on_demo"
SEEDS = (0, 1)
WATCHED: Mapping[str, Reward] = MappingProxyType(
    {
        "shape": ShapeReward(),
        "adherence": ShapeAdherence(),
        "clean": ShapeCleanliness(),
        "brightness": PixelReward(Brightness()),
    }
)


@dataclass(frozen=True)
class Unreliable(StatelessReward):
    """A reward that fails on a share of the rollouts, whatever they show."""

    reward: Reward
    share: float

    def __call__(self, batch: RewardBatch) -> Scores:
        found = self.reward(batch)
        if batch.context.iteration is None:
            return found
        chance = torch.rand(len(found.values), generator=torch.Generator().manual_seed(batch.context.seed))
        return Scores(found.values, found.valid & (chance >= self.share), "no answer")


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is trained on; the rest of ``WATCHED`` is only watched."""

    weights: Mapping[str, float]
    failing: float = 0.0
    credit: Credit = WeightedAdvantages()

    def rewards(self) -> dict[str, Reward]:
        return {
            name: Unreliable(reward, self.failing) if self.failing and name in self.weights else reward
            for name, reward in WATCHED.items()
        }

    def config(self, seed: int) -> TrainConfig:
        return replace(
            fixed_rate_demo(iterations=24, seed=seed),
            steps=12,
            images_per_prompt=8,
            prompts_per_iteration=4,
            learning_rate=1e-3,
            reward_weights={name: self.weights.get(name, 0.0) for name in WATCHED},
            credit=(self.credit,),
            eval_every=4,
            eval_images=4,
            checkpoint_every=4,
            keep=1,
            guards=(HeldOutFall(stop=4), DiversityLoss(warn=0.2, stop=0.1), PixelDrift(stop=3.0)),
        )


CASES: Mapping[str, Case] = MappingProxyType(
    {
        "shape": Case(weights={"shape": 1.0}),
        "shape, 30 % fail": Case(weights={"shape": 1.0}, failing=0.3),
        "shape + brightness": Case(weights={"shape": 1.0, "brightness": 0.5}),
        "shape + brightness, batch-normalised": Case(
            weights={"shape": 1.0, "brightness": 0.5}, credit=BatchNormalised()
        ),
        "brightness": Case(weights={"brightness": 1.0}),
    }
)


def run(case: Case, seed: int, path: Path) -> None:
    """One run up to its end; one that was interrupted goes on."""
    config = case.config(seed)
    folder = RunFolder.open_or_create(path, config)
    held_out = held_out_prompts()[::4]
    with closing(
        train(load_demo(seed=seed), train_prompts(), case.rewards(), config, held_out=held_out, run=folder)
    ) as reports:
        for _ in reports:
            pass


def kept(name: str, seed: int) -> Path:
    return RESULTS / f"{name.replace(' ', '_').replace('%', 'percent')}_{seed}"


def table() -> str:
    """A row per run that is there, and the guards' first words."""
    head = [
        "trained on",
        "seed",
        "iterations",
        "scores that failed",
        *WATCHED,
        "alarms: guard, level, first at iteration",
    ]
    rows = [head, ["---"] * len(head)]
    for name in CASES:
        for seed in SEEDS:
            if kept(name, seed).exists():
                rows.append(_row(name, seed, RunFolder.open(kept(name, seed)).metrics()))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(name: str, seed: int, metrics: list[dict[str, Any]]) -> list[str]:
    points = [evaluation["rewards"] for line in metrics for evaluation in line["evaluations"]]
    trained = [stats for line in metrics for stats in line["rewards"].values()]
    failed = fmean(1 - stats["valid"] / stats["count"] for stats in trained)
    alarms: dict[tuple[str, str], int] = {}
    for line in metrics:
        for alarm in line["warnings"]:
            alarms.setdefault((alarm["guard"], alarm["level"]), line["iteration"] + 1)
    words = "; ".join(f"{guard}, {level}, {iteration}" for (guard, level), iteration in alarms.items())
    moves = [f"{points[0][reward]['mean']:.3f} to {points[-1][reward]['mean']:.3f}" for reward in WATCHED]
    return [name, str(seed), str(len(metrics)), f"{failed:.0%}", *moves, words or "none"]


def main(names: list[str]) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    for seed in SEEDS:
        for name in names or CASES:
            run(CASES[name], seed, kept(name, seed))
    print(table())


if __name__ == "__main__":
    main(sys.argv[1:])
