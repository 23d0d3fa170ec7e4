"""Several rewards, one advantage: known answers, what masks do, and what each way of combining promises."""

import pytest
import torch
from groups import credit_of, scored_group
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mixgrpo_core.advantages import Advantages, BatchNormalised, WeightedAdvantages, WeightedRewards
from mixgrpo_core.advantages.group import mix_advantages
from mixgrpo_core.rewards.port import Scores

ALL = [WeightedAdvantages(), WeightedRewards(), BatchNormalised()]
ROOT_HALF = 0.5**0.5


def scores(*values, failed=()):
    valid = torch.tensor([place not in failed for place in range(len(values))])
    return Scores(torch.tensor(values).float().masked_fill(~valid, float("nan")), valid)


def combined(combination, groups, weights, floors=None):
    return credit_of(combination, [scored_group(group, weights, floors) for group in groups])


def assert_values(found, expected, atol=1e-5):
    torch.testing.assert_close(found, torch.tensor(expected), atol=atol, rtol=0)


def test_weighted_advantages_are_the_paper_s():
    group = {"a": scores(0, 1, 2, failed=[1]), "b": scores(5, 1, 3)}
    weights = {"a": 1.0, "b": 3.0}
    (found,) = combined(WeightedAdvantages(), [group], weights)
    assert torch.equal(found.values, mix_advantages(group, weights))
    assert found.counted.tolist() == [True, True, True], "b scored the one that a failed on"


def test_weighted_rewards_keep_their_scales():
    group = {"small": scores(0, 0.01, 0.0), "large": scores(0, 0, 10)}
    (by_reward,) = combined(WeightedRewards(), [group], {"small": 1.0, "large": 1.0})
    total = torch.tensor([0, 0.005, 5])
    assert_values(by_reward.values, ((total - total.mean()) / total.std()).tolist())
    (by_rank,) = combined(WeightedAdvantages(), [group], {"small": 1.0, "large": 1.0})
    assert by_reward.values[1] < 0 < by_rank.values[1]


def test_weighted_rewards_by_hand():
    group = {"a": scores(1, 3), "b": scores(10, 0)}
    assert_values(
        combined(WeightedRewards(), [group], {"a": 9.0, "b": 1.0})[0].values, [-ROOT_HALF, ROOT_HALF]
    )  # 19 and 27
    (nine_b,) = combined(WeightedRewards(), [group], {"a": 1.0, "b": 9.0})  # 91 and 3
    assert_values(nine_b.values, [ROOT_HALF, -ROOT_HALF])


def test_an_image_that_one_reward_failed_on_has_no_sum():
    """Were the failure a 0, the first image would be the worst by far."""
    group = {"a": scores(100, 101, 102), "b": scores(100, 100, 100, failed=[0])}
    (found,) = combined(WeightedRewards(), [group], {"a": 1.0, "b": 1.0})
    assert found.counted.tolist() == [False, True, True]
    assert_values(found.values, [0.0, -ROOT_HALF, ROOT_HALF])


def test_a_reward_that_failed_on_the_whole_group_is_left_out_of_its_sum():
    group = {"a": scores(1, 2, 4), "b": scores(0, 0, 0, failed=[0, 1, 2])}
    (found,) = combined(WeightedRewards(), [group], {"a": 1.0, "b": 5.0})
    (alone,) = combined(WeightedRewards(), [{"a": group["a"]}], {"a": 1.0})
    assert torch.equal(found.values, alone.values)
    assert found.counted.all()


def test_a_floor_is_in_units_of_the_sum():
    group = {"a": scores(0, 1), "b": scores(0, 1)}
    (found,) = combined(WeightedRewards(), [group], {"a": 1.0, "b": 3.0}, {"b": 4.0})
    assert_values(found.values, [-0.5 / 3, 0.5 / 3])


def test_batch_normalised_is_gdpo_by_hand():
    """Sum of the group-normalised rewards, then mean and standard deviation over the whole batch."""
    groups = [
        {"a": scores(0, 1), "b": scores(0, 1)},
        {"a": scores(0, 1), "b": scores(2, 1)},
        {"a": scores(1, 0), "b": scores(3, 5)},
    ]
    weights = {"a": 3.0, "b": 1.0}
    sums = torch.cat(
        [3 * torch.tensor(a) + torch.tensor(b) for a, b in [([-1, 1], [-1, 1]), ([-1, 1], [1, -1]), ([1, -1], [-1, 1])]]
    )
    sums = sums * ROOT_HALF
    expected = (sums - sums.mean()) / sums.std()
    found = torch.cat([group.values for group in combined(BatchNormalised(), groups, weights)])
    assert_values(found, expected.tolist())


