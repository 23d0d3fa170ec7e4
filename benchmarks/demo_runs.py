"""What the benchmarks on the demo model share: one timed run with held-out evaluations, kept as JSON."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from time import process_time
from typing import Any

import torch

from mixgrpo_core.demo import demo_config, held_out_prompts, train_prompts
from mixgrpo_core.evaluation.held_out import HeldOut, Prompted, evaluate
from mixgrpo_core.models.families.demo import load_demo
from mixgrpo_core.models.port import FlowModel
from mixgrpo_core.objectives.update import NonFiniteLoss
from mixgrpo_core.rewards.port import Reward, RewardBatch, Scores
from mixgrpo_core.rewards.shapes import ShapeAdherence, ShapeCleanliness, ShapeReward
from mixgrpo_core.rewards.stats import RewardStats
from mixgrpo_core.runs.reports import StepReport
from mixgrpo_core.sampling.planners import WindowPlanner
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.sampling.windows import SlidingWindow
from mixgrpo_core.settings.config import TrainConfig, to_dict
from mixgrpo_core.training.loop import train
from mixgrpo_core.training.taught import RewardsFailed

RESULTS = Path(__file__).parent / "results"


def fixed_rate_demo(*, iterations: int = 55, seed: int = 0) -> TrainConfig:
    """The demo at a fixed learning rate and decoded in float32, as several pages here were measured."""
    return replace(
        demo_config(iterations=iterations, seed=seed),
        steps=25,
        planner=WindowPlanner(window=SlidingWindow(size=4, stride=1, hold=5, last=3), tail_ratio=0.4),
        learning_rate=5e-4,
        updates=4,
        decode_dtype="float32",
        rollout_batch=16,
        decode_batch=16,
        update_batch=16,
        eval_every=14,
        eval_images=6,
        eval_steps=None,
    )


@dataclass(frozen=True)
class Diversity:
    """Mean RMS distance, in pixels of 0..1, of an image to the others of its prompt."""

    def prepare(self, prompts: tuple[str, ...]) -> None: ...

    def __call__(self, batch: RewardBatch) -> Scores:
        flat = batch.images.flatten(1)
        distances = torch.cdist(flat, flat) / flat.shape[1] ** 0.5
        return Scores.of(distances.sum(1) / (len(flat) - 1))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Shuffled:
    """Another reward's values dealt to the wrong images of the group: a control from which nothing can be learnt."""

    reward: Reward

    def prepare(self, prompts: tuple[str, ...]) -> None:
        self.reward.prepare(prompts)

    def __call__(self, batch: RewardBatch) -> Scores:
        scores = self.reward(batch)
        order = torch.randperm(len(scores.values))
        return Scores(scores.values[order], scores.valid[order])

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


WATCHED: Mapping[str, Reward] = {
    "shape": ShapeReward(),
    "adherence": ShapeAdherence(),
    "clean": ShapeCleanliness(),
    "diversity": Diversity(),
}


Clock = Callable[[StepReport, float], float]
"""What an iteration took, from its report and the CPU seconds of this process."""


def told_seconds(report: StepReport, cpu: float) -> float:
    """The seconds that the report tells."""
    return sum(report.seconds.values())


