import math

import pytest
import torch

from mixgrpo_core.objectives.ratio import (
    clipped_policy_loss,
    default_clip,
    normalised_log_ratio,
    velocity_kl,
)
from mixgrpo_core.sampling.kernels import DanceSDE, FlowCPS, FlowSDE, Gaussian, PreciseSDE

KERNELS = [FlowSDE(), DanceSDE(), FlowCPS(), PreciseSDE()]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss_and_gradient(log_ratio, advantage, clip, **options):
    log_prob = torch.tensor(log_ratio, dtype=torch.float64).requires_grad_()
    result = clipped_policy_loss(
        log_prob, torch.zeros_like(log_prob), torch.tensor(advantage).double(), clip, **options
    )
    result.loss.backward()
    return result, log_prob.grad


def test_golden_loss():
    # ratios 1.5, 0.5, 1.1, 0.9 with clip 0.2: A r = 1.2 (clipped), -0.8 (clipped), -2.2, 1.8
    ratios, advantages = [1.5, 0.5, 1.1, 0.9], [1.0, -1.0, -2.0, 2.0]
    result, gradient = loss_and_gradient([math.log(r) for r in ratios], advantages, 0.2)
    assert result.loss.item() == pytest.approx(-(1.2 - 0.8 - 2.2 + 1.8) / 4, abs=1e-12)
    assert gradient.tolist() == pytest.approx([0, 0, 2 * 1.1 / 4, -2 * 0.9 / 4], abs=1e-12)
    assert result.ratio.tolist() == pytest.approx(ratios) and not result.ratio.requires_grad
    assert (float(result.clip_fraction_low), float(result.clip_fraction_high)) == (0.25, 0.25)
    assert float(result.clip_fraction) == 0.5


@pytest.mark.parametrize(
    "ratio, advantage, moves",
    [(1.3, 1, False), (1.3, -1, True), (0.7, -1, False), (0.7, 1, True), (1.1, 1, True), (0.9, -1, True)],
)
def test_gradient_is_exactly_zero_where_clipped_and_only_there(ratio, advantage, moves):
    _, gradient = loss_and_gradient([math.log(ratio)], [float(advantage)], 0.2)
    assert bool(gradient.item() != 0) == moves
    if moves:
        assert gradient.item() == pytest.approx(-advantage * ratio)


def test_the_two_sides_of_the_clip_are_not_confused():
    ratios, up, down = [math.log(0.85), math.log(1.15)], [1.0, 1.0], [-1.0, -1.0]
    wide_high = (0.1, 0.3)
    result, gradient = loss_and_gradient(ratios, up, wide_high)
    assert (gradient != 0).all() and (result.clip_fraction_low, result.clip_fraction_high) == (0.5, 0)
    _, gradient = loss_and_gradient(ratios, down, wide_high)
    assert gradient[0] == 0 and gradient[1] != 0
    _, gradient = loss_and_gradient(ratios, up, (0.3, 0.1))
    assert gradient[0] != 0 and gradient[1] == 0


def test_on_policy_the_loss_is_the_policy_gradient():
    """Ratio exactly 1: the loss is minus the mean advantage and the gradient that of -A log_prob."""
    log_prob = normal(6).requires_grad_()
    advantage = normal(6, seed=1)
    result = clipped_policy_loss(log_prob, log_prob.detach(), advantage, 1e-4)
    result.loss.backward()
    assert torch.equal(result.ratio, torch.ones(6).double()) and result.clip_fraction == 0
    assert result.loss.item() == pytest.approx(-float(advantage.mean()))
    torch.testing.assert_close(log_prob.grad, -advantage / 6, atol=1e-15, rtol=0)


def test_advantages_are_clamped():
    result, gradient = loss_and_gradient([0.0, 0.0], [100.0, -7.0], 0.1)
    assert result.loss.item() == pytest.approx(0.0) and gradient.tolist() == [-2.5, 2.5]
    _, gradient = loss_and_gradient([0.0, 0.0], [100.0, -7.0], 0.1, adv_clip=50.0)
    assert gradient.tolist() == [-25, 3.5]


def test_elementwise_log_probs_meet_the_advantage_of_their_image():
    log_prob = (0.01 * normal(4, 3, 4, 4)).requires_grad_()  # B = 4 and a last dimension of 4: easily confused
    advantage = torch.tensor([1.0, -2.0, 0.0, 3.0]).double()
    result = clipped_policy_loss(log_prob, log_prob.detach(), advantage, 0.1)
    result.loss.backward()
    expected = (-advantage / log_prob.numel())[:, None, None, None].expand_as(log_prob)
    torch.testing.assert_close(log_prob.grad, expected, atol=1e-15, rtol=0)
    per_pixel = normal(4, 1, 4, 4, seed=2)
    result = clipped_policy_loss(log_prob, log_prob.detach(), per_pixel, 0.1)
    assert result.loss.item() == pytest.approx(-float(per_pixel.mean()))


def test_half_precision_log_probs_are_scored_in_float32():
    log_prob = torch.tensor([-1.0, -1.0]).bfloat16()
    result = clipped_policy_loss(log_prob, log_prob.float() - 1e-3, torch.tensor([1.0, 1.0]).bfloat16(), 0.1)
    assert result.ratio.tolist() == pytest.approx([math.exp(1e-3)] * 2, rel=1e-6) and result.loss.dtype == torch.float32


@pytest.mark.parametrize("clip", [0.0, -0.1, (0.1, 0.0), (-1e-4, 1e-4), math.nan])
def test_clips_that_make_no_sense_are_refused(clip):
    with pytest.raises(ValueError, match="low, high"):
        clipped_policy_loss(torch.zeros(2), torch.zeros(2), torch.ones(2), clip)


