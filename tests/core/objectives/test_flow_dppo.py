"""Flow-DPPO: which cells are dropped, and what is left of the loss."""

import math
from dataclasses import replace

import pytest
import torch
from core.objectives.toys import Toy, direction, gradient_of, make_groups, off_policy_gradient, plain_gradient, update
from torch.distributions import Normal, kl_divergence

from mixgrpo_core.objectives import FlowDPPO, dppo_loss, dropped_cells, step_kl
from mixgrpo_core.objectives.ratio import default_clip
from mixgrpo_core.support.phases import PhaseClock

TAU = 2e-3


def cells(model, group, t):
    """Log-ratio and KL of a step, by torch's own densities."""
    x = t.x[t.parent]
    v = model.run([group.cond], lambda velocity: velocity(x, t.sigma))
    gaussian = t.kernel(x, v, t.sigma, t.sigma_next)
    new, old = Normal(gaussian.mean, gaussian.std), Normal(t.old_mean[t.parent], gaussian.std)
    log_ratio = new.log_prob(t.x_next) - old.log_prob(t.x_next)
    return log_ratio.flatten(1).mean(1), kl_divergence(new, old).flatten(1).mean(1)


def plain_loss(model, groups, tau):
    """Cell by cell, the rule spelled out."""
    losses, dropped = [], []
    for group in groups:
        for t in group.trajectory.transitions:
            for log_ratio, kl, a in zip(*cells(model, group, t), group.advantage, strict=True):
                ratio = log_ratio.exp()
                gone = kl >= tau and ((ratio > 1 and a > 0) or (ratio < 1 and a < 0))
                dropped.append(float(gone))
                losses.append(0 * ratio if gone else -a * ratio)
    return torch.stack(losses).mean(), sum(dropped) / len(dropped)


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_its_gradient_is_that_of_the_cells_that_are_left(batch):
    model = Toy()
    groups, move = make_groups(model, (6, 3)), direction(model, 0.1)
    gradient, stats = off_policy_gradient(model, groups, FlowDPPO(tau=TAU), move, batch=batch)
    expected = plain_gradient(model, lambda: plain_loss(model, groups, TAU)[0], move)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    free = plain_gradient(model, lambda: plain_loss(model, groups, math.inf)[0], move)
    assert (gradient - free).norm() > 0.05 * free.norm()
    assert 0.05 < stats.figures["dropped"] < stats.figures["above_tau"] < 0.5  # halves: the first step drops nothing


def test_its_gradient_is_that_of_its_loss_by_finite_differences():
    model, step = Toy(), 1e-7
    groups, move = make_groups(model), direction(model, 0.1)
    gradient, _ = off_policy_gradient(model, groups, FlowDPPO(tau=TAU, kl=0.2), move, batch=4)

    def loss(by):
        return 2 * off_policy_gradient(model, groups, FlowDPPO(tau=TAU, kl=0.2), by, batch=4)[1].figures["loss"]

    for seed in range(3):
        along = direction(model, 1, seed=10 + seed)
        found = (loss(move + step * along) - loss(move - step * along)) / (2 * step)
        assert found == pytest.approx(float(gradient @ along), rel=1e-5)


def test_without_a_threshold_it_is_the_plain_ratio_times_the_advantage():
    model = Toy()
    groups, move = make_groups(model), direction(model, 0.1)
    gradient, stats = off_policy_gradient(model, groups, FlowDPPO(tau=math.inf), move)
    assert stats.figures["dropped"] == stats.figures["above_tau"] == 0
    expected = plain_gradient(model, lambda: plain_loss(model, groups, math.inf)[0], move)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_the_first_update_drops_nothing():
    stats, _ = update(Toy(), make_groups(Toy()), FlowDPPO(), batch=4)
    assert stats.figures["dropped"] == 0
    assert stats.figures["kl_step"] < 1e-20
    assert stats.figures["ratio_first"] < 1e-12


def test_its_figures_are_those_of_all_cells():
    model = Toy()
    groups, move = make_groups(model, (6, 3)), direction(model, 0.1)
    _, stats = off_policy_gradient(model, groups, FlowDPPO(tau=TAU), move, batch=4)
    twin = Toy()
    for parameter, part in zip(twin.parameters(), move.split([28, 24]), strict=True):
        parameter.data += part.view_as(parameter)
    kls = torch.cat([cells(twin, group, t)[1].detach() for group in groups for t in group.trajectory.transitions])
    assert 2 * stats.figures["kl_step"] == pytest.approx(float(kls.mean()), rel=1e-9)
    assert 2 * stats.figures["above_tau"] == pytest.approx(float((kls >= TAU).double().mean()), rel=1e-6)
    assert 2 * stats.figures["dropped"] == pytest.approx(plain_loss(twin, groups, TAU)[1], rel=1e-6)
    assert {"dropped", "kl_step", "above_tau"} <= stats.to_json().keys()


