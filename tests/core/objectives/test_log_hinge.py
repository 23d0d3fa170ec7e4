"""PCPO and Reward Score Matching: the hinge, its gradient, and that the matching cost is a log-ratio."""

import pytest
import torch
from core.objectives.toys import Toy, direction, gradient_of, make_groups, off_policy_gradient, plain_gradient
from torch.distributions import Normal

from mixgrpo_core.objectives import GRPO, PCPO, RSM, Even, FairClipFlat, ProportionalCredit, hinge_cost, matching_cost
from mixgrpo_core.objectives.pieces import StepNumbers
from mixgrpo_core.objectives.ratio import default_clip
from mixgrpo_core.sampling.kernels import FlowSDE, PreciseSDE
from mixgrpo_core.sampling.schedule import flow_sigmas

SIGMAS = flow_sigmas(8, 3.0)
CANDIDATES = [StepNumbers.of(FlowSDE(0.7), SIGMAS[i], SIGMAS[i + 1]) for i in range(7)]


def test_the_hinge_by_hand():
    log_ratio = torch.tensor([0.05, 0.2, -0.2, -0.2, 0.2, 0.3], dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor([2.0, 2.0, 2.0, -1.0, -1.0, 0.0], dtype=torch.float64)
    hinge = hinge_cost(log_ratio, advantage, 0.1)
    assert hinge.tolist() == pytest.approx([0.1, 0, 0.6, 0, 0.3, 0])
    hinge.sum().backward()
    assert log_ratio.grad.tolist() == [-2, 0, -2, 0, 1, 0], "-A inside, exactly 0 outside, and one-sided"


def test_it_keeps_double_precision_and_meets_an_advantage_per_step():
    log_ratio = torch.full((2, 3), 1e-12, dtype=torch.float64)
    assert float(hinge_cost(log_ratio, torch.ones(2), 2e-12).sum()) == pytest.approx(6e-12)
    steps = torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.0, 2.0]])
    assert hinge_cost(torch.zeros(2, 3), steps, 0.5).tolist() == [[0.5, 0, 0.5], [0, 0, 1]]


@pytest.mark.parametrize("kernel", [FlowSDE(0.7), PreciseSDE(1.5)], ids=repr)
def test_the_matching_cost_is_minus_the_log_ratio(kernel):
    x, v, v_old, z = torch.randn(4, 3, 5, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    old, new = kernel(x, v_old, 0.7, 0.6), kernel(x, v, 0.7, 0.6)
    log_ratio = new.log_prob(old.sample(z)) - old.log_prob(old.sample(z))
    kappa, std = kernel.sensitivity(0.7, 0.6)
    # the mean falls with the velocity
    torch.testing.assert_close(matching_cost(v, v_old, z, kappa, std), -log_ratio, rtol=1e-11, atol=1e-12)


def plain_loss(model, groups, objective):
    """Cell by cell, with torch's own densities."""
    losses, stopped = [], []
    for group in groups:
        for t in group.trajectory.transitions:
            x = t.x[t.parent]
            v = model.run([group.cond], lambda velocity, x=x, t=t: velocity(x, t.sigma))
            gaussian = t.kernel(x, v, t.sigma, t.sigma_next)
            new, old = Normal(gaussian.mean, gaussian.std), Normal(t.old_mean[t.parent], gaussian.std)
            log_ratio = (new.log_prob(t.x_next) - old.log_prob(t.x_next)).flatten(1).mean(1)
            step = StepNumbers.of(t.kernel, t.sigma, t.sigma_next)
            factor = objective.step_weight.log_ratio_factor(step, CANDIDATES)
            weight = objective.step_weight.loss_factor(step, CANDIDATES)
            for value, a in zip(log_ratio, group.advantage, strict=True):
                inside = bool(a * factor * value < objective.margin * abs(a))
                stopped.append(not inside)
                losses.append(weight * (objective.margin * abs(a) - a * factor * value) if inside else 0 * value)
    return torch.stack(losses).mean(), sum(stopped) / len(stopped)


CASES = [PCPO(margin=5e-3), RSM(margin=4e-3), PCPO(margin=5e-3, step_weight=Even())]


@pytest.mark.parametrize("batch", [1, 4, 64])
@pytest.mark.parametrize("objective", CASES, ids=repr)
def test_its_gradient_is_that_of_the_cells_inside_the_hinge(objective, batch):
    model = Toy()
    groups, move = make_groups(model, (6, 3)), direction(model, 0.1)
    gradient, stats = off_policy_gradient(model, groups, objective, move, batch=batch, candidates=CANDIDATES)
    assert plain_loss(model, groups, objective)[1] == 0, "nothing has moved yet"
    expected = plain_gradient(model, lambda: plain_loss(model, groups, objective)[0], move)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    assert 0.1 < stats.figures["stopped"] * 2 < 0.9, "halves: the first step stops nothing"


def test_its_gradient_is_that_of_its_loss_by_finite_differences():
    model, step, objective = Toy(), 1e-7, PCPO(margin=0.05, kl=0.2)
    groups, move = make_groups(model), direction(model, 0.1)
    gradient, _ = off_policy_gradient(model, groups, objective, move, batch=4, candidates=CANDIDATES)

    def loss(by):
        stats = off_policy_gradient(model, groups, objective, by, batch=4, candidates=CANDIDATES)[1]
        return 2 * stats.figures["loss"]

    for seed in range(3):
        along = direction(model, 1, seed=10 + seed)
        found = (loss(move + step * along) - loss(move - step * along)) / (2 * step)
        assert found == pytest.approx(float(gradient @ along), rel=1e-5)


def test_without_a_weighting_its_first_gradient_is_grpos():
    model = Toy()
    groups = make_groups(model)
    plain = gradient_of(model, groups, GRPO())
    for objective in (PCPO(step_weight=Even()), RSM(step_weight=Even())):
        torch.testing.assert_close(gradient_of(model, groups, objective), plain, rtol=1e-7, atol=1e-12)


def test_the_methods_have_their_weightings_and_the_published_margin():
    assert PCPO().step_weight == ProportionalCredit() and RSM().step_weight == FairClipFlat()
    assert PCPO().clip_range(65536)[0] == pytest.approx(1e-4, rel=0.02)
    assert RSM().clip_range(1024)[0] == pytest.approx(0.7 * default_clip(1024))
    assert RSM(margin=1e-3).clip_range(65536) == (1e-3, 1e-3)


@pytest.mark.parametrize("wrong", [{"margin": 0}, {"adv_clip": 0}, {"kl": -1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}.* (above 0|0 or more)"):
        PCPO(**wrong)
