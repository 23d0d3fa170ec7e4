"""AWM: its weightings, its levels, its ratio and its two pulls."""

import math
from dataclasses import replace

import pytest
import torch
from core.objectives.toys import (
    Toy,
    direction,
    followers,
    gradient_of,
    image_groups,
    masked,
    noised,
    off_policy_gradient,
    plain_gradient,
    seen_draws,
    shift,
    update,
    velocities,
)

from mixgrpo_core.objectives import AWM, GeneralHuber, Huber, LevelPower, matching_policy_loss
from mixgrpo_core.objectives.pieces import Moment
from mixgrpo_core.objectives.port import DrawRequest
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.support.phases import PhaseClock

WEIGHTS = [LevelPower(0), LevelPower(1), LevelPower(2), Huber(), GeneralHuber(0.25)]


def log_prob(m, sigma, weight):
    """The published formulas, spelled out."""
    t = float(sigma)
    if isinstance(weight, LevelPower):
        return {0: -m, 1: -m * t, 2: -m * t * t}[weight.power]
    if isinstance(weight, Huber):
        return -(torch.sqrt(m + 1e-10) - 1e-5) * t
    p = weight.power
    return -(torch.pow(m + 1e-10, p) - 1e-10**p) * t / p


def big_graph(model, groups, draws, objective, old, ema):
    """All members and draws in one graph; ``old`` and ``ema`` are weights."""
    total, cells = 0, 0
    for group, columns in zip(groups, draws, strict=True):
        a = group.advantage.clamp(-5, 5) / 5
        for sigma, noise in columns:
            x, u = noised(group, sigma, noise)
            v = velocities(model, group, sigma, x)
            before, average, base = (velocities(model, group, sigma, x, weights) for weights in (old, ema, None))
            new, past = (log_prob((y - u).square().flatten(1).mean(1), sigma, objective.weight) for y in (v, before))
            ratio = (new - past).exp()
            low, high = 1 - objective.clip, 1 + objective.clip
            total = total - torch.min(a * ratio, a * ratio.clamp(low, high)).sum()
            total = total + objective.kl * (v - base).square().flatten(1).mean(1).sum()
            total = total + objective.ema_kl * (v - average).square().flatten(1).mean(1).sum()
            cells += len(a)
    return total / cells


@pytest.mark.parametrize("batch", [1, 4, 64])
@pytest.mark.parametrize("weight", WEIGHTS, ids=repr)
def test_its_second_update_is_one_big_graph(weight, batch):
    model = Toy()
    first, second = image_groups(model, (6, 3))
    groups, objective = [masked(first, [0, 1, 3, 5]), second], AWM(weight=weight, clip=0.05, kl=0.2)
    old = {name: tensor.clone() for name, tensor in model.lora_state().items()}
    lagged, move = followers(model, objective, 0.05), direction(model, 0.1)
    draws = seen_draws(model, groups, objective, Moment(update=1), lagged=lagged)
    gradient, stats = off_policy_gradient(model, groups, objective, move, batch=batch, lagged=lagged)
    ema = lagged["ema"].weights
    expected = plain_gradient(model, lambda: big_graph(model, groups, draws, objective, old, ema), move)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    assert stats.figures["ratio_first"] == 0
    assert stats.figures["clip_low"] + stats.figures["clip_high"] > 0.02
    assert stats.figures["kl"] > 0 < stats.figures["kl_ema"]


@pytest.mark.parametrize("weight", WEIGHTS, ids=repr)
def test_its_gradient_is_that_of_its_loss_by_finite_differences(weight):
    model, step = Toy(), 1e-6
    groups, move = image_groups(model, (5, 3)), direction(model, 0.1)
    objective = AWM(weight=weight, clip=0.3, levels=2)
    lagged = followers(model, objective, 0.05)
    gradient, _ = off_policy_gradient(model, groups, objective, move, batch=4, lagged=lagged)

    def loss(by):
        return 2 * off_policy_gradient(model, groups, objective, by, batch=4, lagged=lagged)[1].figures["loss"]

    along = direction(model, 1, seed=10)
    found = (loss(move + step * along) - loss(move - step * along)) / (2 * step)
    assert found == pytest.approx(float(gradient @ along), rel=1e-5)


def test_the_general_huber_holds_the_others():
    m = torch.logspace(-6, 2, 40, dtype=torch.float64).requires_grad_()
    one, level = GeneralHuber(1.0).log_prob(m, 0.7), LevelPower(1).log_prob(m, 0.7)
    torch.testing.assert_close(one, level, rtol=0, atol=1e-10)
    half, huber = (torch.autograd.grad(w.log_prob(m, 0.7).sum(), m)[0] for w in (GeneralHuber(0.5), Huber()))
    torch.testing.assert_close(half, 2 * huber, rtol=1e-12, atol=0)


