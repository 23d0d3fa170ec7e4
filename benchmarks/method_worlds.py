"""Where the methods are tried: the toy of the tests, and the demo model. Each at a size, with rates and a budget."""

import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from demo_runs import Budget, Diversity, Shuffled, cpu_seconds, followed, run
from method_cases import Case

from mixgrpo_core.evaluation.held_out import HeldOut, Prompted, evaluate
from mixgrpo_core.objectives import Objective
from mixgrpo_core.objectives.clipped import ClippedObjective
from mixgrpo_core.rewards.port import Context, Reward, RewardBatch, Scores
from mixgrpo_core.rewards.shapes import ShapeReward
from mixgrpo_core.rewards.stats import RewardStats
from mixgrpo_core.runs.reports import StepReport
from mixgrpo_core.sampling.planners import Planner, WindowPlanner
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.sampling.windows import SlidingWindow
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.training.loop import train

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from toy import Dark, Red, ToyModel

HOLD = 4
"""Iterations for which a sliding window stands: runs are short, and published ones stand for 20 and more."""
RISE = 0.25
"""The rise of the toy's mean reward, of 0.5 that there are, with which a run on it ends: it works."""


class World(Protocol):
    """A model with prompts and rewards, and how long methods are tried on it."""

    name: str
    rates: Sequence[float]
    seeds: Sequence[int]
    budget: Budget
    images: int
    prompts: int

    @abstractmethod
    def train(self, config: TrainConfig, case: Case) -> dict[str, Any]:
        """The record of a run of a row with these settings."""
        ...


@dataclass(frozen=True)
class Toy(World):
    """The toy of the tests (12 latent elements, 56 trained numbers), rewarded for red and for dark other channels."""

    name: str = "toy"
    rates: Sequence[float] = (3e-3, 1e-2)
    seeds: Sequence[int] = (0, 1)
    budget: Budget = Budget(seconds=30.0, every=0.5, images=64)
    images: int = 12
    prompts: int = 4

    def train(self, config: TrainConfig, case: Case) -> dict[str, Any]:
        """The run ends with its time or with the rise."""
        model, pool = ToyModel(), ["a", "bbb", "ccccc", "ddddddd", "eeeeeeeee", "fffffffffff"]
        mask = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
        kept = HeldOut(
            prompts=[Prompted(prompt=prompt, cond=model.encode(prompt)) for prompt in ("zz", "zzzzzz")],
            sigmas=flow_sigmas(25, 3.0),
            images_per_prompt=self.budget.images,
            batch=self.budget.images,
        )
        torch.manual_seed(config.seed)
        red, dark = (Rows(Red(), slice(1)), Rows(Dark(), slice(1, None))) if case.routed else (Red(), Dark())
        watched: Mapping[str, Reward] = {"red": red, "dark": dark, "diversity": Diversity()}
        taught = dict(zip(case.rewards, (red, dark), strict=True))
        rewards = {name: Shuffled(reward) if case.shuffled else reward for name, reward in taught.items()}
        reports = train(model, pool, rewards, config, contexts={prompt: Context(mask=mask) for prompt in pool})
        look = lambda: with_mean(evaluate(model, kept, watched).rewards)  # noqa: E731
        before = look()
        enough = lambda point: point["reward"] >= before["reward"].mean + RISE  # noqa: E731
        return followed(reports, look, config, self.budget, start=before, clock=cpu_seconds, enough=enough)


@dataclass(frozen=True)
class Rows:
    """A reward that looks at some rows of the images: what credit that is routed to them can raise."""

    reward: Reward
    rows: slice

    def prepare(self, prompts: tuple[str, ...]) -> None: ...

    def __call__(self, batch: RewardBatch) -> Scores:
        return self.reward(replace(batch, images=batch.images[:, self.rows]))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def with_mean(stats: Mapping[str, RewardStats]) -> Mapping[str, RewardStats]:
    """With the mean of the toy's two rewards as "reward"."""
    mean = (stats["red"].mean + stats["dark"].mean) / 2
    return {**stats, "reward": replace(stats["red"], mean=mean)}


ROW, TRAINED_ROW, IMAGE = 0.00078, 0.00125, 0.0233
"""Seconds of one row through the demo model, of one with its gradient, of one image decoded and scored.

`work_price.py` measured them, once: the clock of runs on the demo model is the same on an idle and on a busy machine.
"""


def priced_seconds(report: StepReport, cpu: float, images: int) -> float:
    """The counted work of an iteration of so many images, in the seconds that it was measured to take."""
    trained = report.nfe.get("train", 0.0)
    rows = sum(report.nfe.values()) - trained
    return images * (rows * ROW + trained * TRAINED_ROW + IMAGE)


@dataclass(frozen=True)
class Demo(World):
    """The shipped demo model, rewarded for what the caption asks for."""

    name: str = "demo"
    rates: Sequence[float] = (1e-3, 3e-3, 3e-4)
    seeds: Sequence[int] = (0, 1, 2)
    budget: Budget = Budget(seconds=60.0, every=15.0, images=3)
    images: int = 12
    prompts: int = 8

    def train(self, config: TrainConfig, case: Case) -> dict[str, Any]:
        """One run with held-out evaluations, timed by its counted work."""
        clock = partial(priced_seconds, images=config.images_per_prompt * config.prompts_per_iteration)
        return run(config, self.budget, Shuffled(ShapeReward()) if case.shuffled else None, clock)


def config_in(world: World, method: TrainConfig, rate: float, seed: int) -> TrainConfig:
    """A method's settings at the size of a world: as many images an iteration as groups of a whole tree make.

    Steps, kernels, plans, losses, credit and the number of updates are the method's. There are no averages of weights,
    no guards, and clips that belong to one size of latents follow the size.
    """
    planner = fitted(method.planner)
    leaves = planner.plan(0, 0, method.sigmas()).leaves_per_row
    images = leaves * max(1, round(world.images / leaves))
    prompts = max(1, round(world.images * world.prompts / images))
    batch = images * prompts
    return replace(
        method,
        iterations=100_000,
        seed=seed,
        images_per_prompt=images,
        prompts_per_iteration=prompts,
        planner=planner,
        objective=of_any_size(method.objective),
        reward_weights={},
        learning_rate=rate,
        updates=min(method.updates, prompts),
        ema=None,
        guards=(),
        eval_every=0,
        rollout_batch=batch,
        decode_batch=batch,
        update_batch=batch // 2,
    )


def fitted(planner: Planner) -> Planner:
    """A sliding window at the pace of short runs."""
    if isinstance(planner, WindowPlanner) and isinstance(planner.window, SlidingWindow):
        return replace(planner, window=replace(planner.window, hold=HOLD))
    return planner


def of_any_size(objective: Objective) -> Objective:
    """With the clip that follows the size of latents in the place of one that was published for one size."""
    return replace(objective, clip=None) if isinstance(objective, ClippedObjective) else objective


WORLDS: Mapping[str, World] = {"toy": Toy(), "demo": Demo()}
