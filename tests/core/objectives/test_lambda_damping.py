"""The lambda damping: the law of the log-ratio it rests on, and that it only damps."""

import math

import pytest
import torch
from core.objectives.toys import Toy, direction, gradient_of, make_groups, off_policy_gradient, plain_gradient
from torch.distributions import Normal, kl_divergence

from mixgrpo_core.objectives import GRPO, LambdaGRPO, damping, effective_share


@pytest.mark.parametrize("lam", [0.1, 1.0, 3.0])
def test_the_law_of_the_log_ratio_by_quadrature(lam):
    """One element whose mean moves by sqrt(lambda) std, against the rollout's own density."""
    x = torch.linspace(-14, 14, 200_001, dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)
    old, new = Normal(0 * one, one), Normal(math.sqrt(lam) * one, one)
    log_ratio = new.log_prob(x) - old.log_prob(x)
    weight = old.log_prob(x).exp()

    def mean(values):
        return float(torch.trapezoid(values * weight, x))

    assert mean(log_ratio) == pytest.approx(-lam / 2, abs=1e-8)
    assert mean(log_ratio**2) - mean(log_ratio) ** 2 == pytest.approx(lam, rel=1e-7)
    ratio = log_ratio.exp()
    share = mean(ratio) ** 2 / mean(ratio**2)
    assert share == pytest.approx(float(effective_share(torch.tensor(lam, dtype=torch.float64))), rel=1e-7)


def test_it_only_damps_and_only_from_the_share_on():
    lam = torch.tensor([0.0, 0.5, math.log(2), 2 * math.log(2), 1e6], dtype=torch.float64)
    assert damping(lam, 0.5).tolist() == pytest.approx([1, 1, 1, 0.5, math.log(2) / 1e6])
    assert torch.isfinite(damping(torch.tensor([math.inf]), 0.5)).all()


def plain_loss(model, groups, objective, clip):
    losses, factors = [], []
    for group in groups:
        for t in group.trajectory.transitions:
            x = t.x[t.parent]
            v = model.run([group.cond], lambda velocity, x=x, t=t: velocity(x, t.sigma))
            gaussian = t.kernel(x, v, t.sigma, t.sigma_next)
            new, old = Normal(gaussian.mean, gaussian.std), Normal(t.old_mean[t.parent], gaussian.std)
            elements = x[0].numel()
            lam = 2 * kl_divergence(new, old).flatten(1).sum(1)
            log_ratio = (new.log_prob(t.x_next) - old.log_prob(t.x_next)).flatten(1).mean(1) + lam / (2 * elements)
            factor = (-math.log(objective.share) / lam.detach()).clamp(max=1)
            ratio, a = log_ratio.exp(), group.advantage
            losses.append(-factor * torch.minimum(a * ratio, a * ratio.clamp(1 - clip, 1 + clip)))
            factors.append(factor)
    return torch.cat(losses).mean(), float(torch.cat(factors).mean())


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_its_gradient_is_that_of_the_damped_cells(batch):
    model, objective = Toy(), LambdaGRPO(share=0.9, clip=0.02)
    groups, move = make_groups(model, (6, 3)), direction(model, 0.1)
    gradient, stats = off_policy_gradient(model, groups, objective, move, batch=batch)
    expected = plain_gradient(model, lambda: plain_loss(model, groups, objective, 0.02)[0], move)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    free = plain_gradient(model, lambda: plain_loss(model, groups, LambdaGRPO(share=1e-9), 0.02)[0], move)
    assert (gradient - free).norm() > 0.05 * free.norm()
    assert stats.figures["damping"] < 0.98 and stats.figures["lambda"] > 0


def test_the_first_update_is_grpos():
    model = Toy()
    groups = make_groups(model)
    plain = gradient_of(model, groups, GRPO())
    torch.testing.assert_close(gradient_of(model, groups, LambdaGRPO()), plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_that_cannot_be_kept_is_refused(share):
    with pytest.raises(ValueError, match="share of effective samples must be above 0 and below 1"):
        LambdaGRPO(share=share)
