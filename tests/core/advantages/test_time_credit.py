"""Time credit: which step brought the latents nearer to the image."""

import pytest
import torch
from groups import credit_of, path, plain_scores, scored_group
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mixgrpo_core.advantages import TimeCredit, WeightedAdvantages, likeness, time_weights
from mixgrpo_core.sampling.schedule import flow_sigmas


def straight(size=3, steps=25):
    """Members that go straight from one noise to images of the same norm, orthogonal to it."""
    sigmas = flow_sigmas(steps, 3.0).double()
    noise = torch.zeros(size, 1, 2, 4, dtype=torch.float64)
    noise[:, 0, 0] = torch.tensor([3.0, 0, 0, 4])
    images = torch.zeros_like(noise)
    for member in range(size):
        images[member, 0, 1, member] = 5
    return [(1 - sigma) * images + sigma * noise for sigma in sigmas], sigmas


def weights_of(trajectory, eps=0.0, rewards=(0.0, 1.0, 5.0)):
    """The weights alone: what the stage makes of a group, divided by what it was given."""
    group = scored_group(plain_scores(*rewards), trajectory=trajectory)
    (plain,) = credit_of(WeightedAdvantages(), [group])
    (found,) = credit_of((WeightedAdvantages(), TimeCredit(eps=eps)), [group])
    assert found.values.shape == (len(rewards), len(trajectory.transitions))
    return found.values / plain.values[:, None]


@pytest.mark.parametrize(
    ("trained", "noted"),
    [
        (range(25), {0: 0.347, 18: 1.879, 24: 0.193}),
        (range(24), {0: 0.336, 18: 1.818, 23: 0.5965}),
        (range(4), {0: 0.877, 1: 0.952, 2: 1.037, 3: 1.134}),
    ],
)
def test_a_straight_path_gives_the_noted_weights(trained, noted):
    latents, sigmas = straight()
    weights = weights_of(path(latents, sigmas, trained))
    for step, number in noted.items():
        assert weights[:, step].tolist() == pytest.approx([number] * 3, abs=5.1e-4)
    torch.testing.assert_close(weights.mean(1), torch.ones(3))


def test_a_step_that_leads_away_keeps_eps_alone():
    before, after = torch.tensor([[0.1, 0.5, 0.3]]), torch.tensor([[0.5, 0.3, 0.6]])
    torch.testing.assert_close(time_weights(before, after, 0.1), torch.tensor([[0.5, 0.1, 0.4]]) * 3)
    assert time_weights(before, after, 0.0)[0, 1] == 0


def test_where_no_step_brings_anything_all_count_alike():
    one = torch.tensor([[0.5, 0.4]])
    for eps in (0.0, 1e-3, 1.0):
        assert time_weights(one, one - 0.1, eps).tolist() == [[1, 1]]


def test_likeness_is_the_cosine_over_the_whole_latent_in_double_precision():
    generator = torch.Generator().manual_seed(0)
    x, final = torch.randn(2, 5, 3, 2, 2, generator=generator, dtype=torch.float64)
    expected = [float(a.flatten() @ b.flatten() / (a.norm() * b.norm())) for a, b in zip(x, final, strict=True)]
    found = likeness(x, final)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    assert likeness(x.bfloat16(), final).dtype == torch.float32
    assert likeness(torch.zeros_like(x), final).tolist() == [0] * 5
    assert time_weights(found[:, None], found[:, None], 0.1).dtype == torch.float64


def test_a_row_that_the_group_shares_serves_every_member():
    """Members of a shared start differ in their image, and so in how near the start already was."""
    latents, sigmas = straight()
    latents[0] = latents[0] + 0.5 * latents[-1][:1]  # the common noise leans to the first image
    latents[0][1:] = latents[0][:1]
    trajectory = path(latents, sigmas)
    assert len(trajectory.transitions[0].x) == 1
    weights = weights_of(trajectory)
    assert weights[0, 0] < weights[1, 0]
    torch.testing.assert_close(weights[1], weights[2])


def test_a_second_stage_of_steps_multiplies():
    latents, sigmas = straight(steps=5)
    group = scored_group(plain_scores(0, 1, 5), trajectory=path(latents, sigmas))
    once = weights_of(path(latents, sigmas), eps=0.1)
    stages = (WeightedAdvantages(), TimeCredit(eps=0.1), TimeCredit(eps=0.1))
    (twice,), (plain,) = credit_of(stages, [group]), credit_of(WeightedAdvantages(), [group])
    torch.testing.assert_close(twice.values, plain.values[:, None] * once**2)


def test_without_trained_steps_it_says_so():
    with pytest.raises(ValueError, match="this rollout has none"):
        credit_of((WeightedAdvantages(), TimeCredit()), [scored_group(plain_scores(0, 1))])
    for eps in (-1e-3, float("nan")):
        with pytest.raises(ValueError, match="eps must be"):
            TimeCredit(eps=eps)


@given(st.integers(0, 2**32), st.floats(0, 1), st.floats(0.01, 100))
@examples(max_examples=60, deadline=None)
def test_weights_are_not_negative_have_mean_one_and_know_no_order_and_no_scale(seed, eps, scale):
    generator = torch.Generator().manual_seed(seed)
    latents = list(torch.randn(5, 4, 2, 3, 3, generator=generator))
    sigmas = flow_sigmas(4)
    rewards = [0.0, 1.0, 5.0, -1.0]
    weights = weights_of(path(latents, sigmas), eps, rewards)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.mean(1), torch.ones(4), atol=1e-5, rtol=0)
    order = torch.randperm(4, generator=generator)
    moved = weights_of(path([x[order] for x in latents], sigmas), eps, [rewards[i] for i in order])
    torch.testing.assert_close(moved, weights[order], atol=1e-5, rtol=1e-4)
    scaled = weights_of(path([x * scale for x in latents], sigmas), eps, rewards)
    torch.testing.assert_close(scaled, weights, atol=1e-4, rtol=1e-4)
