import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mixgrpo_core.advantages.group import group_advantages, has_spread, mix_advantages


@dataclass
class Scores:
    values: Tensor
    valid: Tensor


def scores(*values, failed=()):
    values = torch.tensor(values, dtype=torch.float64)
    valid = torch.tensor([i not in failed for i in range(len(values))])
    return Scores(torch.where(valid, values, math.nan), valid)


rewards = st.lists(st.integers(-1000, 1000).map(lambda n: n / 100), min_size=2, max_size=24).filter(
    lambda r: max(r) - min(r) > 0.05
)


def test_golden_group():
    # mean 4, unbiased variance (9 + 1 + 1 + 9 + 0) / 4 = 5
    values = torch.tensor([1.0, 3.0, 5.0, 7.0, 4.0])
    expected = torch.tensor([-3.0, -1.0, 1.0, 3.0, 0.0]) / math.sqrt(5)
    torch.testing.assert_close(group_advantages(values), expected, atol=2e-7, rtol=0)
    torch.testing.assert_close(group_advantages(torch.tensor([0.0, 1.0])), torch.tensor([-1.0, 1.0]) * math.sqrt(0.5))


def test_golden_floor():
    values = torch.tensor([1.0, 3.0, 5.0, 7.0, 4.0])
    torch.testing.assert_close(group_advantages(values, floor=10.0), (values - 4) / 10)
    assert torch.equal(group_advantages(values, floor=2.0), group_advantages(values)), "the spread is above the floor"


