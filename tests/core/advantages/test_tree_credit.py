"""Credit of trees: BranchGRPO by depth, TreeGRPO taken back to the root."""

import pytest
import torch
from core.objectives.toys import Toy, gradient_of
from groups import credit_of, plain_scores, scored_group
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mixgrpo_core.advantages import (
    BackedUp,
    DepthCredit,
    TimeCredit,
    WeightedAdvantages,
    back_up,
    depth_advantages,
    edge_means,
    width_pruned,
)
from mixgrpo_core.advantages.group import group_advantages
from mixgrpo_core.advantages.port import require_stages
from mixgrpo_core.objectives import GRPO
from mixgrpo_core.objectives.pieces import Group
from mixgrpo_core.sampling.kernels import FlowSDE
from mixgrpo_core.sampling.planners import ODE, SDE, Step, StepPlan
from mixgrpo_core.sampling.rollouts import RolloutSettings, rollout
from mixgrpo_core.sampling.schedule import flow_sigmas

HALF = 0.5**0.5
SPLIT = Step(stochastic=True, trained=True, children=2)
TREE = StepPlan(flow_sigmas(6, 3.0), (ODE, SPLIT, SPLIT, SPLIT, SDE, ODE))
EDGES = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 2], [0, 1, 3], [1, 2, 4], [1, 2, 5], [1, 3, 6], [1, 3, 7]])
ALL = torch.ones(8, dtype=torch.bool)
REWARDS = torch.tensor([1.0, 2, 4, 9, 0, 3, 3, 5], dtype=torch.float64)


def tree(plan=TREE, group_size=8):
    sampling = RolloutSettings(kernel=FlowSDE(0.7), store_dtype=torch.float64, keep_mean=True)
    return rollout(Toy(), 0.3, plan, sampling, group_size=group_size, seed=0)


def credit(stage, trajectory, rewards=REWARDS):
    (found,) = credit_of((WeightedAdvantages(), stage), [scored_group(plain_scores(*rewards), trajectory=trajectory)])
    return found


def test_a_step_s_outcomes_are_compared_by_their_leaves_means():
    found = depth_advantages(REWARDS, EDGES, ALL)
    torch.testing.assert_close(found[:, 2], group_advantages(REWARDS), msg="the last depth is the group's own")
    middle = group_advantages(torch.tensor([1.5, 6.5, 1.5, 4.0], dtype=torch.float64))
    torch.testing.assert_close(found[:, 1], middle.repeat_interleave(2))
    torch.testing.assert_close(found[:, 0], torch.tensor([HALF] * 4 + [-HALF] * 4, dtype=torch.float64))
    torch.testing.assert_close(found.sum(0), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)


