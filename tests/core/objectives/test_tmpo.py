"""TMPO: softmax trajectory balance over a tree, against one graph over all paths."""

from dataclasses import replace

import pytest
import torch
from core.objectives.toys import (
    Toy,
    direction,
    gradient_of,
    make_groups,
    masked,
    off_policy_gradient,
    permuted,
    plain_gradient,
)
from torch.distributions import Normal

from mixgrpo_core.objectives import GRPO, TMPO, path_balance, path_loss
from mixgrpo_core.objectives.pieces import Moment
from mixgrpo_core.sampling.planners import ODE, Step, StepPlan
from mixgrpo_core.sampling.schedule import flow_sigmas

SPLIT = Step(stochastic=True, trained=True, children=2)
TREE = StepPlan(flow_sigmas(6, 3.0), (ODE, SPLIT, SPLIT, SPLIT, ODE, ODE))
LOGS = torch.tensor([-1.2, 0.3, -0.4, 2.0], dtype=torch.float64)
REWARDS = torch.tensor([1.0, -1.0, 0.5, -0.5], dtype=torch.float64)


def test_it_is_beta_times_the_reward_less_the_path_s_log_prob():
    found = path_balance(LOGS, REWARDS, 1.7, 0.5)
    expected = 1.7 * (REWARDS - REWARDS.mean()) - 0.5 * (LOGS - LOGS.mean())
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(path_balance(LOGS + 3, REWARDS - 7, 1.7, 0.5), found)
    assert found.dtype == torch.float64


def test_it_is_zero_if_and_only_if_the_paths_are_as_likely_as_their_rewards_say():
    torch.testing.assert_close(path_balance(2 * REWARDS + 4, REWARDS, 2.0), torch.zeros(4, dtype=torch.float64))
    assert path_balance(2.1 * REWARDS, REWARDS, 2.0).abs().max() > 0.01


def test_the_first_update_s_coefficients():
    """At ratio 1 the loss's derivative by a path's log-prob is -A / G."""
    balance, ratio = path_balance(LOGS, REWARDS, 0.8), LOGS.clone().requires_grad_()
    loss, found = path_loss(ratio - ratio.detach(), balance, 0.2)
    (slope,) = torch.autograd.grad(loss, ratio)
    torch.testing.assert_close(slope, -balance / 4)
    assert torch.equal(found, torch.ones(4, dtype=torch.float64))


def test_a_ratio_that_has_gone_far_enough_is_stopped_and_one_that_must_come_back_is_not():
    balance = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    ratio = torch.tensor([0.5, -0.5, 0.5, -0.5], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(path_loss(ratio, balance, 0.2)[0], ratio)
    assert (slope == 0).tolist() == [True, False, False, True]
    assert path_loss(ratio.detach() + 100, balance, 0.2)[1].isfinite().all()


def test_on_a_group_at_first_it_is_grpo_with_that_advantage():
    """``GRPO`` is a mean over the W steps, this sums over them."""
    model = Toy()
    (group,) = make_groups(model, (8,), TREE)
    old = torch.stack([step.old_log_prob for step in group.trajectory.transitions], 1).sum(1)
    balance = path_balance(old, group.advantage, 0.8, 50.0)
    assert (balance - 0.8 * group.advantage).abs().max() > 0.01, "the paths' log-probs count"
    found = gradient_of(model, [group], TMPO(exponent=50.0))
    plain = gradient_of(model, [replace(group, advantage=balance)], GRPO(adv_clip=100))
    torch.testing.assert_close(found, 3 * plain, rtol=1e-6, atol=1e-10)


def one_graph(model, groups, objective, iteration):
    losses, members = [], 0
    for group in groups:
        paths, old = 0, 0
        for t in group.trajectory.transitions:
            x = t.x[t.parent]
            v = model.run([group.cond], lambda velocity, x=x, t=t: velocity(x, t.sigma))
            gaussian = t.kernel(x, v, t.sigma, t.sigma_next)
            paths = paths + Normal(gaussian.mean, gaussian.std).log_prob(t.x_next).flatten(1).mean(1)
            old = old + t.old_log_prob
        beta = 0.8 + 1.2 * iteration / 150
        a = (beta * group.advantage).log_softmax(0) - (objective.exponent * paths.detach()).log_softmax(0)
        a, ratio = a - a.mean(), ((paths - old) - (paths - old).detach().mean()).exp()
        c = objective.clip
        losses.append(torch.max(-a * ratio, -a * ratio.clamp(1 - c, 1 + c)).sum())
        members += len(a)
    return sum(losses) / members


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_two_passes_are_one_big_graph(batch):
    """Groups of 7 (a member was masked) and 8, in another order, after the weights moved away from the rollout's."""
    model, objective = Toy(), TMPO(exponent=3.0, clip=0.02)
    first, second = make_groups(model, (8, 8), TREE)
    groups, move = (
        [permuted(masked(first, [0, 1, 2, 4, 5, 6, 7]), [3, 0, 4, 1, 2, 6, 5]), second],
        direction(model, 0.1),
    )
    found, stats = off_policy_gradient(model, groups, objective, move, batch=batch, moment=Moment(iteration=30))
    expected = plain_gradient(model, lambda: one_graph(model, groups, objective, 30), move)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert 0 < stats.figures["clip_low"] + stats.figures["clip_high"] < 1
    assert stats.figures["imbalance"] > 0 and stats.figures["path_spread"] > 0


def test_beta_rises_to_its_end_and_stays():
    assert [TMPO().beta_at(i) for i in (0, 75, 150, 900)] == pytest.approx([0.8, 1.4, 2.0, 2.0])


@pytest.mark.parametrize("wrong", [{"beta": 0}, {"clip": 0}, {"beta_over": 0}, {"exponent": -1}, {"kl": -1}])
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match="expected|must be"):
        TMPO(**wrong)
