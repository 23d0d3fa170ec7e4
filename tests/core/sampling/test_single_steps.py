"""Planners of one trained step: which it is, what it is worth, and what the others cost."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from mixgrpo_core import TrainConfig
from mixgrpo_core.objectives import GRPO, FlatGradient
from mixgrpo_core.objectives.pieces import StepNumbers
from mixgrpo_core.sampling import BranchStepPlanner, FlowSDE, IsoTemporalPlanner, MergedStepPlanner
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.training.cost import iteration_cost

GRID = flow_sigmas(20, 3.0)
PLANNERS = [IsoTemporalPlanner(), MergedStepPlanner(), BranchStepPlanner(share=0.5)]


def drawn(planner, iterations=400, prompts=1, grid=GRID):
    return [planner.plan(i, p, grid).trained for i in range(iterations) for p in range(prompts)]


@pytest.mark.parametrize("planner", PLANNERS)
def test_one_step_of_the_noisier_half_each_as_often(planner):
    counts = Counter(drawn(planner, 2000))
    assert {step for (step,) in counts} == set(range(10)) == set(planner.candidates(GRID))
    assert all(count == pytest.approx(200, abs=60) for count in counts.values())


@pytest.mark.parametrize("planner", PLANNERS)
def test_a_draw_is_of_seed_iteration_and_prompt_alone_and_other_prompts_may_differ(planner):
    assert drawn(planner, 20, 3) == drawn(planner, 20, 3)
    assert drawn(planner, 20) != drawn(replace(planner, seed=1), 20)
    plans = [{planner.plan(i, p, GRID).trained for p in range(4)} for i in range(5)]
    assert any(len(found) > 1 for found in plans)
    for plan in (planner.plan(i, 0, GRID) for i in range(20)):
        assert plan.stochastic == plan.trained, "ODE everywhere else"


def test_the_published_table_of_weights_is_std_over_kappa():
    """Flash-GRPO's table: noise proportional to sigma, levels from 0.999, shift 3, 20 steps."""
    levels = 3 * (grid := torch.linspace(0.999, 0, 21, dtype=torch.float64)) / (1 + 2 * grid)
    table = []
    for t, s in zip(levels[:10].tolist(), levels[1:11].tolist(), strict=True):
        h, g = t - s, float(levels[1]) * t
        kappa, std = h * (1 + g**2 * (1 - t) / (2 * t)), g * math.sqrt(h)
        table.append(FlatGradient().on_loss(StepNumbers(kappa, std, h)))
    assert [*table[:5], table[9]] == pytest.approx([7.4770, 7.0414, 6.6112, 6.1867, 5.7682, 3.7754], abs=5e-5)


def test_weights_make_every_step_s_gradient_alike_and_are_known_for_25_steps():
    config = TrainConfig(
        steps=25, shift=3.0, planner=IsoTemporalPlanner(share=1), objective=GRPO(step_weight=FlatGradient())
    )
    steps = config.updating(config.sigmas()).candidates
    ratios = [step.std / step.kappa for step in steps]
    assert [ratios[0], ratios[1], ratios[23]] == pytest.approx([51.10, 39.66, 0.928], rel=1e-3)
    factors = [FlatGradient().loss_factor(step, steps) * step.kappa / step.std for step in steps]
    assert max(factors) == pytest.approx(min(factors), rel=1e-12)
    assert sum(FlatGradient().loss_factor(step, steps) for step in steps) / len(steps) == pytest.approx(1)


def test_one_evaluation_an_image_is_differentiated_and_the_shared_prefix_is_one_row():
    config = TrainConfig(
        steps=10, images_per_prompt=6, prompts_per_iteration=2, updates=1, planner=IsoTemporalPlanner()
    )
    found = iteration_cost(config, 0)
    (one,), (two,) = (config.plan(0, prompt, config.sigmas()).trained for prompt in (0, 1))
    rows = sum(step + 1 + 6 * (9 - step) for step in (one, two))
    assert found.nfe["rollout"] * 12 == rows
    assert found.differentiated * 12 == 2, "all images of a prompt come from one latent"


def test_a_merged_step_spans_several_levels_and_has_their_standard_deviation():
    planner, kernel = MergedStepPlanner(merge=3), FlowSDE(0.7)
    for iteration in range(20):
        plan = planner.plan(iteration, 0, GRID)
        (step,) = plan.trained
        assert len(plan.sigmas) == 21 - 2
        assert torch.equal(plan.sigmas, torch.cat([GRID[: step + 1], GRID[step + 3 :]]))
        if step:
            t, s = float(GRID[step]), float(GRID[step + 3])
            expected = 0.7 * math.sqrt(t / (1 - t)) * math.sqrt(t - s)
            assert kernel.sensitivity(plan.sigmas[step], plan.sigmas[step + 1])[1] == pytest.approx(expected, rel=1e-6)


def test_entropies_fall_from_the_second_step_on_and_merging_raises_them():
    grid, kernel = flow_sigmas(16, 3.0), FlowSDE(0.7)
    entropies = {
        merge: [
            0.5 * math.log(2 * math.pi * math.e * kernel.sensitivity(step.sigma, step.sigma_next)[1] ** 2)
            for step in MergedStepPlanner(merge=merge, share=1).trainable(grid)
        ]
        for merge in (1, 2)
    }
    assert entropies[1][1:] == sorted(entropies[1][1:], reverse=True)
    assert all(two > one for one, two in zip(entropies[1][1:], entropies[2][1:], strict=False))
    assert kernel.sensitivity(grid[1], grid[3])[1] == pytest.approx(1.05, abs=0.01), "near noise it is above 1"


def test_merging_one_step_is_the_plain_single_step_and_weights_are_those_of_merged_steps():
    plain, one = IsoTemporalPlanner().trainable(GRID), MergedStepPlanner(merge=1).trainable(GRID)
    assert [tuple(map(float, step)) for step in plain] == [tuple(map(float, step)) for step in one]
    config = TrainConfig(steps=20, planner=MergedStepPlanner(merge=2))
    numbers = config.updating(GRID).candidates
    assert numbers == [StepNumbers.of(config.kernel, GRID[k], GRID[k + 2]) for k in range(10)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: IsoTemporalPlanner(share=0), "share must be above 0"),
        (lambda: MergedStepPlanner(merge=0), "merge must be 1 or more"),
        (lambda: BranchStepPlanner(children=1), "children must be 2 or more"),
        (lambda: TrainConfig(steps=3, planner=MergedStepPlanner(merge=3)), "take at least 4, or merge fewer"),
        (lambda: TrainConfig(steps=1, planner=IsoTemporalPlanner()), "the planner trains none of the 1 steps"),
    ],
)
def test_what_cannot_be_is_told(make, words):
    with pytest.raises(ValueError, match=words):
        make()
