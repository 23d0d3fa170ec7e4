"""Compare two algorithms: the same prompts, seeds and held-out images, and a table of what each reached.

    python examples/two_algorithms.py                   # MixGRPO against Flow-GRPO, a few minutes on two cores
    python examples/two_algorithms.py --seeds 0 1 2     # with a spread, which one seed does not give

What is compared has to cost the same. Here it is the number of images; the table shows what the network was asked for.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from statistics import mean, stdev

from mixgrpo_core import FullPlanner, SlidingWindow, TrainConfig, WindowPlanner, train
from mixgrpo_core.demo import held_out_prompts, train_prompts
from mixgrpo_core.models import load_demo
from mixgrpo_core.rewards import ShapeReward


def trained(config: TrainConfig, held_out: int) -> tuple[float, float, float]:
    """Held-out reward before and after a run, and its network evaluations per image and iteration."""
    evaluated, evaluations = [], []
    prompts = held_out_prompts()[:held_out]
    for report in train(load_demo(rank=8), train_prompts(), {"shape": ShapeReward()}, config, held_out=prompts):
        evaluated += [evaluation.rewards["shape"].mean for evaluation in report.evaluations]
        evaluations.append(sum(report.nfe.get(phase, 0) for phase in ("rollout", "train")))
    return evaluated[0], evaluated[-1], mean(evaluations)


def shown(values: list[float]) -> str:
    """A mean, with the standard deviation over seeds where there are several."""
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--iterations", type=int, default=20)
    options.add_argument("--images", type=int, default=12, help="images per prompt")
    options.add_argument("--steps", type=int, default=12)
    options.add_argument("--held-out", type=int, default=16, help="prompts of the evaluation")
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    asked = options.parse_args()
    shared = TrainConfig(
        iterations=asked.iterations,
        images_per_prompt=asked.images,
        steps=asked.steps,
        prompts_per_iteration=4,
        learning_rate=5e-4,
        eval_every=asked.iterations,
        eval_images=2,
    )
    algorithms: Mapping[str, TrainConfig] = {
        "MixGRPO": replace(shared, planner=WindowPlanner(window=SlidingWindow(size=4, hold=5, last=3))),
        "Flow-GRPO": replace(shared, planner=FullPlanner()),
    }
    print(f"{'algorithm':12} {'before':>16} {'after':>16} {'evaluations per image':>24}")
    for name, config in algorithms.items():
        runs = [trained(replace(config, seed=seed), asked.held_out) for seed in asked.seeds]
        before, after, evaluations = (list(column) for column in zip(*runs, strict=True))
        print(f"{name:12} {shown(before):>16} {shown(after):>16} {mean(evaluations):>24.1f}")


if __name__ == "__main__":
    main()