@given(st.lists(st.integers(-20, 20), min_size=8, max_size=8), st.floats(0.1, 10), st.floats(-5, 5))
@examples(max_examples=60, deadline=None)
def test_an_affine_map_of_the_rewards_changes_nothing(values, scale, offset):
    rewards = torch.tensor(values, dtype=torch.float64)
    found = depth_advantages(rewards, EDGES, ALL)
    torch.testing.assert_close(depth_advantages(scale * rewards + offset, EDGES, ALL), found, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(depth_advantages(group_advantages(rewards), EDGES, ALL), found, atol=1e-5, rtol=1e-5)


def test_one_edge_a_step_gives_nothing_and_members_in_any_order_the_same():
    assert not depth_advantages(REWARDS, torch.zeros(8, 3, dtype=torch.long), ALL).any()
    order = torch.tensor([5, 2, 7, 0, 1, 6, 3, 4])
    torch.testing.assert_close(
        depth_advantages(REWARDS[order], EDGES[order], ALL), depth_advantages(REWARDS, EDGES, ALL)[order]
    )


def test_leaves_that_do_not_count_are_in_no_mean_and_an_edge_without_any_is_out():
    counted = torch.tensor([True, True, True, False, True, True, False, False])
    poisoned = torch.where(counted, REWARDS, 1e9)
    means = edge_means(poisoned, EDGES, counted)
    assert means[:, 1].tolist() == [1.5, 1.5, 4, 4, 1.5, 1.5, 0, 0]
    found = depth_advantages(poisoned, EDGES, counted)
    middle = group_advantages(torch.tensor([1.5, 4.0, 1.5], dtype=torch.float64))
    torch.testing.assert_close(found[[0, 2, 4], 1], middle)
    assert found[6, 1] == 0


def test_the_edges_of_a_rollout_are_those_of_its_tree_and_the_update_is_the_mean_over_each_depth_s_edges():
    trajectory, model = tree(), Toy()
    found = credit(DepthCredit(), trajectory)
    assert found.values.shape == (8, 4), "the step after the last split has the leaves, too"
    expected = depth_advantages(REWARDS, EDGES, ALL).float()
    torch.testing.assert_close(found.values[:, :3], expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.values[:, 3], expected[:, 2], atol=1e-6, rtol=1e-5)
    gradient = gradient_of(model, [Group(cond=0.3, trajectory=trajectory, advantage=found.values)], GRPO())
    by_edge = torch.zeros_like(gradient)
    for column in range(4):
        leaves = torch.stack(
            [(trajectory.transitions[column].edge == e).nonzero()[0, 0] for e in range(2 ** min(column + 1, 3))]
        )
        alone = torch.zeros(8, 4)
        alone[leaves, column] = found.values[leaves, column] * 8 / len(leaves)
        by_edge += gradient_of(model, [Group(cond=0.3, trajectory=trajectory, advantage=alone)], GRPO(adv_clip=100))
    torch.testing.assert_close(gradient, by_edge, atol=1e-9, rtol=1e-6)


def test_width_pruning_keeps_the_best_and_the_worst_after_the_last_split():
    edges = torch.cat([EDGES, EDGES[:, 2:], EDGES[:, 2:]], 1)
    ones = torch.ones(8, 5)
    found = width_pruned(ones, edges, REWARDS, 0.5)
    assert found[:, :3].all(), "what stands before keeps its credit"
    assert found[:, 3].nonzero()[:, 0].tolist() == [0, 3, 4, 7]
    assert torch.equal(found[:, 3], found[:, 4])
    assert int(width_pruned(ones, edges, REWARDS, 0.01)[:, 4].sum()) == 2
    assert torch.equal(width_pruned(ones, edges, REWARDS, 1.0), ones)
    assert int(width_pruned(ones, edges, torch.zeros(8), 0.5)[:, 4].sum()) == 4, "nobody twice"
    pruned, whole = credit(DepthCredit(width=0.5), tree()), credit(DepthCredit(), tree())
    assert torch.equal(pruned.values[:, :3], whole.values[:, :3])
    assert pruned.values[:, 3].nonzero()[:, 0].tolist() == [0, 3, 4, 7]
    assert whole.figures["flat_depths"] == 0


def test_even_weights_are_the_means_and_the_plain_gradient():
    values = group_advantages(REWARDS)
    torch.testing.assert_close(back_up(values, EDGES, ALL), edge_means(values, EDGES, ALL))
    equal = torch.full((8, 3), -1.3)
    torch.testing.assert_close(back_up(values, EDGES, ALL, equal), back_up(values, EDGES, ALL))
    trajectory, model = tree(), Toy()
    found = credit(BackedUp(), trajectory)
    torch.testing.assert_close(found.values[:, 2], values.float(), msg="the last depth is the group's own")
    plain = Group(cond=0.3, trajectory=trajectory, advantage=values)
    backed = Group(cond=0.3, trajectory=trajectory, advantage=found.values)
    torch.testing.assert_close(
        gradient_of(model, [backed], GRPO()), gradient_of(model, [plain], GRPO()), atol=1e-9, rtol=1e-6
    )
    assert 0 < found.figures["root_share"] < 1


def test_weights_by_log_prob_are_a_softmax_over_the_edges_that_follow():
    values = torch.arange(8, dtype=torch.float64)
    log_probs = torch.tensor([[0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 2], [0, 0, 0]])
    found = back_up(values, EDGES, ALL, log_probs.double())
    e = torch.tensor(1.0, dtype=torch.float64).exp()
    assert found[6, 1] == pytest.approx(float((6 * e**2 + 7) / (e**2 + 1)))
    assert found[0, 0] == pytest.approx(float((0.5 + 2.5 * e) / (1 + e)))
    cold = back_up(values, EDGES, ALL, log_probs.double(), 1e-3)
    assert (cold[6, 1], cold[0, 0]) == (6, 2.5)
    warm = back_up(values, EDGES, ALL, log_probs.double(), 1e9)
    torch.testing.assert_close(warm, back_up(values, EDGES, ALL), atol=1e-7, rtol=0)


def test_a_single_child_passes_its_value_on_and_nobody_counts_who_is_masked():
    chain = torch.arange(4)[:, None].expand(4, 3)
    values = torch.tensor([1.0, -2, 3, 4])
    torch.testing.assert_close(back_up(values, chain, ALL[:4]), values[:, None].expand(4, 3))
    counted = torch.tensor([True, True, True, False, True, True, False, False])
    found = back_up(torch.where(counted, REWARDS, 1e9), EDGES, counted)
    assert found[[0, 2], 1].tolist() == [1.5, 4]
    assert found[[0, 4], 0].tolist() == [2.75, 1.5]
    assert found[6].tolist() == [1.5, 0, 0]


@pytest.mark.parametrize("stage", [DepthCredit(), BackedUp()])
def test_they_take_one_number_per_image(stage):
    require_stages((WeightedAdvantages(), stage, TimeCredit()))
    with pytest.raises(ValueError, match="must stand before TimeCredit, which widens them"):
        require_stages((WeightedAdvantages(), TimeCredit(), stage))
    with pytest.raises(ValueError, match="this rollout has none: take the stage out"):
        credit_of((WeightedAdvantages(), stage), [scored_group(plain_scores(1, 2))])


def test_settings_that_make_no_sense():
    for make in (lambda: DepthCredit(width=0), lambda: BackedUp(temperature=0), lambda: BackedUp(weights="sum")):
        with pytest.raises(ValueError, match="must be"):
            make()
