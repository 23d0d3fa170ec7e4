"""What the benchmarks on the demo model share: one timed run with held-out evaluations, kept as JSON."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mixgrpo_core.demo import held_out_prompts, train_prompts
from mixgrpo_core.evaluation.held_out import HeldOut, Prompted, evaluate
from mixgrpo_core.models.families.demo import load_demo
from mixgrpo_core.rewards.port import Reward, RewardBatch, Scores
from mixgrpo_core.rewards.shapes import ShapeAdherence, ShapeCleanliness, ShapeReward
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.settings.config import TrainConfig, to_dict
from mixgrpo_core.training.loop import train

RESULTS = Path(__file__).parent / "results"


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


def run(config: TrainConfig, budget: Budget, reward: Reward | None = None) -> dict[str, Any]:
    """Train on the demo model; returns the curve: training seconds, NFE per image so far, held-out means."""
    model = load_demo(seed=config.seed)
    kept = HeldOut(
        prompts=[Prompted(prompt=prompt, cond=model.encode(prompt)) for prompt in held_out_prompts()],
        sigmas=flow_sigmas(25, 3.0),
        images_per_prompt=budget.images,
        batch=96,
    )
    torch.manual_seed(config.seed)
    images = config.images_per_prompt * config.prompts_per_iteration
    seconds, evaluations, due = 0.0, 0.0, budget.every
    curve = [_point(0, 0.0, 0.0, evaluate(model, kept, WATCHED).rewards)]
    for report in train(model, train_prompts(), {"shape": reward or ShapeReward()}, config):
        seconds += sum(report.seconds.values())
        evaluations += sum(report.nfe.values()) * images
        last = seconds >= budget.seconds or report.iteration + 1 == config.iterations
        if seconds >= due or last:
            stats = evaluate(model, kept, WATCHED).rewards
            curve.append(_point(report.iteration + 1, seconds, evaluations, stats))
            due += budget.every
        if last:
            break
    return {"curve": curve, "seconds_per_iteration": seconds / (report.iteration + 1)}


def _point(iteration: int, seconds: float, evaluations: float, stats: Mapping[str, Any]) -> dict[str, Any]:
    means = {name: value.mean for name, value in stats.items()}
    return {"iteration": iteration, "seconds": seconds, "kilo_evaluations": evaluations / 1000, **means}


def kept_run(path: Path, config: TrainConfig, budget: Budget, reward: Reward | None = None) -> dict[str, Any]:
    """The run at ``path`` if it is there, else a new one put there: a benchmark that was stopped goes on.

    Raises:
        ValueError: the run that is there was made with other settings.
    """
    asked = {"config": to_dict(config), "budget": asdict(budget)}
    if not path.exists():
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        result = run(config, budget, reward)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({**result, **asked}))
        os.replace(partial, path)
    kept = json.loads(path.read_text())
    if {name: kept.get(name) for name in asked} != asked:
        raise ValueError(f"{path} was made with other settings: remove it to make it anew")
    return kept