@pytest.mark.parametrize("weight", WEIGHTS, ids=repr)
def test_no_error_is_a_log_prob_of_zero_with_a_finite_slope(weight):
    m = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    value = weight.log_prob(m, 0.5)
    assert float(value.detach()) == pytest.approx(0, abs=1e-12)
    assert math.isfinite(float(torch.autograd.grad(value.sum(), m)[0]))
    assert value.dtype == torch.float64
    assert float(weight.log_prob(torch.tensor([2.0]), 0.5)) < float(weight.log_prob(torch.tensor([1.0]), 0.5)) < 0


def test_advantages_are_clamped_and_divided():
    new = torch.zeros(3, 1, dtype=torch.float64, requires_grad=True)
    loss = matching_policy_loss(new, torch.zeros(3, 1).double(), torch.tensor([10.0, -2.5, 5.0]), 1.0, 5.0).loss
    (slope,) = torch.autograd.grad(loss, new)
    torch.testing.assert_close(slope[:, 0], torch.tensor([-1.0, 0.5, -1.0]).double() / 3)


def test_its_levels_are_one_of_each_stratum_of_the_published_grid():
    """14 steps: the first is left out and the last tenth, and steps 1 .. 11 fall into strata of 1, 2, 2, 2, 2, 2."""
    sigmas = flow_sigmas(14, 3.0)
    strata = [{1}, {2, 3}, {4, 5}, {6, 7}, {8, 9}, {10, 11}]
    seen = [set() for _ in strata]
    grid = [float(sigma) for sigma in sigmas]
    for seed in range(60):
        draws = AWM().draws(DrawRequest(sigmas=sigmas, seed=seed, shared_seed=0))
        for found, draw in zip(seen, draws, strict=True):
            found.add(grid.index(draw.sigma))
    assert seen == strata


@pytest.mark.parametrize("steps", [2, 3, 4, 5, 25])
def test_short_grids_give_as_many_levels_all_above_zero(steps):
    draws = AWM().draws(DrawRequest(sigmas=flow_sigmas(steps, 3.0), seed=1, shared_seed=0))
    assert len(draws) == 6
    assert all(0 < draw.sigma < 1 for draw in draws)


def test_draws_are_of_the_group_and_update_and_noises_of_the_member():
    model = Toy()
    groups = image_groups(model)
    first, later = (seen_draws(model, groups, AWM(), Moment(update=update)) for update in (0, 1))
    noises = torch.cat([noise for run in (first, later) for columns in run for _, noise in columns])
    assert len(noises) == 2 * 2 * 6 * 6
    assert len(torch.unique(noises.flatten(1), dim=0)) == len(noises)
    levels = [[float(sigma) for sigma, _ in columns] for run in (first, later) for columns in run]
    assert len({tuple(one) for one in levels}) > 1


def test_a_members_draw_is_its_own_whoever_else_is_there():
    model = Toy()
    (group,) = image_groups(model, (6,))
    whole = seen_draws(model, [group], AWM())[0]
    part = seen_draws(model, [group.select(torch.tensor([4, 1]))], AWM())[0]
    for (sigma, noise), (sigma_part, noise_part) in zip(whole, part, strict=True):
        assert torch.equal(sigma, sigma_part)
        assert torch.equal(noise[[4, 1]], noise_part)


def test_the_same_update_twice_is_the_same_and_another_seed_differs():
    model = Toy()
    groups = image_groups(model)
    one, again, other = (gradient_of(model, groups, AWM(), moment=Moment(seed=s), batch=4) for s in (0, 0, 1))
    assert torch.equal(one, again)
    assert (one - other).norm() > 1e-3 * one.norm()


def test_its_pulls_cost_no_second_forward_of_the_trained_policy():
    model = Toy()
    clock = PhaseClock(lambda: model.evaluations)
    update(model, image_groups(model), AWM(), clock=clock, batch=4)
    assert clock.evaluations["train"] == 12 * 6
    assert clock.evaluations["reference"] == 3 * 12 * 6  # old, base and the average


def test_the_average_holds_back_who_has_left_it():
    """Without advantages only the pull is left, and it leads back to the average."""
    model = Toy()
    objective = AWM(kl=0.0)
    groups = [replace(group, advantage=torch.zeros(6).double()) for group in image_groups(model)]
    lagged = followers(model, objective)
    assert gradient_of(model, groups, objective, lagged=lagged).norm() < 1e-12
    move = direction(model, 0.01)
    shift(list(model.parameters()), move)
    assert float(gradient_of(model, groups, objective, lagged=lagged) @ move) > 1e-5


def test_without_its_pulls_nobody_keeps_an_average():
    objective = AWM(kl=0.0, ema_kl=0.0)
    assert objective.policies == {}
    assert tuple(objective.regularisers) == ()
    stats, _ = update(Toy(), image_groups(Toy()), objective)
    assert "kl" not in stats.figures


@pytest.mark.parametrize("wrong", [{"adv_clip": 0}, {"levels": 0}, {"share": 1.5}, {"kl": -1}, {"ema_kl": -1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected adv_clip"):
        AWM(**wrong)
