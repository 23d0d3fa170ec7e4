"""Trees: where they split, whom they train, and what sharing saves by the counter of evaluations."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from toy import Red, ToyModel

from mixgrpo_core import SlidingWindow, TrainConfig, WindowPlanner, train
from mixgrpo_core.objectives.pieces import StepNumbers
from mixgrpo_core.sampling import BranchPlanner, GeometricWindow, TreePlanner, WanderingTreePlanner
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.sampling.wandering_tree import apart
from mixgrpo_core.sampling.windows_geometric import geometric_start
from mixgrpo_core.training.cost import iteration_cost

GRID = flow_sigmas(20, 3.0)
SIXTEEN = TrainConfig(steps=10, images_per_prompt=16, prompts_per_iteration=1, updates=1)


def test_sharing_saves_rows_by_the_counter():
    tree = iteration_cost(replace(SIXTEEN, planner=TreePlanner()), 0)
    chain = iteration_cost(replace(SIXTEEN, planner=WindowPlanner(window=SlidingWindow(size=4))), 0)
    assert (tree.nfe["rollout"], chain.nfe["rollout"]) == (111 / 16, 145 / 16), "6.9 and 9.1"
    assert (tree.differentiated, chain.differentiated) == (15 / 16, 49 / 16), "0.94 and 3.06"


def test_branch_grpo_s_tree():
    plan = BranchPlanner().plan(0, 0, GRID)
    assert plan.stochastic == plan.trained == tuple(range(19))
    assert [i for i, step in enumerate(plan.steps) if step.children > 1] == [0, 3, 6, 9]
    assert plan.leaves_per_row == 16
    found = iteration_cost(TrainConfig(steps=20, planner=BranchPlanner(), images_per_prompt=16, updates=1), 0)
    rows = 1 + 2 * 3 + 4 * 3 + 8 * 3 + 16 * 10
    assert found.nfe["rollout"] == rows / 16
    assert found.differentiated == (rows - 16) / 16, "the last step is never trained"


def test_pruned_depths_slide_to_the_front_and_save_their_rows():
    planner = BranchPlanner(pruned=(14, 15, 16, 17), stop=8)
    assert [sorted(planner.pruned_at(i))[0] for i in (0, 29, 30, 179, 180, 900)] == [14, 14, 13, 9, 8, 8]
    plan = planner.plan(30, 0, GRID)
    assert set(range(19)) - set(plan.trained) == {13, 14, 15, 16}
    assert plan.stochastic == tuple(range(19))
    assert planner.candidates(GRID) == tuple(range(19)), "each is trained some time"
    still = replace(planner, slide=0)
    assert set(range(19)) - set(still.candidates(GRID)) == {14, 15, 16, 17}
    assert still.pruned_at(1000) == {14, 15, 16, 17}
    config = TrainConfig(steps=20, images_per_prompt=16, prompts_per_iteration=1, updates=1, planner=planner)
    whole = iteration_cost(replace(config, planner=BranchPlanner()), 0)
    assert whole.differentiated - iteration_cost(config, 0).differentiated == 4


@pytest.mark.parametrize("planner", [BranchPlanner(strength=2.0), TreePlanner(growth=1.5)])
def test_the_noise_s_strength_is_in_the_sample_and_in_its_log_prob(planner):
    """A ratio of 1 at the first update, and the spread of the children is the widened one."""
    config = TrainConfig(
        iterations=1, steps=12, images_per_prompt=16, prompts_per_iteration=1, updates=1, eval_every=0, planner=planner
    )
    (report,) = train(ToyModel(), ["a"], {"red": Red()}, config)
    assert report.update.figures["ratio_first"] < 1e-5
    plan = planner.plan(0, 0, config.sigmas())
    widened = [step.strength for step in plan.steps if step.children > 1]
    assert max(widened) > 1
    numbers = config.updating(config.sigmas()).candidates
    kernel = config.kernel.scaled(widened[-1])
    last = [i for i, step in enumerate(plan.steps) if step.children > 1][-1]
    assert StepNumbers.of(kernel, plan.sigmas[last], plan.sigmas[last + 1]) in numbers


def test_noise_grows_linearly_with_depth():
    plan = TreePlanner(growth=0.8).plan(60, 0, GRID)
    assert plan.trained == (1, 2, 3, 4)
    assert [plan.steps[i].strength for i in plan.trained] == pytest.approx([1, 1.2, 1.4, 1.6])
    assert all(step.strength == 1 for step in TreePlanner().plan(60, 0, GRID).steps)
    forms = TreePlanner(window=SlidingWindow(size=2, last=1), growth=1.0).trainable(GRID)
    assert [(float(f.sigma), f.strength) for f in forms] == [
        (float(GRID[0]), 1),
        (float(GRID[1]), 1),
        (float(GRID[1]), 1.5),
        (float(GRID[2]), 1.5),
    ]


@pytest.mark.parametrize("ratio", [0.5, 0.9, 1.0])
def test_a_windows_geometric_has_the_noted_probabilities(ratio):
    window, starts = GeometricWindow(size=3, ratio=ratio), 7
    counts = Counter(window.at(i, 10).start for i in range(4000))
    powers = [ratio**i for i in range(starts)]
    assert sum(powers) == pytest.approx((1 - ratio**starts) / (1 - ratio) if ratio < 1 else starts)
    for start, power in enumerate(powers):
        assert counts[start] / 4000 == pytest.approx(power / sum(powers), abs=0.03)
    assert window.at(7, 10) == window.at(7, 10)
    assert {len(window.at(i, 10)) for i in range(9)} == {3}
    assert (geometric_start(0.0, ratio, starts), geometric_start(1 - 2**-53, ratio, starts)) == (0, starts - 1)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 3), st.integers(0, 4))
@examples(max_examples=100, deadline=None)
def test_splits_keep_their_number_and_their_distance(places, gap, room):
    last = 1 + gap * (len(places) - 1) + room
    found = apart([min(place, last) for place in places], gap, last)
    assert len(found) == len(places)
    assert all(later - earlier >= gap for earlier, later in zip(found, found[1:], strict=False))
    assert found[0] >= 1 and found[-1] <= last


def test_a_wandering_tree_begins_early_and_ends_late():
    grid, planner = flow_sigmas(28, 3.0), WanderingTreePlanner(early=(4, 7, 12), late=(6, 12, 20), gap=3)
    early = torch.tensor([replace(planner, seed=seed).splits(0, grid) for seed in range(300)]).double().mean(0)
    late = torch.tensor([replace(planner, seed=seed).splits(500, grid) for seed in range(300)]).double().mean(0)
    assert (late > early).all()
    fixed = replace(planner, kappa=0.0)
    assert fixed.splits(0, grid) == [4, 7, 12]
    assert fixed.splits(250, grid) == [5, 10, 16]
    assert fixed.splits(10_000, grid) == [6, 12, 20]
    assert planner.splits(3, grid) == planner.splits(3, grid)


def test_the_published_one_has_27_leaves_whatever_is_drawn():
    planner, grid = WanderingTreePlanner(), flow_sigmas(6, 3.0)
    for iteration in range(0, 600, 7):
        plan = planner.plan(iteration, 0, grid)
        assert plan.leaves_per_row == 27
        assert len(plan.trained) == 3 and plan.trained[0] >= 1 and plan.trained[-1] <= 4
    assert planner.candidates(grid) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"planner": TreePlanner(), "images_per_prompt": 12},
            "tree of TreePlanner has 16 leaves, and 12 images .* images_per_prompt to 16",
        ),
        (
            {"planner": BranchPlanner(), "images_per_prompt": 40},
            "16 leaves, and 40 images .* images_per_prompt to 32",
        ),
        ({"planner": WanderingTreePlanner(), "images_per_prompt": 16}, "has 27 leaves"),
    ],
)
def test_leaves_that_do_not_fit_the_group_are_told_before_any_work(config, words):
    model = ToyModel()
    with pytest.raises(ValueError, match=words):
        list(train(model, ["a"], {"red": Red()}, TrainConfig(steps=12, **config)))
    assert model.evaluations == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TrainConfig(steps=10, planner=BranchPlanner()), "take at least 11 steps"),
        (lambda: BranchPlanner(splits=(3, 0)), "splits must be steps of 0 and more, ascending"),
        (lambda: BranchPlanner(children=1), "into 2 or more"),
        (lambda: TreePlanner(children=1), "children must be 2 or more"),
        (lambda: TreePlanner(growth=-1), "growth 0 or more"),
        (lambda: GeometricWindow(ratio=0), "ratio above 0"),
        (lambda: TrainConfig(steps=4, planner=TreePlanner(window=GeometricWindow(size=4))), "take at least 5 steps"),
        (lambda: WanderingTreePlanner(early=(1,)), "as many steps"),
        (lambda: TrainConfig(steps=4, planner=WanderingTreePlanner()), "need at least 6 steps, found 4"),
    ],
)
def test_what_cannot_be_is_told(make, words):
    with pytest.raises(ValueError, match=words):
        make()
