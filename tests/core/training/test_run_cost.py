"""One number for what a run costs: that of `mixgrpo plan` is that of the canvas, and of every iteration counted."""

from dataclasses import replace

import pytest

from mixgrpo_core import RandomWindow, SlidingWindow, TrainConfig, WindowPlanner
from mixgrpo_core.cli.plan import count_costs
from mixgrpo_core.training.cost import dance_iteration_cost, iteration_cost
from mixgrpo_core.training.run_cost import run_cost

CONFIG = TrainConfig(iterations=24, steps=8, images_per_prompt=4, prompts_per_iteration=2, updates=1)


@pytest.mark.parametrize("window", [RandomWindow(size=3), SlidingWindow(size=3, hold=4)])
@pytest.mark.parametrize("tail", [1.0, 0.4])
def test_a_run_costs_the_sum_of_its_iterations(window, tail):
    config = replace(CONFIG, planner=WindowPlanner(window=window, tail_ratio=tail))
    each = [iteration_cost(config, iteration).units for iteration in range(24)]
    whole = sum(each) / (24 * dance_iteration_cost(config).units)
    found = run_cost(config)
    assert found.share == pytest.approx(whole, rel=1e-12)
    costs = count_costs(config)
    assert costs.whole == found.share
    assert f"{found.span('rollout')}, training {found.span('train')}" in costs.caption
