"""The demo model at 4, 6 and 8 steps: does it learn, with which window and kernel.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/few_steps.py [--iterations 10] [--seeds 2]

One rollout of 8 prompts x 12 images and 4 updates an iteration; held-out images are made with as many steps as the
rollouts. Runs are kept in ``results/``; a stopped benchmark goes on.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from demo_runs import RESULTS, WATCHED, Budget, followed, keep

from mixgrpo_core import FlowCPS, FlowSDE, FrozenWindow, WindowPlanner, mixgrpo
from mixgrpo_core.demo import held_out_prompts, train_prompts
from mixgrpo_core.evaluation.held_out import HeldOut, Prompted, evaluate
from mixgrpo_core.models.families.demo import load_demo
from mixgrpo_core.models.port import FlowModel
from mixgrpo_core.rewards.shapes import ShapeReward
from mixgrpo_core.rewards.stats import RewardStats
from mixgrpo_core.sampling.kernels import Kernel
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.training.loop import train

TABLE = Path(__file__).parent / "few_steps.md"
STEPS = (4, 6, 8)
WINDOWS: Mapping[str, FrozenWindow] = {
    "first step": FrozenWindow(size=1),
    "first two": FrozenWindow(size=2),
}
KERNELS: tuple[Kernel, ...] = (FlowSDE(eta=0.7), FlowCPS(eta=0.8))
_RATE, _IMAGES = 2e-3, 4


def config_of(steps: int, window: FrozenWindow, kernel: Kernel, seed: int, iterations: int) -> TrainConfig:
    """MixGRPO at the demo's size with so few steps."""
    return replace(
        mixgrpo(),
        iterations=iterations,
        seed=seed,
        steps=steps,
        images_per_prompt=12,
        prompts_per_iteration=8,
        planner=WindowPlanner(window=window),
        kernel=kernel,
        learning_rate=_RATE,
        eval_every=0,
    )


def figures(model: FlowModel, steps: int) -> Mapping[str, RewardStats]:
    """Held-out figures with so many steps."""
    prompts = [Prompted(prompt=prompt, cond=model.encode(prompt)) for prompt in held_out_prompts()]
    asked = HeldOut(prompts=prompts, sigmas=model.grid(steps), images_per_prompt=_IMAGES, batch=96)
    return evaluate(model, asked, WATCHED).rewards


def run(config: TrainConfig) -> dict[str, Any]:
    """A run's curve."""
    model = load_demo(seed=config.seed)
    start = figures(model, config.steps)
    torch.manual_seed(config.seed)
    reports = train(model, train_prompts(), {"shape": ShapeReward()}, config)
    budget = Budget(seconds=1e9, every=1e9)
    return followed(reports, lambda: figures(model, config.steps), config, budget, start=start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        f"# The demo model with few steps, {asked.iterations} iterations",
        "",
        "Held-out reward (and share of clean images), before and after, one number a seed; learning rate "
        f"{_RATE:g}, images made with as many steps as the rollouts.",
        "",
        "| steps | noisy and trained | kernel | reward | clean | diversity |",
        "|---|---|---|---|---|---|",
    ]
    for steps, (label, window), kernel in product(STEPS, WINDOWS.items(), KERNELS):
        ends, start = [], {}
        for seed in range(asked.seeds):
            name = f"{steps}-{label.replace(' ', '-')}-{type(kernel).__name__}-{asked.iterations}-{seed}.json"
            path = RESULTS / "few_steps" / name
            if not path.exists():
                keep(path, run(config_of(steps, window, kernel, seed, asked.iterations)))
            curve = json.loads(path.read_text())["curve"]
            start, end = curve[0], curve[-1]
            ends.append(end)
        cells = (
            f"{start[key]:.3f} -> {', '.join(f'{end[key]:.3f}' for end in ends)}"
            for key in ("shape", "clean", "diversity")
        )
        lines.append(f"| {steps} | {label} | `{type(kernel).__name__}({kernel.eta:g})` | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    TABLE.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
