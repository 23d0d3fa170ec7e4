"""FPO: where the mean over draws stands, and its gradient away from the rollout's policy."""

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
    slope,
    update,
    velocities,
)

from mixgrpo_core.objectives import FPO, LevelPower, flow_log_ratio
from mixgrpo_core.objectives.pieces import Moment, Noise
from mixgrpo_core.objectives.port import DrawRequest
from mixgrpo_core.sampling.schedule import flow_sigmas

SECOND = Moment(update=1)


def plain_loss(model, groups, draws, old, objective):
    """One ratio a member, of the mean over its draws of the noise-prediction errors."""
    losses, shares = [], []
    for group, columns in zip(groups, draws, strict=True):
        changes = []
        for sigma, noise in columns:
            x, _ = noised(group, sigma, noise)
            errors = [
                (x + (1 - sigma) * velocities(model, group, sigma, x, weights) - noise).square().flatten(1).mean(1)
                for weights in (old, "own")
            ]
            changes.append(errors[0] - errors[1])
        ratio = torch.stack(changes, 1).mean(1).exp()
        clipped = ratio.clamp(1 - objective.clip, 1 + objective.clip)
        losses.append(-torch.minimum(group.advantage * ratio, group.advantage * clipped))
        shares.append((ratio != clipped).float())
    return torch.cat(losses).mean(), float(torch.cat(shares).mean())


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_its_gradient_is_that_of_the_clipped_ratio_of_means(batch):
    model, objective = Toy(), FPO(clip=2e-3, levels=3)
    groups, move = image_groups(model, (6, 3), steps=6), direction(model, 0.1)
    draws = seen_draws(model, groups, objective, moment=SECOND)
    old = {name: tensor.clone() for name, tensor in model.lora_state().items()}
    stats, optimizer = update(model, groups, objective, Script(model, [move]), epochs=2, batch=batch)
    shift(list(model.parameters()), -move)
    expected = plain_gradient(model, lambda: plain_loss(model, groups, draws, old, objective)[0], move)
    torch.testing.assert_close(optimizer.gradients[1], expected, rtol=1e-8, atol=1e-12)
    shift(list(model.parameters()), move)
    clipped = plain_loss(model, groups, draws, old, objective)[1]
    assert 0.2 < clipped < 0.9
    assert (stats.figures["clip_low"] + stats.figures["clip_high"]) * 2 == pytest.approx(clipped, abs=1e-6)
    along = direction(model, 1, seed=5)
    found = slope(model, lambda: plain_loss(model, groups, draws, old, objective)[0].detach(), along)
    assert found == pytest.approx(float(expected @ along), rel=1e-4, abs=1e-7)


def test_with_one_draw_the_two_forms_agree_and_with_more_they_do_not():
    model = Toy()
    groups = image_groups(model, steps=6)
    move = direction(model, 0.05)

    def second(**settings):
        _, optimizer = update(model, groups, FPO(clip=10.0, **settings), Script(model, [move]), epochs=2)
        shift(list(model.parameters()), -move)
        return optimizer.gradients[1]

    torch.testing.assert_close(second(levels=1, per_draw=True), second(levels=1), rtol=1e-7, atol=1e-12)
    apart = (second(levels=8, per_draw=True) - second(levels=8)).norm() / second(levels=8).norm()
    assert apart > 1e-4


def test_the_mean_of_exponentials_is_above_the_exponential_of_the_mean():
    new, old = torch.tensor([[0.0, 2.0, -9.0]], dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)
    assert flow_log_ratio(new, old, per_draw=True).tolist() == [[0, 2, -3]], "within +-3"
    assert float(flow_log_ratio(new, old, per_draw=False)) == pytest.approx(-7 / 3)
    new = torch.tensor([[0.0, 2.0, -1.0]], dtype=torch.float64)
    mean = flow_log_ratio(new, old, per_draw=True).exp().mean()
    assert float(mean) > float(flow_log_ratio(new, old, per_draw=False).exp())


def test_the_noise_error_is_the_velocitys_times_its_share():
    model = Toy()
    groups = image_groups(model)
    eps, u = (gradient_of(model, groups, FPO(weight=weight, levels=4)) for weight in (FPO().weight, LevelPower(0)))
    assert (eps - u).norm() > 0.1 * u.norm()
    assert float(FPO().weight.log_prob(torch.tensor(2.0), 0.75)) == pytest.approx(-0.125)


def test_it_draws_eight_levels_with_a_noise_for_each_member():
    found = FPO().draws(DrawRequest(sigmas=flow_sigmas(16, 3.0), seed=3, shared_seed=0))
    assert len(found) == 8 and {draw.noise for draw in found} == {Noise.MEMBER}
    assert len({draw.sigma for draw in found}) == 8


@pytest.mark.parametrize("wrong", [{"clip": 0.0}, {"adv_clip": 0}, {"levels": 0}, {"kl": -1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"above 0|> 0"):
        FPO(**wrong)
