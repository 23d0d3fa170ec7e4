"""CRD: what is centred and matched, and its gradient with the pull that better images feel."""

import math

import pytest
import torch
from core.objectives.toys import (
    Toy,
    followers,
    image_groups,
    masked,
    noised,
    plain_gradient,
    seen_draws,
    update,
    velocities,
)

from mixgrpo_core.models.lagged import Lag
from mixgrpo_core.objectives import CRD, centred_match
from mixgrpo_core.objectives.pieces import Noise
from mixgrpo_core.objectives.port import DrawRequest
from mixgrpo_core.sampling.schedule import flow_sigmas

SHARE = torch.tensor([0.9, 0.4, 0.3, 0.2], dtype=torch.float64)


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_match_by_hand():
    gain = torch.tensor([[0.3], [0.1]], dtype=torch.float64)
    share = torch.tensor([0.8, 0.4], dtype=torch.float64)
    assert float(centred_match(gain, share, 1.0, None, "squares")) == pytest.approx((0.1 - 0.2) ** 2)
    assert float(centred_match(gain, share, 2.0, None, "squares")) == pytest.approx(0, abs=1e-18)
    wanted = 1 / (1 + math.exp(-0.2))
    p = 1 / (1 + math.exp(-0.1))
    by_hand = -wanted * math.log(p) - (1 - wanted) * math.log(1 - p)
    assert float(centred_match(gain, share, 1.0, None, "logistic")) == pytest.approx(by_hand, rel=1e-9)


@pytest.mark.parametrize("match", ["squares", "logistic"])
@pytest.mark.parametrize("temperature", [None, 0.3])
def test_a_constant_on_gains_or_rewards_changes_nothing(temperature, match):
    gain = random(4, 3).requires_grad_()

    def both(gain_, share):
        value = centred_match(gain_, share, 1.5, temperature, match)
        return float(value.detach()), torch.autograd.grad(value, gain)[0]

    value, slopes = both(gain, SHARE)
    for gain_, share in ((gain + 7, SHARE), (gain, SHARE + 0.3), (gain + torch.tensor([1.0, -2.0, 5.0]), SHARE)):
        other, others = both(gain_, share)
        assert other == pytest.approx(value, rel=1e-12)
        torch.testing.assert_close(others, slopes, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("temperature", [None, 0.5])
def test_it_rests_where_gains_differ_as_rewards_do(temperature):
    beta = 2.5
    gain = (SHARE[:, None] / beta + random(1, 3)).expand(4, 3).clone().requires_grad_()
    value = centred_match(gain, SHARE, beta, temperature, "squares")
    assert float(value.detach()) < 1e-28
    assert float(torch.autograd.grad(value, gain)[0].abs().max()) < 1e-14


def test_plain_means_need_no_gradient_and_a_high_temperature_is_plain():
    gain = random(4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda gain: centred_match(gain, SHARE, 1.5, None, "squares"), (gain,))
    hot, plain = (centred_match(gain, SHARE, 1.5, temperature, "squares") for temperature in (1e9, None))
    torch.testing.assert_close(hot, plain, rtol=1e-8, atol=0)
    assert not torch.allclose(centred_match(gain, SHARE, 1.5, 0.1, "squares"), plain, rtol=1e-2)


def test_weighted_means_of_gains_are_held_still():
    gain, beta = random(4, 1).requires_grad_(), 1.5
    (found,) = torch.autograd.grad(centred_match(gain, SHARE, beta, 0.2, "squares"), gain)
    expected = torch.zeros(4, 1, dtype=torch.float64)
    for sign in (1, -1):
        p = torch.softmax(sign * SHARE / 0.2, 0)
        r, a = gain.detach()[:, 0], SHARE
        expected[:, 0] += 2 * beta * (beta * (r - (p * r).sum()) - (a - (p * a).sum())) / 4 / 2
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


OBJECTIVE = CRD(beta=1.3, kl=0.2)


def big_graph(model, groups, draws, snapshot):
    total, cells = 0, 0
    for group, columns in zip(groups, draws, strict=True):
        share = group.advantage.clamp(-5, 5) / 10 + 0.5
        held = 1e-4 / 0.2 + share * (1 - 1e-4 / 0.2)
        for sigma, noise in columns:
            x, u = noised(group, sigma, noise)
            v, past, base = (velocities(model, group, sigma, x, weights) for weights in ("own", snapshot, None))
            costs = [(w - u).square().flatten(1).mean(1) / (w - u).detach().abs().flatten(1).mean(1) for w in (v, past)]
            gain = costs[1] - costs[0]
            wanted = share - share.mean()
            squares = (1.3 * (gain - gain.mean().detach()) - wanted).square()
            pull = held * (v - base).square().flatten(1).mean(1)
            total = total + (5 / 1.3 * squares + 0.2 * pull).sum()
            cells += len(share)
    return total / cells


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_its_gradient_is_that_of_one_big_graph(batch):
    """The members that are left are centred among themselves."""
    model = Toy()
    first, second = image_groups(model, (6, 3), steps=5)
    groups, lagged = [masked(first, [0, 1, 3, 5]), second], followers(model, OBJECTIVE, 0.15)
    draws = seen_draws(model, groups, OBJECTIVE, lagged=lagged)
    stats, optimizer = update(model, groups, OBJECTIVE, lagged=lagged, batch=batch)
    kept = lagged["snapshot"].weights
    expected = plain_gradient(model, lambda: big_graph(model, groups, draws, kept))
    torch.testing.assert_close(optimizer.gradients[0], expected, rtol=1e-8, atol=1e-12)
    assert stats.figures["loss"] == pytest.approx(float(big_graph(model, groups, draws, kept).detach()), rel=1e-9)
    assert {"match", "gain", "kl"} <= stats.figures.keys() and stats.figures["kl"] > 0


def test_it_keeps_two_policies_with_the_published_lags_and_samples_by_one():
    objective = CRD()
    assert objective.policies == {"snapshot": objective.lag, "sampler": objective.sampler_lag}
    assert [objective.lag.decay(n) for n in (10, 500)] == pytest.approx([0.3, 0.999])
    assert [objective.sampler_lag.decay(n) for n in (75, 76, 300)] == pytest.approx([0, 0.0075, 0.999])
    assert objective.sampled_by(0) == "sampler"
    assert Lag().every == "update" != objective.lag.every == "iteration"


def test_it_looks_at_every_level_but_the_last():
    found = CRD().draws(DrawRequest(sigmas=flow_sigmas(20, 3.0), seed=0, shared_seed=0))
    assert [draw.sigma for draw in found] == flow_sigmas(20, 3.0)[:19].tolist()
    assert {draw.noise for draw in found} == {Noise.MEMBER}


@pytest.mark.parametrize(
    "wrong", [{"beta": 0}, {"adv_clip": 0}, {"kl": -1}, {"share": 0}, {"temperature": 0}, {"match": "cubes"}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="above 0|one of 'squares'"):
        CRD(**wrong)
