"""DGPO: the weight of a whole group, against one graph over all members and levels."""

import math
from dataclasses import replace

import pytest
import torch
from core.objectives.toys import (
    Script,
    Toy,
    direction,
    followers,
    gradient_of,
    image_groups,
    masked,
    noised,
    permuted,
    plain_gradient,
    seen_draws,
    slope,
    update,
    velocities,
)
from toy import Red, ToyModel

from mixgrpo_core.objectives import AWM, DGPO, LevelPower, group_weights, stopped_cells
from mixgrpo_core.objectives.pieces import Moment, Noise
from mixgrpo_core.objectives.port import DrawRequest
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.support.phases import PhaseClock
from mixgrpo_core.training.loop import train

OBJECTIVE = DGPO(beta=3.0, clip=0.05, kl=0.2)
MOVED = 0.15


def unequal(model):
    """Groups of 5 and 3; of the first one a member was masked and the rest stand in another order."""
    first, second = image_groups(model, (6, 3))
    return [permuted(masked(first, [0, 1, 3, 4, 5]), [3, 0, 4, 1, 2]), second]


def big_graph(model, groups, draws, fast, objective=OBJECTIVE, frozen=None):
    """Every member at every level in one graph. ``frozen`` keeps weights and stops as another point had them."""
    total, cells, found = 0, 0, []
    for group, columns in zip(groups, draws, strict=True):
        a = group.advantage.clamp(-objective.adv_clip, objective.adv_clip)
        for sigma, noise in columns:
            x, u = noised(group, sigma, noise)
            v = velocities(model, group, sigma, x)
            base, quick = (velocities(model, group, sigma, x, weights) for weights in (None, fast))
            m, m_base, m_fast = ((y - u).square().flatten(1).mean(1) for y in (v, base, quick))
            weight = 1 / (1 + math.exp(-objective.beta * float((a * (m - m_base)).sum().detach()) / len(a)))
            ratios = (m_fast - m).exp()
            go = [
                not (r > 1 + objective.clip if one > 0 else r < 1 - objective.clip)
                for one, r in zip(a, ratios, strict=True)
            ]
            found.append((weight, go))
            if frozen:
                weight, go = frozen[len(found) - 1]
            moving = torch.stack([one if free else one.detach() for one, free in zip(m, go, strict=True)])
            total = total + (weight * a * moving).sum() + objective.kl * (v - base).square().flatten(1).mean(1).sum()
            cells += len(a)
    return total / cells, found


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_two_passes_are_one_big_graph(batch):
    model = Toy()
    groups, lagged = unequal(model), followers(model, OBJECTIVE, MOVED)
    draws, fast = seen_draws(model, groups, OBJECTIVE, lagged=lagged), lagged["fast"].weights
    stats, optimizer = update(model, groups, OBJECTIVE, lagged=lagged, batch=batch)
    expected = plain_gradient(model, lambda: big_graph(model, groups, draws, fast)[0])
    torch.testing.assert_close(optimizer.gradients[0], expected, rtol=1e-10, atol=1e-12)
    loss, found = big_graph(model, groups, draws, fast)
    assert stats.figures["loss"] == pytest.approx(float(loss.detach()), rel=1e-10)
    stopped = [not free for _, go in found for free in go]
    assert 0.1 < sum(stopped) / len(stopped) < 0.9
    assert stats.figures["stopped"] == pytest.approx(sum(stopped) / len(stopped))
    assert any(abs(weight - 0.5) > 0.02 for weight, _ in found)


def test_its_gradient_is_that_of_its_loss_by_finite_differences():
    """The weight and the stop carry no gradient: they are held while the weights of the model move."""
    model = Toy()
    groups, lagged = unequal(model), followers(model, OBJECTIVE, MOVED)
    draws, fast = seen_draws(model, groups, OBJECTIVE, lagged=lagged), lagged["fast"].weights
    gradient = gradient_of(model, groups, OBJECTIVE, lagged=lagged, batch=4)
    _, here = big_graph(model, groups, draws, fast)
    one = replace(OBJECTIVE, kl=0.0)
    stops = gradient_of(model, groups, one, lagged=lagged, batch=4)

    def moving(kl):
        """Only what moves: a stopped cell's value would count in a difference."""
        return lambda: free_loss(model, groups, draws, here, kl)

    for seed in range(3):
        along = direction(model, 1, seed=10 + seed)
        assert slope(model, moving(OBJECTIVE.kl), along) == pytest.approx(float(gradient @ along), rel=1e-6)
        assert slope(model, moving(0.0), along) == pytest.approx(float(stops @ along), rel=1e-6)


