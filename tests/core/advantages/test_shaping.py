"""SLAS: rewards that are only centred, shaped, and brought to unit size over the iteration."""

import pytest
import torch
from groups import credit_of, plain_scores, scored_group
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mixgrpo_core.advantages import Advantages, CentredRewards, SuperLinear, centred, super_linear
from mixgrpo_core.rewards.port import Scores

NOTED = [[1, 2, 4, 5], [0.2, 0.3, 0.1, 0.2]]


def slas(gamma, groups):
    return credit_of((CentredRewards(), SuperLinear(gamma=gamma)), [scored_group(plain_scores(*g)) for g in groups])


def test_centred_rewards_are_in_the_reward_s_units():
    (found,) = credit_of(CentredRewards(), [scored_group(plain_scores(1, 2, 4, 5))])
    assert found.values.tolist() == [-2, -1, 1, 2]
    assert found.counted.all()
    (found,) = credit_of(CentredRewards(), [scored_group(plain_scores(10, 20, 40, 50), floors={"reward": 100.0})])
    assert found.values.tolist() == [-20, -10, 10, 20], "no standard deviation, so no least one"


def test_centred_rewards_mix_by_weight_and_leave_out_who_has_no_sum():
    scores = {**plain_scores(0, 4, 8), "other": Scores.of(torch.tensor([10.0, 20.0, float("nan")]))}
    (found,) = credit_of(CentredRewards(), [scored_group(scores, {"reward": 3.0, "other": 1.0})])
    assert found.values.tolist() == [-2.75, 2.75, 0]  # 2.5 and 8
    assert found.counted.tolist() == [True, True, False]
    assert set(found.parts) == {"reward", "other"}


def test_a_group_of_rounding_noise_is_flat():
    noise = torch.tensor([100.0, 100.0 + 1e-5, 100.0])
    assert not centred(noise).any()
    assert centred(noise * 1e-9 - 1e-7).any()
    assert not centred(torch.tensor([3.0, 1.0]), torch.tensor([True, False])).any(), "one image has nobody to compare"


@pytest.mark.parametrize(
    ("gamma", "large", "small", "flat"),
    [(0.0, 1.671649, 0.835825, 0.083582), (0.5, None, None, 0.0197), (1.0, None, None, 0.0045)],
)
def test_the_noted_numbers(gamma, large, small, flat):
    first, second = (found.values for found in slas(gamma, NOTED))
    assert second.tolist() == pytest.approx([0, flat, -flat, 0], abs=5e-5)
    if large is not None:
        assert first.tolist() == pytest.approx([-large, -small, small, large], abs=1e-6)
    assert float(first[3] / first[2]) == pytest.approx(2 ** (1 + gamma), rel=1e-6)


def test_linear_is_centring_and_the_spread_of_the_batch():
    centres = [torch.tensor(group) - torch.tensor(group).mean() for group in NOTED[1:] + [[7.0, 1.0]]]
    spread = torch.cat(centres).std()
    for found, centre in zip(slas(0.0, NOTED[1:] + [[7.0, 1.0]]), centres, strict=True):
        torch.testing.assert_close(found.values, centre / spread)


def test_the_pure_function_keeps_double_precision():
    values = torch.tensor([0.3, -2.0, 0.0], dtype=torch.float64)
    found = super_linear(values, 0.7)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([0.3**1.7, -(2**1.7), 0], rel=1e-15)
    assert centred(values).dtype == torch.float64


def test_it_is_not_centred_again():
    """A skewed group keeps its mean, and a spread is about the mean."""
    (found,) = slas(1.0, [[0, 0, 0, 4]])
    shaped = torch.tensor([-1.0, -1, -1, 9])
    torch.testing.assert_close(found.values, shaped / shaped.std())


def test_where_nothing_differs_nothing_is_blown_up():
    assert all(not found.values.any() for found in slas(0.5, [[1, 1, 1], [2, 2, 2]]))


def test_the_shape_must_be_known():
    with pytest.raises(TypeError, match="gamma"):
        SuperLinear()
    for gamma in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="gamma must be"):
            SuperLinear(gamma=gamma)


numbers = st.floats(-100, 100, width=32)
batches = st.lists(st.lists(numbers, min_size=2, max_size=6), min_size=1, max_size=4)


@given(batches, st.floats(0, 2))
@examples(max_examples=100, deadline=None)
def test_signs_and_order_are_kept_and_the_batch_has_unit_size(groups, gamma):
    found = slas(gamma, groups)
    for shaped, plain in zip(found, slas(0.0, groups), strict=True):
        assert shaped.values.isfinite().all()
        larger = shaped.values[:, None] - shaped.values[None]
        assert (larger * (plain.values[:, None] - plain.values[None]) >= 0).all()
        assert (shaped.values * plain.values >= 0).all()
    everything = torch.cat([group.values for group in found]).double()
    spread = float(torch.cat([centred(torch.tensor(g)) for g in groups]).double().abs().max())
    if spread > 1e-2:  # below, the floor of the spread may have a word
        assert float(everything.std()) == pytest.approx(1, rel=1e-4)


@given(batches, st.floats(0, 2), st.randoms(use_true_random=False))
@examples(max_examples=100, deadline=None)
def test_the_order_of_members_and_of_groups_does_not_matter(groups, gamma, shuffler):
    order = shuffler.sample(range(len(groups)), len(groups))
    members = [shuffler.sample(range(len(group)), len(group)) for group in groups]
    other = slas(gamma, [[groups[place][i] for i in members[place]] for place in order])
    found = slas(gamma, groups)
    for place, moved in zip(order, other, strict=True):
        expected = found[place].values[members[place]]
        torch.testing.assert_close(moved.values, expected, rtol=1e-4, atol=1e-6)


def test_masked_members_count_neither_in_the_mean_nor_in_the_spread():
    lame = {"reward": Scores(torch.tensor([1.0, 3, 900]), torch.tensor([True, True, False]))}
    stages = (CentredRewards(), SuperLinear(gamma=1.0))
    with_it = credit_of(stages, [scored_group(lame), scored_group(plain_scores(0, 6))])
    without = credit_of(stages, [scored_group(plain_scores(1, 3)), scored_group(plain_scores(0, 6))])
    assert with_it[0].values.tolist() == [*without[0].values.tolist(), 0]
    assert torch.equal(with_it[1].values, without[1].values)
    zero = SuperLinear(gamma=1.0).of_iteration([Advantages(torch.zeros(2), torch.zeros(2, dtype=torch.bool))])
    assert not zero[0].values.any()
