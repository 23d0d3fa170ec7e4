"""Forward objectives at their first update: one gradient, ``mean_i w_i A_i mean(e_i^2)``, each with its own w."""

import math
from dataclasses import replace

import pytest
import torch
from core.objectives.toys import (
    Toy,
    direction,
    gradient_of,
    image_groups,
    noised,
    off_policy_gradient,
    plain_gradient,
    seen_draws,
    velocities,
)

from mixgrpo_core import objectives
from mixgrpo_core.objectives import (
    AWM,
    CRD,
    DGPO,
    FPO,
    RAM,
    VGRPO,
    DiffusionNFT,
    GeneralHuber,
    Huber,
    LevelPower,
    Objective,
    mean_square_error,
    self_normalised,
)
from mixgrpo_core.objectives.forward import drawn_steps, stratified_steps, weighted_steps
from mixgrpo_core.objectives.pieces import Draw, Noise, draw_pieces
from mixgrpo_core.objectives.port import TRANSITIONS
from mixgrpo_core.settings.kinds import SETTINGS


def same_draws(objective):
    """The objective with the same levels and noises as the others."""

    class Same(type(objective)):
        def draws(self, request):
            return [Draw(sigma=level, noise=Noise.MEMBER) for level in (0.95, 0.6, 0.25)]

    return Same(**vars(objective))


def awm(weight):
    return AWM(weight=weight, kl=0.0, ema_kl=0.0)


def size(e):
    return e.abs().flatten(1).mean(1)


CASES = {
    "AWM uniform": (awm(LevelPower(0)), lambda t, e, m: 0.2),
    "AWM t": (awm(LevelPower(1)), lambda t, e, m: 0.2 * t),
    "AWM t^2": (awm(LevelPower(2)), lambda t, e, m: 0.2 * t * t),
    "AWM huber": (awm(Huber()), lambda t, e, m: 0.2 * t / (2 * m.sqrt())),
    "AWM ghuber": (awm(GeneralHuber(0.25)), lambda t, e, m: 0.2 * t * m**-0.75),
    "AWM mean": (replace(awm(LevelPower(1)), per_draw=False), lambda t, e, m: 0.2 * t),
    "FPO u": (FPO(weight=LevelPower(0)), lambda t, e, m: 1.0),
    "FPO eps": (FPO(), lambda t, e, m: (1 - t) ** 2),
    "FPO eps, per draw": (FPO(per_draw=True), lambda t, e, m: (1 - t) ** 2),
    "V-GRPO": (VGRPO(eta=1e6), lambda t, e, m: t / size(e)),
    "V-GRPO with a clip": (VGRPO(eta=1e6, clip=0.1), lambda t, e, m: t / size(e)),
    "NFT 0.1": (DiffusionNFT(beta=0.1, kl=0.0), lambda t, e, m: t / size(e)),
    "NFT 1": (DiffusionNFT(beta=1.0, kl=0.0), lambda t, e, m: t / size(e)),
    "DGPO": (DGPO(kl=0.0), lambda t, e, m: 0.5),
    "CRD": (CRD(kl=0.0), lambda t, e, m: 1 / size(e)),
    "CRD, beta 3": (CRD(kl=0.0, beta=3.0), lambda t, e, m: 1 / size(e)),
    "CRD, plain errors": (CRD(kl=0.0, adaptive=False), lambda t, e, m: 1.0),
    "RAM": (RAM(strength=7.0), lambda t, e, m: 7.0),
    "RAM, published": (RAM(), lambda t, e, m: 100.0),
}


def test_no_forward_objective_of_the_room_is_left_out():
    own = [cls for cls in SETTINGS.of(Objective) if cls.__name__ in objectives.__all__]
    forward = {cls for cls in own if TRANSITIONS not in cls().needs}
    assert forward == {type(objective) for objective, _ in CASES.values()}
    assert all(cls().plain_field for cls in forward)


@pytest.mark.parametrize("name", CASES)
def test_the_first_gradient_is_that_of_a_weighted_error(name):
    objective, weight = same_draws(CASES[name][0]), CASES[name][1]
    model = Toy(up=0.0)  # the base model: DGPO's weight is a half there, and RAM does not pull
    groups = image_groups(model, (6, 3))
    for group in groups:
        assert abs(float(group.advantage.sum())) < 1e-5
        assert float(group.advantage.abs().max()) < 5
    draws = seen_draws(model, groups, objective)

    def weighted_error():
        total, cells = 0, 0
        for group, columns in zip(groups, draws, strict=True):
            for sigma, noise in columns:
                x, u = noised(group, sigma, noise)
                e = velocities(model, group, sigma, x) - u
                m = e.square().flatten(1).mean(1)
                total = total + (weight(sigma, e.detach(), m.detach()) * group.advantage * m).sum()
                cells += len(m)
        return total / cells

    expected = plain_gradient(model, weighted_error)
    assert expected.norm() > 1e-3
    torch.testing.assert_close(gradient_of(model, groups, objective, batch=4), expected, rtol=1e-8, atol=1e-12)


