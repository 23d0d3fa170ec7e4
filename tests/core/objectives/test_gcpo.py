"""GCPO: chunks of ratios, against one graph over all members and steps."""

import pytest
import torch
from core.objectives.toys import (
    Toy,
    direction,
    gradient_of,
    make_groups,
    masked,
    off_policy_gradient,
    permuted,
    plain_gradient,
    update,
)
from torch.distributions import Normal

from mixgrpo_core.objectives import GCPO, GRPO, chunk_log_ratios
from mixgrpo_core.support.phases import PhaseClock

CLIP, KL = 0.004, 0.3


def big_graph(model, groups, chunks):
    """Every member at every step in one graph, scored by torch's normal density; members weigh alike."""
    losses, pulls, members = [], [], 0
    for group in groups:
        rows = []
        for t in group.trajectory.transitions:
            x = t.x[t.parent]
            v = model.run([group.cond], lambda velocity, x=x, t=t: velocity(x, t.sigma))
            with torch.no_grad(), model.with_weights(None):
                base = model.run([group.cond], lambda velocity, x=x, t=t: velocity(x, t.sigma))
            gaussian = t.kernel(x, v, t.sigma, t.sigma_next)
            log_prob = Normal(gaussian.mean, gaussian.std).log_prob(t.x_next).flatten(1).mean(1)
            rows.append(log_prob - t.old_log_prob)
            pulls.append((v - base).square().flatten(1).mean(1).sum() / len(group.trajectory.transitions))
        first = 0
        for length in chunks:
            ratio = (sum(rows[first : first + length]) / length).exp()
            first += length
            a = group.advantage
            losses.append(-torch.min(a * ratio, a * ratio.clamp(1 - CLIP, 1 + CLIP)).sum() / len(chunks))
        members += len(group.advantage)
    return (sum(losses) + KL * sum(pulls)) / members


def unequal(model):
    """Groups of 5 and 3; of the first one a member was masked and the rest stand in another order."""
    first, second = make_groups(model, (6, 3))
    return [permuted(masked(first, [0, 1, 3, 4, 5]), [3, 0, 4, 1, 2]), second]


@pytest.mark.parametrize("batch", [1, 4, 64])
@pytest.mark.parametrize("chunks", [(1, 2), (3,), (1, 1, 1)])
def test_two_passes_are_one_big_graph(batch, chunks):
    model = Toy()
    groups, move = unequal(model), direction(model, 0.1)
    objective = GCPO(clip=CLIP, kl=KL, chunks=chunks)
    gradient, stats = off_policy_gradient(model, groups, objective, move, batch=batch)
    expected = plain_gradient(model, lambda: big_graph(model, groups, chunks), move)
    assert 0.1 < stats.figures["clip_low"] + stats.figures["clip_high"] < 0.5  # half: the first step clips nothing
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


def test_its_gradient_is_that_of_its_loss_by_finite_differences():
    model, step = Toy(), 1e-6
    groups, move = unequal(model), direction(model, 0.1)
    objective = GCPO(clip=CLIP, kl=KL, chunks=(1, 2))
    gradient, _ = off_policy_gradient(model, groups, objective, move, batch=4)

    def loss(by):
        _, stats = off_policy_gradient(model, groups, objective, by, batch=4)
        return 2 * stats.figures["loss"]  # the mean of two steps, of which the first does not depend on `by`

    for seed in range(3):
        along = direction(model, 1, seed=10 + seed)
        found = (loss(move + step * along) - loss(move - step * along)) / (2 * step)
        assert found == pytest.approx(float(gradient @ along), rel=1e-6)


def test_chunks_of_one_step_are_grpo():
    model = Toy()
    groups, move = make_groups(model), direction(model, 0.1)
    chunked, _ = off_policy_gradient(model, groups, GCPO(clip=CLIP, chunks=(1, 1, 1)), move, batch=4)
    plain, _ = off_policy_gradient(model, groups, GRPO(clip=CLIP), move, batch=4)
    torch.testing.assert_close(chunked, plain, rtol=1e-10, atol=1e-14)
    other, _ = off_policy_gradient(model, groups, GCPO(clip=CLIP, chunks=(1, 2)), move, batch=4)
    assert (other - plain).norm() > 0.05 * plain.norm()


def test_none_is_one_chunk_of_all_steps():
    model = Toy()
    groups, move = make_groups(model), direction(model, 0.1)
    whole, _ = off_policy_gradient(model, groups, GCPO(clip=CLIP), move)
    given, _ = off_policy_gradient(model, groups, GCPO(clip=CLIP, chunks=(3,)), move)
    assert torch.equal(whole, given)


def test_a_step_counts_less_in_a_longer_chunk():
    """``d loss / d log r_t = -A rho_j / (G n |j|)``, from the function itself."""
    log_ratio = 0.1 * torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    log_ratio.requires_grad_()
    advantage, chunks = torch.tensor([1.0, -2.0, 0.5, 0.5], dtype=torch.float64), (1, 2, 3)
    rho = chunk_log_ratios(log_ratio, chunks).exp()
    assert rho.dtype == torch.float64
    (slope,) = torch.autograd.grad(-(advantage[:, None] * rho).mean(), log_ratio)
    sizes = torch.tensor([1, 2, 2, 3, 3, 3])
    per_step = rho.repeat_interleave(torch.tensor(chunks), 1)
    torch.testing.assert_close(slope, -advantage[:, None] * per_step / (4 * 3 * sizes), rtol=1e-12, atol=0)


def test_the_length_of_a_chunk_leaves_its_clip_event():
    """Equal log-ratios have that mean whatever the length is: a mean over steps and not a sum."""
    log_ratio = torch.full((2, 7), 0.01)
    torch.testing.assert_close(chunk_log_ratios(log_ratio, (1, 2, 4)), torch.full((2, 3), 0.01))


def test_chunks_that_do_not_add_up_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match="5 steps, but 3"):
        update(Toy(), make_groups(Toy()), GCPO(chunks=(2, 3)))
    with pytest.raises(ValueError, match="1 or more"):
        GCPO(chunks=(2, 0))
    with pytest.raises(ValueError, match="1 or more"):
        GCPO(chunks=())


def test_its_clip_is_the_published_one_at_the_published_size():
    assert GCPO().clip_range(16 * 90 * 90) == pytest.approx((5e-5, 5e-5))
    assert GCPO(clip=(0.1, 0.2)).clip_range(5) == (0.1, 0.2)


@pytest.mark.parametrize(("kl", "asked"), [(0.0, 0), (0.5, 1)])
def test_a_kl_costs_no_second_forward_of_the_trained_policy(kl, asked):
    model = Toy()
    groups = make_groups(model)
    rows = sum(len(t.x) for group in groups for t in group.trajectory.transitions)
    clock = PhaseClock(lambda: model.evaluations)
    update(model, groups, GCPO(kl=kl), clock=clock, batch=4)
    assert clock.evaluations["train"] == 2 * rows
    assert clock.evaluations["reference"] == asked * rows


def test_a_rollout_that_differs_from_the_update_is_scored_again():
    model = Toy()
    groups = make_groups(model)
    model.noise_of_batching = 0.05
    stats, _ = update(model, groups, GCPO(chunks=(1, 2)), batch=4)
    assert stats.recomputed
    assert stats.figures["ratio_first"] < 1e-12


def test_the_same_update_twice_is_the_same():
    model = Toy()
    groups = make_groups(model)
    first, second = (gradient_of(model, groups, GCPO(), batch=4) for _ in range(2))
    assert torch.equal(first, second)
