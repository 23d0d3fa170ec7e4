"""What a row and an image of the demo model take, as medians of CPU seconds: the prices in `method_worlds.py`.

OMP_NUM_THREADS=1 .venv/bin/python benchmarks/work_price.py
"""

import statistics
from collections.abc import Callable
from time import process_time

import torch

from mixgrpo_core.demo import train_prompts
from mixgrpo_core.models.families.demo import load_demo
from mixgrpo_core.rewards.port import RewardBatch
from mixgrpo_core.rewards.shapes import ShapeReward
from mixgrpo_core.sampling.ode import decode

GROUP, CHUNK = 12, 48
"""Rows of a rollout's call and of an update's."""


def median(work: Callable[[], object], times: int) -> float:
    """CPU seconds."""
    found = []
    for _ in range(times + 1):  # the first warms up
        start = process_time()
        work()
        found.append(process_time() - start)
    return statistics.median(found[1:])


def main() -> None:
    torch.set_num_threads(1)
    model, prompt, sigma = load_demo(), train_prompts()[0], torch.tensor(0.7)
    cond, reward = model.encode(prompt), ShapeReward()

    few, many = model.noise(0, GROUP), model.noise(0, CHUNK)

    def forward() -> None:
        with torch.no_grad():
            model.run([cond], lambda velocity: velocity(few, sigma))

    def trained() -> None:
        model.run([cond], lambda velocity: velocity(many, sigma).square().mean().backward())

    images = decode(model, few, GROUP)
    batch = RewardBatch(images=images, prompts=(prompt,) * GROUP)
    seconds = {
        "a row": median(forward, 60) / GROUP,
        "a row with its gradient": median(trained, 20) / CHUNK,
        "an image decoded": median(lambda: decode(model, few, GROUP), 15) / GROUP,
        "an image scored": median(lambda: reward(batch), 15) / GROUP,
    }
    for name, value in seconds.items():
        print(f"{name}: {1000 * value:.3f} ms")


if __name__ == "__main__":
    main()