def test_a_move_that_mends_is_never_dropped():
    log_ratio = torch.tensor([0.5, 0.5, -0.5, -0.5, 0.0])
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0])
    found = dropped_cells(log_ratio, torch.full((5,), 9.0), advantage, 1.0)
    assert found.tolist() == [True, False, False, True, False]
    assert not dropped_cells(log_ratio, torch.full((5,), 0.5), advantage, 1.0).any()
    assert dropped_cells(log_ratio, torch.full((5,), 1.0), advantage, 1.0).any()  # at the threshold it is dropped


def test_the_denominator_is_all_cells():
    log_ratio = torch.zeros(4, dtype=torch.float64)
    dropped = torch.tensor([True, True, True, False])
    loss = dppo_loss(log_ratio, torch.full((4,), 8.0, dtype=torch.float64), dropped)
    assert float(loss) == -2.0
    assert loss.dtype == torch.float64


def test_an_overflowing_ratio_that_is_dropped_gives_no_nan():
    log_ratio = torch.tensor([1e4, 0.1], dtype=torch.float64, requires_grad=True)
    loss = dppo_loss(log_ratio, torch.tensor([1.0, 1.0]), torch.tensor([True, False]))
    (slope,) = torch.autograd.grad(loss, log_ratio)
    assert float(slope[0]) == 0
    assert float(slope[1]) == pytest.approx(-math.exp(0.1) / 2)


def test_the_kl_is_that_of_torchs_distributions():
    generator = torch.Generator().manual_seed(0)
    new, old = (torch.randn(5, 3, 2, 2, dtype=torch.float64, generator=generator) for _ in range(2))
    expected = kl_divergence(Normal(new, 0.3), Normal(old, 0.3)).flatten(1).mean(1)
    torch.testing.assert_close(step_kl(new, old, torch.tensor(0.3)), expected.double(), rtol=1e-6, atol=0)


def test_what_the_threshold_amounts_to_follows_default_clips_reasoning():
    """``default_clip`` stands for 0.036 std an element, which is a tau of 6.48e-4."""
    assert FlowDPPO(tau=0.036**2 / 2).clip_range(4096)[0] == pytest.approx(default_clip(4096))
    assert FlowDPPO().clip_range(1)[1] == pytest.approx(0.0044721, rel=1e-4)
    assert FlowDPPO(tau=math.inf).clip_range(10) == (math.inf, math.inf)


def test_old_means_are_taken_anew_where_rollout_and_update_differ():
    model = Toy()
    groups = make_groups(model)
    model.noise_of_batching = 0.05
    stats, _ = update(model, groups, FlowDPPO(), batch=4)
    assert stats.recomputed
    assert stats.figures["dropped"] == 0
    assert stats.figures["kl_step"] < 1e-20


def test_an_advantage_per_step_meets_its_own_step():
    model = Toy()
    (group,) = make_groups(model, (6,))
    per_step = torch.zeros(6, 3, dtype=torch.float64)
    per_step[:, 1] = group.advantage
    whole = gradient_of(model, [replace(group, advantage=per_step)], FlowDPPO(), batch=4)
    second = replace(group.trajectory, transitions=group.trajectory.transitions[1:2])
    alone = gradient_of(model, [replace(group, trajectory=second)], FlowDPPO())
    torch.testing.assert_close(whole * 3, alone, rtol=1e-9, atol=1e-12)


def test_a_kl_to_the_base_costs_no_second_forward_of_the_trained_policy():
    model = Toy()
    groups = make_groups(model)
    clock = PhaseClock(lambda: model.evaluations)
    update(model, groups, FlowDPPO(kl=0.1), clock=clock, batch=4)
    rows = sum(len(t.x) for group in groups for t in group.trajectory.transitions)
    assert clock.evaluations["train"] == clock.evaluations["reference"] == rows


def test_thresholds_and_weights_out_of_range_are_refused():
    with pytest.raises(ValueError, match="tau"):
        FlowDPPO(tau=0)
    with pytest.raises(ValueError, match="kl"):
        FlowDPPO(kl=-1)
