"""DiffusionNFT: its branches, its factor, and the policy that it samples by."""

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
    plain_gradient,
    seen_draws,
    shift,
    slope,
    update,
    velocities,
    weights_of,
)

from mixgrpo_core.models.lagged import Lagged
from mixgrpo_core.objectives import DiffusionNFT, branch_errors, positive_share, taken
from mixgrpo_core.objectives.pieces import Moment, Noise
from mixgrpo_core.objectives.port import DrawRequest
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.support.phases import PhaseClock

OBJECTIVE = DiffusionNFT(beta=0.7, kl=0.1)


def big_graph(model, groups, draws, lagged, objective=OBJECTIVE, frozen=None):
    """Both branches of every member and draw in one graph, by the images they predict; their normalisers too."""
    b, total, cells, found = objective.beta, 0, 0, []
    for group, columns in zip(groups, draws, strict=True):
        r = (group.advantage.clamp(-5, 5) / 5) / 2 + 0.5
        for sigma, noise in columns:
            x, _ = noised(group, sigma, noise)
            v = velocities(model, group, sigma, x)
            past, base = (velocities(model, group, sigma, x, weights) for weights in (lagged, None))
            for share, branch in ((r, b * v + (1 - b) * past), (1 - r, (1 + b) * past - b * v)):
                difference = x - sigma * branch - group.trajectory.final
                size = difference.detach().abs().flatten(1).mean(1).clamp(min=1e-5)
                found.append(size)
                size = frozen[len(found) - 1] if frozen else size
                total = total + 5 / b * (share * difference.square().flatten(1).mean(1) / size).sum()
            total = total + objective.kl * (v - base).square().flatten(1).mean(1).sum()
            cells += len(r)
    return total / cells, found


@pytest.fixture
def scene():
    """A model away from its lagged policy, groups of which one lost members, their draws."""
    model = Toy()
    first, second = image_groups(model, (6, 3), steps=5)
    groups = [masked(first, [0, 1, 3, 5]), second]
    lagged = followers(model, OBJECTIVE, 0.15)
    return model, groups, lagged, seen_draws(model, groups, OBJECTIVE, lagged=lagged)


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_its_gradient_is_that_of_one_big_graph(scene, batch):
    model, groups, lagged, draws = scene
    stats, optimizer = update(model, groups, OBJECTIVE, lagged=lagged, batch=batch)
    kept = lagged["lagged"].weights
    expected = plain_gradient(model, lambda: big_graph(model, groups, draws, kept)[0])
    torch.testing.assert_close(optimizer.gradients[0], expected, rtol=1e-9, atol=1e-12)
    loss = float(big_graph(model, groups, draws, kept)[0].detach())
    assert stats.figures["loss"] == pytest.approx(loss, rel=1e-9)
    assert {"error_positive", "error_negative", "kl"} <= stats.to_json().keys()


def test_its_gradient_is_that_of_its_loss_by_finite_differences(scene):
    """The normalisers carry no gradient: they are held while the weights of the model move."""
    model, groups, lagged, draws = scene
    gradient, kept = gradient_of(model, groups, OBJECTIVE, lagged=lagged, batch=4), lagged["lagged"].weights
    _, sizes = big_graph(model, groups, draws, kept)
    for seed in range(3):
        along = direction(model, 1, seed=10 + seed)
        found = slope(model, lambda: big_graph(model, groups, draws, kept, frozen=sizes)[0].detach(), along)
        assert found == pytest.approx(float(gradient @ along), rel=1e-6)


def test_at_the_lagged_policy_the_branches_are_one_and_no_advantage_teaches_nothing():
    generator = torch.Generator().manual_seed(0)
    v, u = (torch.randn(4, 3, 2, 2, dtype=torch.float64, generator=generator) for _ in range(2))
    v.requires_grad_()
    positive, negative = branch_errors(v, v.detach(), u, 0.6, 0.3)
    torch.testing.assert_close(positive, negative, rtol=1e-12, atol=0)
    assert positive.dtype == torch.float64
    r = positive_share(torch.zeros(4, dtype=torch.float64), 5.0)
    (found,) = torch.autograd.grad((r * positive + (1 - r) * negative).sum(), v)
    assert found.abs().max() < 1e-15


def test_turning_the_advantage_turns_the_branches():
    """With -A the loss is that of a velocity that was mirrored at the lagged one."""
    generator = torch.Generator().manual_seed(0)
    v, past, u = (torch.randn(4, 3, 2, 2, dtype=torch.float64, generator=generator) for _ in range(3))
    advantage = torch.tensor([1.0, -3.0, 7.0, 0.2], dtype=torch.float64)

    def loss(v, advantage):
        positive, negative = branch_errors(v, past, u, 0.6, 0.3)
        r = positive_share(advantage, 5.0)
        return r * positive + (1 - r) * negative

    torch.testing.assert_close(loss(v, -advantage), loss(2 * past - v, advantage))
    assert (loss(v, -advantage) - loss(v, advantage)).abs().min() > 1e-3


