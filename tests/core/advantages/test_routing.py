"""Routing: each reward's credit where it belongs, and exactly none where no reward does."""

import pytest
import torch
from core.objectives.toys import Toy
from groups import credit_of, path, scored_group
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mixgrpo_core.advantages import (
    BatchNormalised,
    Border,
    Inside,
    PromptMask,
    Route,
    RoutedCredit,
    TimeCredit,
    WeightedAdvantages,
    routed,
)
from mixgrpo_core.advantages.port import require_stages
from mixgrpo_core.objectives import PositionalGRPO, UpdateSettings, update_policy
from mixgrpo_core.objectives.pieces import Group
from mixgrpo_core.rewards.port import Context, Scores
from mixgrpo_core.sampling.kernels import FlowSDE
from mixgrpo_core.sampling.planners import windowed_plan
from mixgrpo_core.sampling.rollouts import RolloutSettings, rollout
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.support.facts import RunFacts
from mixgrpo_core.support.phases import PhaseClock

PARTS = torch.tensor([[1.0, -2.0], [-1.0, 2.0], [0.5, 0.0]], dtype=torch.float64)
WEIGHTS = torch.tensor([1.0, 1.0])
SCORES = {"a": Scores.of(torch.tensor([0.0, 1, 5])), "b": Scores.of(torch.tensor([3.0, 1, 2]))}
IMAGES = torch.zeros(3, 4, 4, 3)
EDIT = (Route("a", PromptMask()), Route("b", PromptMask(), outside=True))


def group_of(weights=None, context=None):
    latents = list(torch.randn(3, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0)))
    return scored_group(SCORES, weights, trajectory=path(latents, flow_sigmas(2)), context=context)


def routed_by(routes, **group):
    (found,) = credit_of((WeightedAdvantages(), RoutedCredit(routes)), [group_of(**group)], IMAGES)
    return found


def test_an_edit_and_its_rest():
    """m A_edit + (1 - m) A_keep: 1 is the edit alone, 1/2 the mean, and between it is linear."""
    for m in (0.0, 0.25, 0.5, 1.0):
        found = routed(PARTS, WEIGHTS, torch.tensor([[[m]], [[1 - m]]], dtype=torch.float64))
        torch.testing.assert_close(found[:, 0, 0], m * PARTS[:, 0] + (1 - m) * PARTS[:, 1])
    assert found.dtype == torch.float64


def test_weights_are_normalised_at_each_place_and_an_edge_is_as_soft_as_its_map():
    maps = torch.tensor([[1.0, 1, 0, 0.5, 0], [1.0, 0, 1, 0, 0]])
    found = routed(PARTS, torch.tensor([3.0, 1.0]), maps)
    expected = [(3 * PARTS[:, 0] + PARTS[:, 1]) / 4, PARTS[:, 0], PARTS[:, 1], PARTS[:, 0] / 2, 0 * PARTS[:, 0]]
    torch.testing.assert_close(found, torch.stack(expected, 1))


@given(st.floats(0.1, 10), st.lists(st.floats(0, 1), min_size=4, max_size=4))
@examples(max_examples=50, deadline=None)
def test_neither_the_scale_of_weights_nor_the_order_of_rewards_matters(scale, shares):
    maps, weights = torch.tensor(shares, dtype=torch.float64).view(2, 2), torch.tensor([0.3, 0.7])
    found = routed(PARTS, weights, maps)
    torch.testing.assert_close(routed(PARTS, scale * weights, maps), found)
    torch.testing.assert_close(routed(PARTS.flip(1), weights.flip(0), maps.flip(0)), found)


def test_all_rewards_everywhere_are_the_weighted_advantages():
    weights = {"a": 1.0, "b": 3.0}
    found = routed_by((Route("a"), Route("b")), weights=weights)
    (plain,) = credit_of(WeightedAdvantages(), [group_of(weights)])
    assert found.values.shape == (3, 2, 1, 4, 4)
    torch.testing.assert_close(found.values, plain.values.view(3, 1, 1, 1, 1).expand(found.values.shape))
    assert found.figures["routed_places"] == 1


def test_a_reward_without_a_route_counts_everywhere():
    found = routed_by((Route("a", Inside(right=0.5)),)).values[:, 0, 0, 0]
    parts = routed_by((Route("a"),)).parts
    torch.testing.assert_close(found[:, 0], (parts["a"] + parts["b"]) / 2)
    torch.testing.assert_close(found[:, 3], parts["b"])


def test_the_prompt_s_mask_divides_the_picture():
    mask = torch.zeros(4, 4)
    mask[:, :2] = 1
    found = routed_by(EDIT, context=Context(mask=mask))
    torch.testing.assert_close(found.values[:, 1, 0, 2, 0], found.parts["a"])
    torch.testing.assert_close(found.values[:, 1, 0, 2, 3], found.parts["b"])


def test_where_no_reward_is_routed_the_gradient_is_exactly_none():
    """A row of ``up`` makes one element of the velocity."""
    model, plan = Toy(), windowed_plan(flow_sigmas(7, 3.0), range(1, 4))
    sampling = RolloutSettings(kernel=FlowSDE(0.7), keep_mean=True, store_dtype=torch.float64)
    trajectory = rollout(model, 0.5, plan, sampling, group_size=3, seed=0)
    group = scored_group(SCORES, trajectory=trajectory, plan=plan, places=model.places)
    left = Inside(right=0.5)
    stages = (WeightedAdvantages(), RoutedCredit((Route("a", left), Route("b", left))))
    (found,) = credit_of(stages, [group], IMAGES)
    assert found.figures["routed_places"] == 0.5
    clock = PhaseClock(lambda: model.evaluations)
    with clock.phase("train"):
        update_policy(
            model,
            [Group(cond=0.5, trajectory=trajectory, advantage=found.values)],
            PositionalGRPO(),
            torch.optim.SGD(model.parameters(), lr=0.1),
            UpdateSettings(updates=1),
            clock=clock,
        )
    rows = model.up.grad.view(3, 2, 2, 2)
    assert (rows[:, :, 1] == 0).all()
    assert (rows[:, :, 0].abs().sum(-1) > 1e-6).all()


def facts(rewards=("a", "b"), masks=None):
    return RunFacts(
        latent_shape=(1,),
        trained_steps=(2,),
        rewards=rewards,
        masks=masks or {},
        images=4,
        leaves=(1,),
        shared_noise=True,
    )


def test_routes_that_lead_nowhere():
    with pytest.raises(
        ValueError, match=r"routes \['c'\], but the trained rewards are \['a', 'b'\]: correct the names"
    ):
        RoutedCredit((Route("c"),)).check(facts())
    with pytest.raises(ValueError, match="needs a mask with every prompt, found none with 1 of 2"):
        RoutedCredit(EDIT).check(facts(masks={"one": True, "two": False}))
    RoutedCredit(EDIT).check(facts(masks={"one": True}))
    for routes in ((), (Route("a"), Route("a", Border()))):
        with pytest.raises(ValueError, match="each once"):
            RoutedCredit(routes)
    with pytest.raises(ValueError, match="area must be an area"):
        Route("a", "left")


def test_it_stands_directly_after_the_first_stage():
    stage = RoutedCredit((Route("a"),))
    require_stages((BatchNormalised(), stage))
    with pytest.raises(ValueError, match="what TimeCredit made of them would be lost: put RoutedCredit directly after"):
        require_stages((WeightedAdvantages(), TimeCredit(), stage))
