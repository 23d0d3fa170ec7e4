"""Forward objectives at their first update: one gradient, ``mean_i w_i A_i mean(e_i^2)``, each with its own w."""

from dataclasses import dataclass, replace

import pytest
import torch
from core.objectives.toys import Toy, gradient_of, image_groups, noised, plain_gradient, seen_draws, velocities

from mixgrpo_core.objectives import AWM, DGPO, DiffusionNFT, GeneralHuber, Huber, LevelPower, mean_square_error
from mixgrpo_core.objectives.forward import drawn_steps, stratified_steps
from mixgrpo_core.objectives.pieces import Draw, Noise, draw_pieces


class SameDraws:
    """The same levels and noises for whoever they are for."""

    def draws(self, request):
        return [Draw(sigma=level, noise=Noise.MEMBER) for level in (0.95, 0.6, 0.25)]


@dataclass(frozen=True)
class SameAWM(SameDraws, AWM):
    pass


@dataclass(frozen=True)
class SameNFT(SameDraws, DiffusionNFT):
    pass


@dataclass(frozen=True)
class SameDGPO(SameDraws, DGPO):
    pass


def awm(weight):
    return SameAWM(weight=weight, kl=0.0, ema_kl=0.0)


CASES = {
    "AWM uniform": (awm(LevelPower(0)), lambda t, e, m: 0.2),
    "AWM t": (awm(LevelPower(1)), lambda t, e, m: 0.2 * t),
    "AWM t^2": (awm(LevelPower(2)), lambda t, e, m: 0.2 * t * t),
    "AWM huber": (awm(Huber()), lambda t, e, m: 0.2 * t / (2 * m.sqrt())),
    "AWM ghuber": (awm(GeneralHuber(0.25)), lambda t, e, m: 0.2 * t * m**-0.75),
    "NFT 0.1": (SameNFT(beta=0.1, kl=0.0), lambda t, e, m: t / e.abs().flatten(1).mean(1)),
    "NFT 1": (SameNFT(beta=1.0, kl=0.0), lambda t, e, m: t / e.abs().flatten(1).mean(1)),
    "DGPO": (SameDGPO(kl=0.0), lambda t, e, m: 0.5),
}


@pytest.mark.parametrize("name", CASES)
def test_the_first_gradient_is_that_of_a_weighted_error(name):
    objective, weight = CASES[name]
    model = Toy(up=0.0)  # DGPO's weight is a half at the base model
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
