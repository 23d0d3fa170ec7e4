"""V-GRPO: its soft clip, its shared noise, and that the first stage asks the trained policy alone."""

import math

import pytest
import torch
from core.objectives.toys import (
    Script,
    Toy,
    direction,
    gradient_of,
    image_groups,
    noised,
    plain_gradient,
    seen_draws,
    shift,
    update,
    velocities,
)

from mixgrpo_core.objectives import VGRPO, softly_clipped
from mixgrpo_core.objectives.pieces import Moment
from mixgrpo_core.support.phases import PhaseClock


def image_error(model, group, sigma, noise, weights="own"):
    """By the predicted image: ``mean(d^2) / sg mean|d|``."""
    x, _ = noised(group, sigma, noise)
    d = (x - sigma * velocities(model, group, sigma, x, weights) - group.trajectory.final).flatten(1)
    return d.square().mean(1) / d.detach().abs().mean(1)


def test_on_policy_its_gradient_is_that_of_the_weighted_error_wherever_the_policy_is():
    model, objective = Toy(), VGRPO(levels=3)
    groups, move = image_groups(model, (6, 3)), direction(model, 0.1)
    draws = seen_draws(model, groups, objective, moment=Moment(update=1))
    _, optimizer = update(model, groups, objective, Script(model, [move]), epochs=2, batch=4)
    shift(list(model.parameters()), -move)

    def loss():
        parts = [
            3 * torch.tanh(group.advantage / 3) * image_error(model, group, sigma, noise)
            for group, columns in zip(groups, draws, strict=True)
            for sigma, noise in columns
        ]
        return torch.cat(parts).mean()

    torch.testing.assert_close(optimizer.gradients[1], plain_gradient(model, loss, move), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 64])
def test_with_a_clip_the_mean_over_draws_is_inside_the_exponential(batch):
    model, objective = Toy(), VGRPO(levels=3, clip=0.01)
    groups, move = image_groups(model, (6, 3)), direction(model, 0.1)
    draws = seen_draws(model, groups, objective, moment=Moment(update=1))
    old = {name: tensor.clone() for name, tensor in model.lora_state().items()}
    stats, optimizer = update(model, groups, objective, Script(model, [move]), epochs=2, batch=batch)
    shift(list(model.parameters()), -move)

    def loss():
        parts = []
        for group, columns in zip(groups, draws, strict=True):
            changes = [
                image_error(model, group, *draw, weights=old) - image_error(model, group, *draw) for draw in columns
            ]
            ratio, a = torch.stack(changes).mean(0).exp(), 3 * torch.tanh(group.advantage / 3)
            parts.append(-torch.minimum(a * ratio, a * ratio.clamp(0.99, 1.01)))
        return torch.cat(parts).mean()

    torch.testing.assert_close(optimizer.gradients[1], plain_gradient(model, loss, move), rtol=1e-8, atol=1e-12)
    assert 0 < stats.figures["clip_low"] + stats.figures["clip_high"] < 0.5


def test_a_wide_clip_is_the_first_stage_at_the_first_update():
    model = Toy()
    groups = image_groups(model)
    wide, free = (gradient_of(model, groups, VGRPO(clip=clip)) for clip in (10.0, None))
    torch.testing.assert_close(wide, free, rtol=1e-9, atol=1e-13)


def test_turning_the_advantages_turns_the_gradient():
    model = Toy()
    groups = image_groups(model)
    there = gradient_of(model, groups, VGRPO())
    turned = [type(g)(**{**vars(g), "advantage": -g.advantage}) for g in image_groups(model)]
    torch.testing.assert_close(gradient_of(model, turned, VGRPO()), -there, rtol=1e-12, atol=1e-15)


def test_the_soft_clip_is_straight_near_zero_and_bounded():
    a = torch.tensor([1e-6, -1e-6, 3.0, -1e3], dtype=torch.float64)
    assert softly_clipped(a, 3.0).tolist() == pytest.approx([1e-6, -1e-6, 3 * math.tanh(1), -3], rel=1e-9)


def test_the_first_stage_asks_no_other_policy_and_makes_one_pass():
    model = Toy()
    groups = image_groups(model, (6, 3))
    clock = PhaseClock(lambda: model.evaluations)
    update(model, groups, VGRPO(levels=3), clock=clock)
    assert clock.evaluations["train"] == 9 * 3 and not clock.evaluations.get("reference")


def test_one_noise_for_the_group_lowers_the_variance_of_differences_between_members():
    """Members of one draw are compared under the same noise."""
    model = Toy()
    group = image_groups(model, (6,))[0]
    shared, own = [], []
    for seed in range(40):
        noise = model.noise(seed, 6)
        for found, eps in ((shared, noise[:1].expand_as(noise)), (own, noise)):
            error = image_error(model, group, torch.tensor(0.8, dtype=torch.float64), eps).detach()
            found.append(error - error.mean())
    variance = [torch.stack(found).var(0).mean() for found in (shared, own)]
    assert variance[0] < 0.7 * variance[1]
    ((_, first), *_), *_ = seen_draws(model, [group], VGRPO())
    assert torch.equal(first[0], first[5])


@pytest.mark.parametrize("wrong", [{"clip": 0.0}, {"eta": 0}, {"levels": 0}, {"kl": -1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"above 0|> 0"):
        VGRPO(**wrong)