@given(rewards, st.floats(0.01, 100), st.floats(-100, 100))
def test_invariant_to_scale_and_offset(values, scale, offset):
    values = torch.tensor(values, dtype=torch.float64)
    advantages = group_advantages(values)
    torch.testing.assert_close(group_advantages(values * scale + offset), advantages, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(group_advantages(-values), -advantages, atol=1e-9, rtol=0)


@given(rewards, st.randoms())
def test_sum_zero_unit_spread_and_permutation(values, shuffler):
    values = torch.tensor(values, dtype=torch.float64)
    advantages = group_advantages(values)
    assert float(advantages.sum()) == pytest.approx(0, abs=1e-9)
    assert float(advantages.std()) == pytest.approx(1, abs=1e-5)
    order = list(range(len(values)))
    shuffler.shuffle(order)
    torch.testing.assert_close(group_advantages(values[order]), advantages[order], atol=1e-12, rtol=0)


@given(rewards, st.data())
def test_a_failed_sample_is_as_good_as_absent(values, data):
    values = torch.tensor(values, dtype=torch.float64)
    failed = data.draw(st.sets(st.integers(0, len(values) - 1)))
    valid = torch.tensor([i not in failed for i in range(len(values))])
    poisoned = torch.where(valid, values, math.nan)
    advantages = group_advantages(poisoned, valid)
    assert (advantages[~valid] == 0).all()
    assert torch.equal(advantages[valid], group_advantages(values[valid]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_flat_groups_teach_nothing(dtype):
    for value in (0.0, 1.0, 0.1, -37.3, 1e-4, 3e4):
        assert not has_spread(group_advantages(torch.full((7,), value, dtype=dtype)))


def test_rounding_noise_is_flat_and_real_spread_is_not():
    noise = torch.tensor([0.3, 0.3 * (1 + 1.2e-7), 0.3, 0.3])
    assert noise.unique().numel() == 2 and not has_spread(group_advantages(noise))
    assert has_spread(group_advantages(torch.tensor([0.3, 0.3001, 0.3, 0.3])))
    assert has_spread(group_advantages(torch.tensor([1e6, 1e6 + 1e-3], dtype=torch.float64)))


def test_groups_of_one_or_none():
    assert torch.equal(group_advantages(torch.tensor([5.0])), torch.zeros(1))
    assert torch.equal(group_advantages(torch.tensor([5.0, math.nan]), torch.tensor([True, False])), torch.zeros(2))
    assert torch.equal(group_advantages(torch.tensor([math.nan] * 2), torch.zeros(2, dtype=torch.bool)), torch.zeros(2))


def test_computed_in_float64():
    values = torch.tensor([10_000.0, 10_000.5, 10_001.0])
    assert torch.equal(group_advantages(values), group_advantages(values.double()).float())
    assert group_advantages(values.half()[:2]).dtype == torch.float32


@pytest.mark.parametrize(
    "arguments",
    [
        (torch.ones(2, 3),),
        (torch.ones(3), torch.ones(2, dtype=torch.bool)),
        (torch.ones(3), torch.ones(3)),
        (torch.ones(3), None, -1.0),
        (torch.ones(3), None, math.nan),
        (torch.tensor([1.0, math.nan]),),
        (torch.tensor([1.0, math.inf]),),
    ],
)
def test_groups_that_make_no_sense_are_refused(arguments):
    with pytest.raises(ValueError, match="ound"):
        group_advantages(*arguments)


def test_golden_mix():
    mixed = mix_advantages({"a": scores(0, 1), "b": scores(10, -10)}, {"a": 3.0, "b": 1.0})
    torch.testing.assert_close(mixed, torch.tensor([-0.5, 0.5]).double() * math.sqrt(0.5))
    # b fails on the last sample: it ranks the first two only, and the last has a's opinion alone
    mixed = mix_advantages({"a": scores(0, 1, 2), "b": scores(5, 7, 0, failed=[2])}, {"a": 1.0, "b": 1.0})
    half = math.sqrt(0.5) / 2
    torch.testing.assert_close(mixed, torch.tensor([-0.5 - half, half, 0.5]).double())


@given(rewards, st.floats(0.1, 50), st.floats(0.1, 50), st.floats(0.5, 20))
def test_weights_count_by_proportion_and_scales_do_not(values, a, b, scale):
    first = {"a": scores(*values), "b": scores(*(v**2 for v in values))}
    second = {"a": scores(*(scale * v for v in values)), "b": scores(*(v**2 - 7 for v in values))}
    mixed = mix_advantages(first, {"a": a, "b": b})
    torch.testing.assert_close(mix_advantages(second, {"a": 10 * a, "b": 10 * b}), mixed, atol=1e-3, rtol=1e-3)


def test_a_weight_of_zero_switches_a_reward_off():
    mixed = mix_advantages({"a": scores(0, 1, 5), "b": scores(9, 9, 1)}, {"a": 0.2, "b": 0.0})
    assert torch.equal(mixed, group_advantages(torch.tensor([0.0, 1, 5]).double()))


def test_floors_are_per_reward():
    mixed = mix_advantages({"a": scores(0, 0.2), "b": scores(0, 100)}, {"a": 1, "b": 1}, floors={"a": 1.0})
    expected = (torch.tensor([-0.1, 0.1]) + torch.tensor([-1, 1]) * math.sqrt(0.5)).double() / 2
    torch.testing.assert_close(mixed, expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    "weights, complaint",
    [
        ({"a": 1.0}, r"\['a', 'b'\]"),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, r"'c'"),
        ({"a": 0.0, "b": 0.0}, "above 0"),
        ({"a": 1.0, "b": -1.0}, "negate the reward"),
        ({"a": 1.0, "b": math.nan}, "finite"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights, complaint):
    with pytest.raises(ValueError, match=complaint):
        mix_advantages({"a": scores(0, 1), "b": scores(0, 1)}, weights)


def test_mixes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="no scores"):
        mix_advantages({}, {})
    with pytest.raises(ValueError, match="group sizes"):
        mix_advantages({"a": scores(0, 1), "b": scores(0, 1, 2)}, {"a": 1, "b": 1})
    with pytest.raises(ValueError, match="unknown rewards"):
        mix_advantages({"a": scores(0, 1)}, {"a": 1}, floors={"b": 0.1})


def test_has_spread():
    assert has_spread(torch.tensor([0.0, 1e-9])) and not has_spread(torch.zeros(3))
