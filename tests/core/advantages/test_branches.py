"""TempFlow's branch credit: images of one latent are compared with each other only."""

import pytest
import torch
from core.objectives.toys import Toy, gradient_of
from groups import credit_of, plain_scores, scored_group

from mixgrpo_core.advantages import BranchAdvantages, WeightedAdvantages
from mixgrpo_core.advantages.group import group_advantages
from mixgrpo_core.objectives import GRPO
from mixgrpo_core.objectives.pieces import Group
from mixgrpo_core.sampling.kernels import FlowSDE
from mixgrpo_core.sampling.planners import ODE, Step, StepPlan
from mixgrpo_core.sampling.rollouts import RolloutSettings, rollout
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.support.facts import RunFacts

BRANCH = StepPlan(flow_sigmas(6, 3.0), (ODE, ODE, Step(stochastic=True, trained=True, children=3), ODE, ODE, ODE))
REWARDS = [1.0, 2, 4, 9, 9, 9]


def branched(shared_noise=False, group_size=6):
    sampling = RolloutSettings(kernel=FlowSDE(0.7), shared_noise=shared_noise, store_dtype=torch.float64)
    return rollout(Toy(), 0.3, BRANCH, sampling, group_size=group_size, seed=0)


def found_of(trajectory, rewards=REWARDS):
    group = scored_group(plain_scores(*rewards), trajectory=trajectory, plan=BRANCH)
    return credit_of(BranchAdvantages(), [group])[0]


def test_each_start_is_normalised_by_itself():
    found = found_of(branched())
    torch.testing.assert_close(found.values[:3], group_advantages(torch.tensor(REWARDS[:3])))
    assert not found.values[3:].any(), "equally good children teach nothing, however good they are"
    assert found.figures["flat_branches"] == 0.5
    torch.testing.assert_close(found.parts["reward"], found.values)


def test_with_a_shared_start_it_is_the_group_s():
    trajectory = branched(shared_noise=True)
    (plain,) = credit_of(WeightedAdvantages(), [scored_group(plain_scores(*REWARDS), trajectory=trajectory)])
    torch.testing.assert_close(found_of(trajectory).values, plain.values)


def test_a_root_whose_children_are_alike_has_no_gradient():
    model = Toy()
    trajectory = branched()
    whole = gradient_of(model, [Group(cond=0.3, trajectory=trajectory, advantage=found_of(trajectory).values)], GRPO())
    first = torch.arange(3)
    part = Group(cond=0.3, trajectory=trajectory.select(first), advantage=found_of(trajectory).values[first])
    torch.testing.assert_close(whole, gradient_of(model, [part], GRPO()) / 2)
    assert whole.abs().max() > 0


def test_the_prefix_is_evaluated_once_for_all_children_of_a_start():
    trajectory = branched(group_size=6)
    assert dict(trajectory.nfe) == {"prefix": 2 * 2, "window": 2, "suffix": 3 * 6}
    assert trajectory.transitions[0].parent.tolist() == [0, 0, 0, 1, 1, 1]


def test_without_anything_to_compare_it_is_refused():
    facts = {"latent_shape": (1,), "trained_steps": (1,), "rewards": ("r",), "masks": {}, "images": 4}
    with pytest.raises(ValueError, match="every image starts from noise of its own and none branches"):
        BranchAdvantages().check(RunFacts(**facts, leaves=(1,), shared_noise=False))
    BranchAdvantages().check(RunFacts(**facts, leaves=(1,), shared_noise=True))
    BranchAdvantages().check(RunFacts(**facts, leaves=(2,), shared_noise=False))
