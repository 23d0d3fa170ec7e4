"""RAM: the regression it is, its fixed point, and that large strengths lose no digits."""

from dataclasses import replace

import pytest
import torch
from core.objectives.toys import (
    Toy,
    direction,
    followers,
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
from toy import ToyModel

from mixgrpo_core.models.lagged import Lagged
from mixgrpo_core.objectives import RAM, matching_parts
from mixgrpo_core.objectives.pieces import Noise
from mixgrpo_core.objectives.port import DrawRequest
from mixgrpo_core.rewards import FunctionReward
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.training.loop import train


def regression(model, groups, draws, lagged, strength):
    """As it is written: the distance to a target that is built."""
    losses = []
    for group, columns in zip(groups, draws, strict=True):
        for sigma, noise in columns:
            x, u = noised(group, sigma, noise)
            v, base, past = (velocities(model, group, sigma, x, weights) for weights in ("own", None, lagged))
            target = base + strength * group.advantage[:, None, None, None] * (u - past)
            losses.append((v - target).square().flatten(1).mean(1))
    return torch.cat(losses).mean()


@pytest.mark.parametrize("batch", [1, 4, 64])
@pytest.mark.parametrize("strength", [0.5, 100.0])
def test_its_gradient_is_that_of_the_regression(strength, batch):
    model, objective = Toy(), RAM(strength=strength, levels=3)
    groups, lagged = image_groups(model, (6, 3)), followers(model, objective, 0.1)
    draws = seen_draws(model, groups, objective, lagged=lagged)
    stats, optimizer = update(model, groups, objective, lagged=lagged, batch=batch)
    kept = lagged["lagged"].weights
    expected = plain_gradient(model, lambda: regression(model, groups, draws, kept, strength))
    torch.testing.assert_close(optimizer.gradients[0], expected, rtol=1e-8, atol=1e-11)
    loss = float(regression(model, groups, draws, kept, strength).detach())
    assert stats.figures["loss"] == pytest.approx(loss, rel=1e-9)
    along = direction(model, 1, seed=5)
    found = slope(model, lambda: regression(model, groups, draws, kept, strength).detach(), along)
    assert found == pytest.approx(float(expected @ along), rel=1e-5)


def test_the_gradient_is_a_pull_and_two_errors():
    """|v - v_ref|^2 + m A (|v - u|^2 - |v - v'|^2): the KL's weight is 1 / m."""
    v, ref, lagged, u = torch.randn(4, 3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    v.requires_grad_()
    for shift_ in (-250.0, 0.0, 100.0):
        away, along, towards = matching_parts(v, ref, lagged, u)
        (found,) = torch.autograd.grad((away - 2 * shift_ * along + shift_**2 * towards).sum(), v)
        other = (v - ref).square() + shift_ * ((v - u).square() - (v - lagged).square())
        (expected,) = torch.autograd.grad(other.mean(1).sum(), v)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


def test_its_fixed_point_at_the_lagged_policy():
    ref, u = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    pull = torch.tensor([0.0, 0.3, 2.0, 50.0], dtype=torch.float64)[:, None]
    v = ((ref + pull * u) / (1 + pull)).requires_grad_()
    away, along, _ = matching_parts(v, ref, v.detach(), u)
    (slopes,) = torch.autograd.grad((away - 2 * pull[:, 0] * along).sum(), v)
    assert float(slopes.abs().max()) < 1e-13


def test_a_large_strength_in_single_precision_keeps_the_pull_to_the_base():
    """A target of m |u| would swallow the base model's velocity; the parts do not hold it."""
    v, ref, lagged, u = torch.randn(4, 2, 500, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    exact = matching_parts(v, ref, lagged, u)
    found = matching_parts(*(x.float() for x in (v, ref, lagged, u)))
    for a, b in zip(found, exact, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-6)
    assert matching_parts(*(x.bfloat16() for x in (v, ref, lagged, u)))[0].dtype == torch.float32


def test_images_of_no_advantage_pull_to_the_base_model():
    model = Toy()
    groups = [replace(g, advantage=torch.zeros_like(g.advantage)) for g in image_groups(model)]
    objective = RAM(levels=3)
    assert objective.teaches(groups[0].advantage)
    draws = seen_draws(model, groups, objective)

    def pull():
        parts = []
        for group, columns in zip(groups, draws, strict=True):
            for sigma, noise in columns:
                x, _ = noised(group, sigma, noise)
                v, base = velocities(model, group, sigma, x), velocities(model, group, sigma, x, None)
                parts.append((v - base).square().flatten(1).mean(1))
        return torch.cat(parts).mean()

    gradient = gradient_of(model, groups, objective)
    torch.testing.assert_close(gradient, plain_gradient(model, pull), rtol=1e-9, atol=1e-12)


class Even(ToyModel):
    """A toy away from its base."""

    def __init__(self):
        super().__init__()
        shift(list(self.parameters()), torch.full((sum(p.numel() for p in self.parameters()),), 0.1))


def test_a_run_trains_on_groups_without_differences():
    flat = FunctionReward(lambda images, prompts: torch.zeros(len(images)))
    config = TrainConfig(
        iterations=1, steps=5, images_per_prompt=3, prompts_per_iteration=2, updates=1, eval_every=0, shared_noise=False
    )
    (report,) = train(Even(), ["a", "b"], {"flat": flat}, replace(config, objective=RAM(levels=2)))
    assert report.flat_groups == 0 and report.update.steps == 1 and report.update.figures["kl"] > 0


def test_it_samples_by_the_lagged_policy_which_follows_by_iterations():
    model, objective = Toy(), RAM()
    assert objective.sampled_by(0) == objective.sampled_by(999) == "lagged"
    lagged = Lagged(objective.lag, model.lora_state())
    start = {name: tensor.clone() for name, tensor in model.lora_state().items()}
    shift(list(model.parameters()), direction(model, 1.0))
    for _ in range(3):
        lagged.passed("update", model.lora_state())
    assert all(torch.equal(lagged.weights[name], tensor) for name, tensor in start.items())
    lagged.passed("iteration", model.lora_state())
    for name, tensor in model.lora_state().items():
        torch.testing.assert_close(lagged.weights[name], 0.01 * start[name] + 0.99 * tensor)
    assert [objective.lag.decay(n) for n in (1, 50, 200)] == pytest.approx([0.01, 0.5, 0.9])


def test_it_draws_eight_levels_of_the_grid_with_a_noise_for_each_member():
    sigmas = flow_sigmas(20, 3.0)
    found = RAM().draws(DrawRequest(sigmas=sigmas, seed=3, shared_seed=0))
    assert len(found) == 8 and {draw.noise for draw in found} == {Noise.MEMBER}
    assert {draw.sigma for draw in found} <= set(sigmas[:-1].tolist())


@pytest.mark.parametrize("wrong", [{"strength": 0}, {"levels": 0}, {"power": -1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected strength above 0"):
        RAM(**wrong)