def test_an_images_share_is_linear_between_its_bounds():
    found = positive_share(torch.tensor([-9.0, -5.0, 0.0, 2.5, 5.0, 9.0]), 5.0)
    assert found.tolist() == [0.0, 0.0, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize(
    ("teaching", "shares"),
    [
        ("all", [0.0, 0.3, 0.5, 0.7, 1.0]),
        ("good", [0.5, 0.5, 0.5, 0.7, 1.0]),
        ("bad", [0.0, 0.3, 0.5, 0.5, 0.5]),
        ("good, alike", [0.5, 0.5, 0.5, 0.6, 0.6]),
        ("all, alike", [0.4, 0.4, 0.5, 0.6, 0.6]),
    ],
)
def test_whose_advantages_count_and_by_how_much(teaching, shares):
    advantage = torch.tensor([-9.0, -2.0, 0.0, 2.0, 9.0], dtype=torch.float64)
    assert positive_share(taken(advantage, teaching), 5).tolist() == pytest.approx(shares)


def test_images_that_do_not_teach_leave_the_gradient_as_it_is_without_them():
    model = Toy()
    group = image_groups(model, (6,))[0]
    good = gradient_of(model, [group], DiffusionNFT(kl=0.0, teaching="good"))
    kept = replace(group, advantage=group.advantage.clamp(min=0))
    torch.testing.assert_close(good, gradient_of(model, [kept], DiffusionNFT(kl=0.0)), rtol=1e-12, atol=1e-15)
    bad = gradient_of(model, [group], DiffusionNFT(kl=0.0, teaching="bad"))
    whole = gradient_of(model, [group], DiffusionNFT(kl=0.0))
    torch.testing.assert_close(good + bad, whole, rtol=1e-9, atol=1e-12)  # at the lagged policy r is all there is


def test_a_perfect_branch_is_not_divided_by_nothing():
    u = torch.ones(2, 3, 2, 2, dtype=torch.float64)
    v = u.clone().requires_grad_()
    positive, _ = branch_errors(v, u, u, 1.0, 1.0)
    (found,) = torch.autograd.grad(positive.sum(), v)
    assert torch.isfinite(found).all()


def test_it_looks_at_every_level_but_the_last_with_a_noise_for_each_member():
    sigmas = flow_sigmas(10, 3.0)
    draws = DiffusionNFT().draws(DrawRequest(sigmas=sigmas, seed=1, shared_seed=2))
    assert [draw.sigma for draw in draws] == sigmas[:9].tolist()
    assert all(draw.noise is Noise.MEMBER for draw in draws)
    assert len(DiffusionNFT().draws(DrawRequest(sigmas=flow_sigmas(2, 3.0), seed=1, shared_seed=2))) == 1
    model = Toy()
    (columns,) = seen_draws(model, image_groups(model, (6,)), DiffusionNFT())
    noises = torch.cat([noise for _, noise in columns]).flatten(1)
    assert len(torch.unique(noises, dim=0)) == len(noises) == 6 * 9


def test_the_same_update_twice_is_the_same_and_another_seed_differs():
    model = Toy()
    groups = image_groups(model)
    one, again, other = (gradient_of(model, groups, OBJECTIVE, moment=Moment(seed=s), batch=4) for s in (0, 0, 1))
    assert torch.equal(one, again)
    assert (one - other).norm() > 1e-3 * one.norm()


def test_a_kl_costs_no_second_forward_of_the_trained_policy():
    model = Toy()
    clock = PhaseClock(lambda: model.evaluations)
    update(model, image_groups(model), OBJECTIVE, clock=clock, batch=4)
    assert clock.evaluations["train"] == 12 * 9
    assert clock.evaluations["reference"] == 2 * 12 * 9  # the lagged policy and the base


def test_the_lagged_policy_samples_always_and_is_blended_after_an_iteration_only():
    objective = DiffusionNFT()
    assert objective.sampled_by(0) == objective.sampled_by(10_000) == "lagged"
    model = Toy()
    lagged = {name: Lagged(lag, model.lora_state()) for name, lag in objective.policies.items()}
    start, move = weights_of(model), direction(model, 0.1)
    update(model, image_groups(model), objective, Script(model, [move, move]), updates=2, lagged=lagged)

    def kept():
        return torch.cat([weight.flatten() for weight in lagged["lagged"].weights.values()])

    assert torch.equal(kept(), start)
    lagged["lagged"].passed("iteration", model.lora_state())
    torch.testing.assert_close(kept(), start + (1 - 0.002) * 2 * move)  # n = 2 optimizer steps


def test_the_branches_pull_apart_what_the_advantage_tells_apart():
    """A step down the gradient lowers the error of the good images against that of the bad ones."""
    model = Toy(up=0.05)
    groups = image_groups(model, (12,))
    draws = seen_draws(model, groups, OBJECTIVE)
    a = groups[0].advantage

    def contrast():
        found = []
        for sigma, noise in draws[0]:
            x, u = noised(groups[0], sigma, noise)
            with torch.no_grad():
                found.append((a * (velocities(model, groups[0], sigma, x) - u).square().flatten(1).mean(1)).mean())
        return float(torch.stack(found).mean())

    before = contrast()
    gradient = gradient_of(model, groups, DiffusionNFT(kl=0.0))
    shift(list(model.parameters()), -0.01 * gradient / gradient.norm())
    assert contrast() < before - 1e-4


@pytest.mark.parametrize("wrong", [{"beta": 0}, {"adv_clip": 0}, {"share": 0}, {"kl": -1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected beta"):
        DiffusionNFT(**wrong)


def test_a_mode_that_there_is_not_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match="teaching is one of 'all', 'good', .* found 'some'"):
        DiffusionNFT(teaching="some")