def test_batch_normalising_ignores_masked_samples():
    """Zeros of failed images would make the spread too small, and so the advantages too large."""
    group = {"a": scores(0, 1, 5, 5, 5, failed=[2, 3, 4])}
    found = combined(BatchNormalised(), [group, {"a": scores(1, 0)}], {"a": 1.0})
    without = combined(BatchNormalised(), [{"a": scores(0, 1)}, {"a": scores(1, 0)}], {"a": 1.0})
    assert_values(found[0].values, [*without[0].values.tolist(), 0, 0, 0])
    assert torch.equal(found[1].values, without[1].values)


def test_where_nothing_has_spread_nothing_is_blown_up():
    flat = {"a": scores(1, 1, 1), "b": scores(0.1, 0.1, 0.1)}
    for combination in ALL:
        found = combined(combination, [flat, flat], {"a": 1.0, "b": 1.0})
        assert all(not group.values.any() for group in found)
        none = {"a": scores(0, 0, failed=[0, 1]), "b": scores(0, 0, failed=[0, 1])}
        (found,) = combined(combination, [none], {"a": 1.0, "b": 1.0})
        assert not found.values.any()
        assert not found.counted.any()


numbers = st.floats(-100, 100, width=32)
members = st.lists(st.tuples(numbers, numbers, st.booleans(), st.booleans()), min_size=2, max_size=6)


def group_of(rows):
    a, b, valid_a, valid_b = zip(*rows, strict=True)
    failed_a, failed_b = ([place for place, valid in enumerate(mask) if not valid] for mask in (valid_a, valid_b))
    return {"a": scores(*a, failed=failed_a), "b": scores(*b, failed=failed_b)}


@given(st.lists(members, min_size=1, max_size=3), st.sampled_from(ALL))
@examples(max_examples=100, deadline=None)
def test_advantages_are_finite_sum_to_zero_and_are_zero_where_not_counted(batch, combination):
    for group in combined(combination, [group_of(rows) for rows in batch], {"a": 1.0, "b": 2.0}):
        assert group.values.isfinite().all()
        assert not group.values[~group.counted].any()
        assert abs(float(group.values.sum())) < 1e-4 * max(1.0, float(group.values.abs().max()))


@given(st.lists(members, min_size=1, max_size=3), st.sampled_from(ALL))
@examples(max_examples=100, deadline=None)
def test_what_a_failed_score_would_have_been_makes_no_difference(batch, combination):
    groups = [group_of(rows) for rows in batch]
    other = [
        {name: Scores(torch.where(score.valid, score.values, 1e6), score.valid) for name, score in group.items()}
        for group in groups
    ]
    weights = {"a": 1.0, "b": 2.0}
    for one, two in zip(combined(combination, groups, weights), combined(combination, other, weights), strict=True):
        assert torch.equal(one.values, two.values)
        assert torch.equal(one.counted, two.counted)


@pytest.mark.parametrize("combination", [WeightedAdvantages(), BatchNormalised()])
def test_scales_of_rewards_do_not_matter_where_each_is_normalised(combination):
    group = {"a": scores(0, 1, 5), "b": scores(3, 1, 2)}
    scaled = {"a": group["a"], "b": Scores(1000 * group["b"].values - 7, group["b"].valid)}
    weights = {"a": 1.0, "b": 1.0}
    (one,), (two,) = (combined(combination, [found], weights) for found in (group, scaled))
    torch.testing.assert_close(one.values, two.values, atol=1e-4, rtol=1e-4)


def test_groups_of_one_iteration_share_a_scale_and_their_order_does_not_matter():
    made = [Advantages(torch.tensor(values), torch.ones(2, dtype=torch.bool)) for values in ([0.1, -0.1], [0.5, -0.5])]
    forth = BatchNormalised().of_iteration(made)
    back = BatchNormalised().of_iteration(made[::-1])
    assert torch.equal(forth[0].values, back[1].values)
    torch.testing.assert_close(forth[1].values, 5 * forth[0].values)
    torch.testing.assert_close(torch.cat([group.values for group in forth]).std(), torch.tensor(1.0))
