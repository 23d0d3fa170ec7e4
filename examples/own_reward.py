"""Train on a reward of your own, and watch one that is not trained on.

    python examples/own_reward.py                  # a minute on two cores
    python examples/own_reward.py --iterations 40

The reward likes pictures that are warm on the left and cold on the right. ``clean`` (one whole figure) is only watched:
where it falls while the reward rises, the model cheats.
"""

import argparse
from dataclasses import dataclass

from mixgrpo_core import FrozenWindow, RunFolder, TrainConfig, WindowPlanner, train
from mixgrpo_core.demo import held_out_prompts, train_prompts
from mixgrpo_core.models import load_demo
from mixgrpo_core.rewards import RewardBatch, Scores, ShapeCleanliness, StatelessReward


@dataclass(frozen=True)
class WarmToCold(StatelessReward):
    """Red minus blue on the left, plus blue minus red on the right, -2 to 2."""

    def __call__(self, batch: RewardBatch) -> Scores:
        """Scores ``[G]``."""
        warmth = batch.images[..., 0] - batch.images[..., 2]
        half = warmth.shape[2] // 2
        return Scores.of(warmth[:, :, :half].mean((1, 2)) - warmth[:, :, half:].mean((1, 2)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--iterations", type=int, default=10)
    options.add_argument("--images", type=int, default=12, help="images per prompt")
    options.add_argument("--steps", type=int, default=12)
    options.add_argument("--out", default="runs/own_reward")
    asked = options.parse_args()
    config = TrainConfig(
        iterations=asked.iterations,
        images_per_prompt=asked.images,
        steps=asked.steps,
        prompts_per_iteration=2,
        planner=WindowPlanner(window=FrozenWindow(size=4)),
        reward_weights={"warm": 1.0, "clean": 0.0},
        learning_rate=5e-4,
        eval_every=5,
        eval_images=2,
    )
    rewards = {"warm": WarmToCold(), "clean": ShapeCleanliness()}
    run = RunFolder.open_or_create(asked.out, config)
    for report in train(load_demo(rank=8), train_prompts(), rewards, config, held_out=held_out_prompts()[:4], run=run):
        print(f"{report.iteration:3}  warm {report.rewards['warm'].mean:+.3f}")
        for evaluation in report.evaluations:
            watched = ", ".join(f"{name} {stats.mean:.3f}" for name, stats in evaluation.rewards.items())
            print(f"     held out: {watched}")
    print("LoRA:", run.lora("last"))


if __name__ == "__main__":
    main()