def test_awm_with_a_ratio_of_a_members_mean_is_fpo_with_its_weight():
    """Away from the policy before: advantages are divided by their clip there, and a loss follows such a factor."""
    model = Toy()
    groups, move = image_groups(model, (6, 3)), direction(model, 0.1)
    one = same_draws(AWM(per_draw=False, kl=0.0, ema_kl=0.0, clip=0.05))
    other = same_draws(FPO(weight=one.weight, clip=0.05))
    (first, stats), (second, _) = (off_policy_gradient(Toy(), groups, each, move) for each in (one, other))
    torch.testing.assert_close(first, second / 5, rtol=1e-9, atol=1e-13)
    assert 0.05 < stats.figures["clip_low"] + stats.figures["clip_high"] < 0.45
    per_draw, _ = off_policy_gradient(Toy(), groups, same_draws(replace(AWM(), kl=0.0, ema_kl=0.0, clip=0.05)), move)
    assert (per_draw - first).norm() > 1e-3 * first.norm()


def test_another_state_is_not_taken_for_the_start():
    model = Toy()
    group = image_groups(model)[0]
    draws = [Draw(sigma=0.5, noise=Noise.START)]
    assert len(list(draw_pieces(group, draws, model, 0, 8))) == 1
    later = [replace(state, step=2) for state in group.trajectory.states]
    group = replace(group, trajectory=replace(group.trajectory, states=later))
    with pytest.raises(ValueError, match="name START in the objective's `needs`"):
        list(draw_pieces(group, draws, model, 0, 8))


def test_the_error_keeps_double_precision_and_takes_half_as_float():
    v = torch.tensor([[[1.0 + 1e-12]]], dtype=torch.float64)
    assert float(mean_square_error(v, torch.ones_like(v))) == pytest.approx(1e-24, rel=1e-3)
    assert mean_square_error(v.half(), v.half()).dtype == torch.float32


def test_a_self_normalised_difference_scales_with_it_and_is_never_divided_by_nothing():
    d = torch.tensor([[[1.0, -3.0]], [[0.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    found = self_normalised(d)
    assert found.tolist() == [2.5, 0]
    found.sum().backward()
    assert d.grad.tolist() == [[[0.5, -1.5]], [[0, 0]]], "the divisor has no gradient"
    assert float(self_normalised(4 * d.detach())[0]) == 10


def test_weighted_levels_follow_a_power_of_the_level():
    grid = torch.linspace(1, 0, 4001, dtype=torch.float64)
    for power in (0.0, 1.0, 2.0):
        for seed in range(20):
            levels = sorted(float(grid[step]) for step in weighted_steps(grid, power, 8, seed))
            for i, level in enumerate(levels):
                low, high = ((i + end) / 8 for end in (0, 1))
                assert low ** (1 / (1 + power)) - 1e-3 <= level <= high ** (1 / (1 + power)) + 1e-3
    middles = [math.sqrt((i + 0.5) / 8) for i in range(8)]
    assert (middles[0], middles[-1]) == pytest.approx((0.25, 0.968246), abs=1e-6)
    means = torch.tensor([[float(grid[s]) for s in weighted_steps(grid, 1.0, 8, seed)] for seed in range(200)]).mean(0)
    assert means.flip(0).tolist() == pytest.approx(middles, abs=0.03)


def test_weighted_steps_meet_each_step_by_its_share_and_never_the_end():
    grid = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])
    found = torch.tensor([weighted_steps(grid, 1.0, 1, seed) for seed in range(2000)]).flatten()
    shares = torch.bincount(found, minlength=5) / 2000
    assert shares.tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1, 0], abs=0.04)
    assert weighted_steps(grid, 1.0, 6, 3) == sorted(weighted_steps(grid, 1.0, 6, 3))


def test_strata_hold_a_step_each_and_cover_their_range():
    for first, stop, count in ((1, 12, 6), (0, 6, 6), (2, 30, 4), (1, 3, 6)):
        found = [stratified_steps(first, stop, count, seed) for seed in range(80)]
        assert all(one == sorted(one) and len(one) == count for one in found)
        assert {step for one in found for step in one} == set(range(first, stop))
    assert stratified_steps(1, 12, 6, 5) == stratified_steps(1, 12, 6, 5)


def test_drawn_steps_differ_from_each_other():
    found = [drawn_steps(7, 4, seed) for seed in range(200)]
    assert all(len(set(one)) == 4 for one in found)
    counts = torch.bincount(torch.tensor(found).flatten(), minlength=7)
    assert counts.min() > 80 and counts.max() < 150  # of 114 on average
    assert drawn_steps(3, 4, 0) == [0, 1, 2]