@torch.no_grad()
def free_loss(model, groups, draws, frozen, kl):
    total, cells, frozen = 0.0, 0, iter(frozen)
    for group, columns in zip(groups, draws, strict=True):
        for sigma, noise in columns:
            x, u = noised(group, sigma, noise)
            v, base = velocities(model, group, sigma, x), velocities(model, group, sigma, x, None)
            weight, go = next(frozen)
            m = (v - u).square().flatten(1).mean(1)
            total += float((weight * group.advantage * m * torch.tensor(go)).sum())
            total += kl * float((v - base).square().flatten(1).mean(1).sum())
            cells += len(m)
    return total / cells


def test_the_order_of_the_members_does_not_matter():
    model = Toy()
    (group,) = image_groups(model, (6,))
    straight = gradient_of(model, [group], OBJECTIVE, batch=4)
    turned = gradient_of(model, [permuted(group, [5, 3, 0, 4, 1, 2])], OBJECTIVE, batch=4)
    torch.testing.assert_close(straight, turned, rtol=1e-10, atol=1e-13)


def test_the_weight_is_a_half_at_the_base_model():
    model = Toy(up=0.0)
    stats, _ = update(model, image_groups(model), DGPO(kl=0.0))
    assert stats.figures["group_weight"] == pytest.approx(0.5, abs=1e-12)
    m, a = torch.rand(5, 3, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    assert torch.equal(group_weights(m, m, a, 100.0), torch.full((3,), 0.5, dtype=torch.float64))


def test_a_constant_on_all_errors_changes_no_weight_where_advantages_add_up_to_zero():
    generator = torch.Generator().manual_seed(0)
    m, base = (torch.rand(5, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    a = torch.randn(5, dtype=torch.float64, generator=generator)
    a = a - a.mean()
    torch.testing.assert_close(group_weights(m + 7, base, a, 2.0), group_weights(m, base, a, 2.0))
    assert (group_weights(m + 7, base, a + 1, 2.0) - group_weights(m, base, a + 1, 2.0)).abs().min() > 0.01


def test_a_group_whose_members_are_ordered_right_already_weighs_less_than_a_half():
    a = torch.tensor([1.0, -1.0])
    base = torch.ones(2, 1)
    right, wrong = torch.tensor([[0.5], [1.5]]), torch.tensor([[1.5], [0.5]])
    assert float(group_weights(right, base, a, 1.0)) == pytest.approx(1 / (1 + math.exp(0.5)))
    assert float(group_weights(wrong, base, a, 1.0)) == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert float(group_weights(right, base, a, 100.0)) < 1e-20  # published beta, errors of order 1: saturated


def test_without_beta_it_is_half_of_uniform_awm():
    """On the same levels and noises: AWM's gradient of ``mean(A / c m)`` times c / 2."""
    model = Toy()
    groups = image_groups(model)
    objective = DGPO(beta=1e-12, kl=0.0, clip=1e9)
    gradient = gradient_of(model, groups, objective)
    awm = SameDraws(weight=LevelPower(0), kl=0.0, ema_kl=0.0)
    torch.testing.assert_close(gradient, gradient_of(model, groups, awm) * awm.adv_clip / 2, rtol=1e-9, atol=1e-13)


class SameDraws(AWM):
    """AWM at DGPO's draws."""

    def draws(self, request):
        return DGPO().draws(request)


def test_a_cell_stops_on_the_side_where_its_advantage_pulls_it():
    fast = torch.zeros(6, 1)
    m = -torch.tensor([0.06, 0.04, -0.06, 0.06, -0.06, -0.04])[:, None]  # ratios 1.06, 1.04, .94 | 1.06, .94, .96
    a = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    assert stopped_cells(m, fast, a, 0.05)[:, 0].tolist() == [True, False, False, False, True, False]


def test_levels_are_of_the_iteration_and_noise_is_of_the_group():
    sigmas = flow_sigmas(10, 3.0)
    seen = set()
    for shared in range(40):
        one, other = (DGPO().draws(DrawRequest(sigmas=sigmas, seed=seed, shared_seed=shared)) for seed in (1, 2))
        assert one == other
        levels = [draw.sigma for draw in one]
        assert len(set(levels)) == 4
        assert levels == sorted(levels, reverse=True)
        assert all(draw.noise is Noise.GROUP for draw in one)
        seen |= set(levels)
    assert seen == set(sigmas[:7].tolist())
    short = DGPO().draws(DrawRequest(sigmas=flow_sigmas(4, 3.0), seed=0, shared_seed=0))
    assert len(short) == 3  # of the four levels three are in the noisier part


def test_one_noise_serves_a_group_and_every_level_and_update_has_its_own():
    model = Toy()
    groups = image_groups(model)
    first = seen_draws(model, groups, OBJECTIVE)
    later = seen_draws(model, groups, OBJECTIVE, Moment(update=1))
    next_iteration = seen_draws(model, groups, OBJECTIVE, Moment(iteration=5))
    for columns in first:
        for _, noise in columns:
            assert (noise == noise[:1]).all()
    noises = [noise[0] for run in (first, later, next_iteration) for columns in run for _, noise in columns]
    assert len(noises) == 24
    assert len(torch.unique(torch.stack(noises).flatten(1), dim=0)) == 24
    levels = [[[float(sigma) for sigma, _ in columns] for columns in run] for run in (first, later, next_iteration)]
    assert levels[0][0] == levels[0][1] == levels[1][0]
    assert levels[2][0] != levels[0][0]


def test_the_same_update_twice_is_the_same_and_another_seed_differs():
    model = Toy()
    groups = image_groups(model)
    one, again, other = (gradient_of(model, groups, OBJECTIVE, moment=Moment(seed=s), batch=4) for s in (0, 0, 1))
    assert torch.equal(one, again)
    assert (one - other).norm() > 1e-3 * one.norm()


@pytest.mark.parametrize(("kl", "asked"), [(0.0, 2), (0.5, 3)])
def test_a_kl_costs_no_second_forward_of_the_trained_policy(kl, asked):
    model = Toy()
    clock = PhaseClock(lambda: model.evaluations)
    update(model, image_groups(model), replace(OBJECTIVE, kl=kl), clock=clock, batch=4)
    assert clock.evaluations["train"] == 2 * 12 * 4  # two passes of members at levels
    assert clock.evaluations["reference"] == asked * 12 * 4  # base and fast once, and the base again for the KL


class Watched(ToyModel):
    """Notes whose weights make its rollouts."""

    def __init__(self):
        super().__init__()
        self.sampled = []

    def run(self, conds, body):
        return super().run(conds, lambda velocity: body(lambda *given: self.note(velocity, *given)))

    def note(self, velocity, *given):
        own = self.weights is not None and self.weights["net.lora_B.weight"] is self.up
        if not torch.is_grad_enabled():
            self.sampled.append(own)
        return velocity(*given)


def test_the_policy_samples_for_itself_first_and_then_the_fast_one_does():
    config = TrainConfig(
        iterations=3, steps=5, images_per_prompt=4, prompts_per_iteration=1, updates=1, eval_every=0,
        learning_rate=0.05, objective=DGPO(beta=1.0, own_samples=2, kl=0.0, levels=1),
    )  # fmt: skip
    model = Watched()
    by_own = []
    for _ in train(model, ["a"], {"red": Red()}, config):
        by_own.append(model.sampled[0])  # the first network call of an iteration is a rollout's
        model.sampled.clear()
    assert by_own == [True, True, False]


def test_more_updates_than_groups_are_refused_or_kept_whole():
    model = Toy()
    optimizer = Script(model)
    stats, _ = update(model, image_groups(model), OBJECTIVE, optimizer, updates=5)
    assert stats.steps == 2


@pytest.mark.parametrize("wrong", [{"beta": 0}, {"clip": 0}, {"levels": 0}, {"share": 0}, {"kl": -1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected beta"):
        DGPO(**wrong)