def cpu_seconds(report: StepReport, cpu: float) -> float:
    """The CPU seconds."""
    return cpu


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a run goes on and how often it is evaluated, in seconds of training (evaluation not counted).

    Attributes:
        seconds: the run ends with the first iteration that passes it.
        every: seconds between held-out evaluations.
        images: held-out images per prompt.
    """

    seconds: float
    every: float
    images: int = 4

    def after(self, due: float) -> float:
        """When the evaluation that follows the one at ``due`` is due."""
        return due + self.every


@dataclass(frozen=True, kw_only=True)
class DenseBudget(Budget):
    """One whose evaluations stand closer at the start.

    Attributes:
        early: seconds of training up to which they do.
        early_every: seconds between them there.
    """

    early: float
    early_every: float

    def after(self, due: float) -> float:
        return due + (self.early_every if due < self.early else self.every)


def run(
    config: TrainConfig, budget: Budget, reward: Reward | None = None, clock: Clock = told_seconds
) -> dict[str, Any]:
    """Train on the demo model; returns the curve: training seconds, NFE per image so far, held-out means."""
    model, start = load_demo(seed=config.seed), base_figures(budget.images)
    torch.manual_seed(config.seed)
    reports = train(model, train_prompts(), {"shape": reward or ShapeReward()}, config)
    return followed(reports, lambda: figures(model, budget.images), config, budget, start=start, clock=clock)


def figures(model: FlowModel, images: int) -> Mapping[str, RewardStats]:
    """Held-out figures of a demo model as it stands."""
    kept = HeldOut(
        prompts=[Prompted(prompt=prompt, cond=model.encode(prompt)) for prompt in held_out_prompts()],
        sigmas=flow_sigmas(25, 3.0),
        images_per_prompt=images,
        batch=96,
    )
    return evaluate(model, kept, WATCHED).rewards


@cache
def base_figures(images: int) -> Mapping[str, RewardStats]:
    """Those of the base model, which a new LoRA of any seed leaves as it is."""
    return figures(load_demo(), images)


def followed(
    reports: Iterator[StepReport],
    look: Callable[[], Mapping[str, RewardStats]],
    config: TrainConfig,
    budget: Budget,
    *,
    start: Mapping[str, RewardStats],
    clock: Clock = told_seconds,
    enough: Callable[[Mapping[str, float]], bool] = lambda point: False,
) -> dict[str, Any]:
    """The curve of a training that is looked at now and then.

    Args:
        reports: the training.
        look: held-out figures of the policy as it stands.
        start: the same before the training.
        clock: what an iteration takes.
        enough: whether the run may end with a point of its curve, before its time.
    """
    images = config.images_per_prompt * config.prompts_per_iteration
    seconds, cpu, evaluations, due, done, failed = 0.0, 0.0, 0.0, budget.after(0.0), 0, ""
    curve = [_point(0, 0.0, 0.0, start)]
    while seconds < budget.seconds and done != config.iterations and not enough(curve[-1]):
        begun = process_time()
        try:
            report = next(reports)
        except (NonFiniteLoss, RewardsFailed) as error:
            failed = str(error)
            break
        took = process_time() - begun
        seconds, cpu = seconds + clock(report, took), cpu + took
        evaluations += sum(report.nfe.values()) * images
        done = report.iteration + 1
        if seconds >= min(due, budget.seconds) or done == config.iterations:
            curve.append(_point(done, seconds, evaluations, look()))
            while due <= seconds:
                due = budget.after(due)
    found = {"curve": curve, "seconds_per_iteration": seconds / max(1, done), "cpu_seconds": cpu}
    return {**found, "failed": failed} if failed else found


def _point(iteration: int, seconds: float, evaluations: float, stats: Mapping[str, Any]) -> dict[str, Any]:
    means = {name: value.mean for name, value in stats.items()}
    return {"iteration": iteration, "seconds": seconds, "kilo_evaluations": evaluations / 1000, **means}


def kept_run(
    path: Path,
    config: TrainConfig,
    budget: Budget,
    reward: Reward | None = None,
    clock: Clock = told_seconds,
) -> dict[str, Any]:
    """The run at ``path`` if it is there, else a new one put there: a benchmark that was stopped goes on.

    Raises:
        ValueError: the run that is there was made with other settings.
    """
    asked = {"config": to_dict(config), "budget": asdict(budget)}
    if not path.exists():
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        keep(path, {**run(config, budget, reward, clock), **asked})
    kept = json.loads(path.read_text())
    if {name: kept.get(name) for name in asked} != asked:
        raise ValueError(f"{path} was made with other settings: remove it to make it anew")
    return kept


def keep(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record))
    os.replace(partial, path)