def test_shapes_that_would_broadcast_by_accident_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        clipped_policy_loss(torch.zeros(3), torch.zeros(3, 1), torch.ones(3), 0.1)
    with pytest.raises(ValueError, match="advantage"):
        clipped_policy_loss(torch.zeros(3), torch.zeros(3), torch.ones(3, 3), 0.1)
    with pytest.raises(ValueError, match="advantage"):
        clipped_policy_loss(torch.zeros(3, 4), torch.zeros(3, 4), torch.ones(4), 0.1)
    with pytest.raises(ValueError, match="adv_clip"):
        clipped_policy_loss(torch.zeros(3), torch.zeros(3), torch.ones(3), 0.1, adv_clip=0.0)


def test_default_clip_is_the_published_one_for_flux():
    assert default_clip(16 * 90 * 90) == pytest.approx(1e-4, rel=1e-12)
    assert default_clip(1024) == pytest.approx(1.125e-3)
    with pytest.raises(ValueError, match="latent_elements"):
        default_clip(0)


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
@pytest.mark.parametrize("step", [(0.9, 0.85), (0.3, 0.2)])
def test_default_clip_is_one_size_for_every_latent_kernel_and_step(kernel, step):
    """A change of 0.03 std per element spreads the log-ratio by 0.03 / 0.036 of the default clip, whatever D is."""
    kappa, std = kernel.sensitivity(*step)
    for size in (64, 4096):
        x, v, noise = normal(1000, size), normal(1000, size, seed=1), normal(1000, size, seed=2)
        old, new = kernel(x, v, *step), kernel(x, v + 0.03 * std / kappa, *step)
        log_ratio = new.log_prob(old.sample(noise)) - old.log_prob(old.sample(noise))
        assert float(log_ratio.std()) / default_clip(size) == pytest.approx(0.03 / 0.036, rel=0.06)
        assert float(log_ratio.mean()) == pytest.approx(-(0.03**2) / 2, abs=4 * 0.03 / math.sqrt(1000 * size))


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_ratio_norm_is_the_noise_times_the_change_of_the_mean(kernel):
    x, v, noise = normal(5, 3, 4), normal(5, 3, 4, seed=1), normal(5, 3, 4, seed=2)
    old, new = kernel(x, v, 0.7, 0.6), kernel(x, v + 0.1 * normal(5, 3, 4, seed=3), 0.7, 0.6)
    x_next = old.sample(noise)
    ratio = normalised_log_ratio(new.log_prob(x_next), old.log_prob(x_next), new.mean, old.mean, old.std).exp()
    torch.testing.assert_close(ratio, (noise * (new.mean - old.mean)).mean((1, 2)).exp(), atol=1e-10, rtol=0)


def test_ratio_norm_has_mean_zero_and_the_plain_ratio_has_not():
    """Antithetic noise makes both expectations exact."""
    std, change = torch.tensor(0.3).double(), 0.05 * normal(1, 50)
    noise = normal(64, 50, seed=1)
    noise = torch.cat([noise, -noise])
    old, new = Gaussian(torch.zeros(128, 50).double(), std), Gaussian(change.expand(128, 50), std)
    x_next = old.sample(noise)
    log_prob, old_log_prob = new.log_prob(x_next), old.log_prob(x_next)
    assert float((log_prob - old_log_prob).mean()) == pytest.approx(
        -float((change**2).mean() / (2 * std**2)), abs=1e-12
    )
    normalised = normalised_log_ratio(log_prob, old_log_prob, new.mean, old.mean, std)
    assert float(normalised.mean()) == pytest.approx(0, abs=1e-12) and float(normalised.std()) > 1e-3


def test_ratio_norm_never_broadcasts_into_a_square():
    log_prob, mean = normal(3), normal(3, 2, 2)
    scalar = normalised_log_ratio(log_prob, log_prob - 1, mean, mean, 0.5)
    assert scalar.tolist() == pytest.approx([0.5] * 3)
    per_image = normalised_log_ratio(log_prob, log_prob - 1, mean, mean, torch.tensor([0.5, 1, 2]).view(3, 1, 1))
    assert per_image.tolist() == pytest.approx([0.5, 1, 2])
    with pytest.raises(ValueError, match="std"):
        normalised_log_ratio(log_prob, log_prob, mean, mean, torch.ones(2))
    with pytest.raises(ValueError, match=r"\[B"):
        normalised_log_ratio(log_prob, log_prob, mean, mean[:2], 0.5)


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_velocity_kl_is_the_gaussian_kl_without_the_steps_factor(kernel):
    x, v, v_ref = normal(3, 2, 5), normal(3, 2, 5, seed=1), normal(3, 2, 5, seed=2)
    policy, reference = kernel(x, v, 0.7, 0.6), kernel(x, v_ref, 0.7, 0.6)
    exact = torch.distributions.kl_divergence(
        torch.distributions.Normal(policy.mean, policy.std), torch.distributions.Normal(reference.mean, reference.std)
    ).mean((1, 2))
    kappa, std = kernel.sensitivity(0.7, 0.6)
    torch.testing.assert_close(kappa**2 / (2 * std**2) * velocity_kl(v, v_ref), exact, atol=0, rtol=1e-10)


def test_velocity_kl_golden_and_gradient():
    v = torch.tensor([[1.0, 2.0], [0.0, 0.0]]).requires_grad_()
    kl = velocity_kl(v, torch.tensor([[0.0, 0.0], [0.0, 0.0]]))
    kl.sum().backward()
    assert kl.tolist() == [2.5, 0.0] and v.grad.tolist() == [[1.0, 2.0], [0.0, 0.0]]
    with pytest.raises(ValueError, match="one shape"):
        velocity_kl(torch.ones(2, 3), torch.ones(3))
