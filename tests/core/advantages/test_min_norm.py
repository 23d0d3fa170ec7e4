"""OTCA's mixing: the least that rewards ask for together, of all least ones the nearest to their weights."""

from itertools import combinations

import pytest
import torch
from groups import credit_of, plain_scores, scored_group
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mixgrpo_core.advantages import MinNorm, WeightedAdvantages, min_norm_shares
from mixgrpo_core.rewards.port import Scores

EVEN = torch.full((2,), 0.5)


def shares(*parts, prior=None):
    table = torch.tensor([parts], dtype=torch.float64)
    return min_norm_shares(table, torch.full((len(parts),), 1 / len(parts)) if prior is None else prior)[0].tolist()


def test_the_noted_numbers():
    assert shares(2, 0.5) == [0, 1]
    assert shares(-2, -0.5) == [0, 1]
    assert shares(1, -3) == pytest.approx([0.75, 0.25], abs=1e-15)
    assert shares(1.5, 1.5) == [0.5, 0.5]
    assert shares(1, 1, 5) == [0.5, 0.5, 0]
    assert shares(0, 4) == [1, 0], "a reward without an opinion is the least"
    assert shares(3, 3, 9, prior=torch.tensor([0.2, 0.4, 0.4])) == pytest.approx([0.4, 0.6, 0])


def least(parts, prior):
    """The same by looking at every set of rewards that may share: a second way to the minimum."""
    best = None
    for size in range(1, len(parts) + 1):
        for support in combinations(range(len(parts)), size):
            found = _on(support, parts, prior)
            if found is not None:
                key = (round(abs(float(found @ parts)), 9), float((found - prior).square().sum()))
                best = min(best or (key, found), (key, found), key=lambda pair: pair[0])
    return best[1]


def _on(support, parts, prior):
    """The nearest point to the prior on the simplex of a support, with the sum 0 where its signs allow that."""
    a, p, size = parts[list(support)], prior[list(support)], len(support)
    rows = [torch.ones(size, dtype=torch.float64)]
    if a.min() < 0 < a.max():
        rows.append(a)
    elif float(a.max() - a.min()) > 0:
        return None  # less than all of them does better
    conditions = torch.stack(rows)
    wanted = torch.zeros(len(rows), dtype=torch.float64)
    wanted[0] = 1
    step = torch.linalg.lstsq(conditions @ conditions.T, (wanted - conditions @ p)[:, None]).solution[:, 0]
    found = torch.zeros(len(parts), dtype=torch.float64)
    found[list(support)] = p + conditions.T @ step
    return found if bool((found >= -1e-12).all()) else None


numbers = st.integers(-6, 6).map(lambda n: n / 2)


@given(st.lists(numbers, min_size=2, max_size=5), st.data())
@examples(max_examples=150, deadline=None)
def test_they_are_the_nearest_least_ones(parts, data):
    weights = torch.tensor([data.draw(st.integers(1, 5)) for _ in parts], dtype=torch.float64)
    prior, table = weights / weights.sum(), torch.tensor(parts, dtype=torch.float64)
    found = min_norm_shares(table[None], prior)[0]
    assert float(found.sum()) == pytest.approx(1, abs=1e-12)
    assert bool((found >= 0).all())
    torch.testing.assert_close(found, least(table, prior), atol=1e-8, rtol=0)


@given(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=1, max_size=6), st.floats(0.01, 100))
@examples(max_examples=50, deadline=None)
def test_neither_scale_nor_order_matters(rows, scale):
    table, prior = torch.tensor(rows, dtype=torch.float64), torch.full((3,), 1 / 3)
    found = min_norm_shares(table, prior)
    torch.testing.assert_close(min_norm_shares(-scale * table, prior), found, atol=1e-9, rtol=0)
    torch.testing.assert_close(min_norm_shares(table[:, [2, 0, 1]], prior), found[:, [2, 0, 1]], atol=1e-9, rtol=0)


def test_a_reward_that_said_nothing_has_no_share():
    table = torch.tensor([[1.0, 0.0, 3.0], [1.0, 2.0, -1.0]])
    judged = torch.tensor([[True, False, True], [False, False, False]])
    assert min_norm_shares(table, torch.full((3,), 1 / 3), judged).tolist() == [[1, 0, 0], [0, 0, 0]]


def two(a, b):
    return {"a": Scores.of(torch.tensor(a)), "b": Scores.of(torch.tensor(b))}


def test_all_exploration_is_the_weighted_mean():
    group = scored_group(two([0.0, 1, 5, 2], [3.0, 1, 2, 9]), {"a": 1.0, "b": 3.0})
    (found,), (plain,) = credit_of(MinNorm(explore=1), [group]), credit_of(WeightedAdvantages(), [group])
    torch.testing.assert_close(found.values, plain.values)
    assert found.parts.keys() == plain.parts.keys()


def test_it_trains_only_where_rewards_agree_but_for_the_exploration():
    group = scored_group(two([0.0, 3, 1, 2], [0.0, 2, 3, 1]))
    (found,) = credit_of(MinNorm(explore=0), [group])
    a, b = found.parts["a"], found.parts["b"]
    weakest = torch.where(a * b > 0, a.sign() * torch.minimum(a.abs(), b.abs()), 0)
    torch.testing.assert_close(found.values, weakest, atol=1e-7, rtol=1e-6)
    assert found.figures["rewards_opposed"] == 0.5
    (explored,) = credit_of(MinNorm(), [group])
    torch.testing.assert_close(explored.values, 0.9 * weakest + 0.1 * (a + b) / 2, atol=1e-7, rtol=1e-6)


def test_a_reward_that_is_flat_or_failed_has_no_say():
    """Were the flat reward asked, nothing would be least; were the failure a 0, the first image had no advantage."""
    nan = float("nan")
    alone = credit_of(WeightedAdvantages(), [scored_group(plain_scores(0, 1, 5))])[0].values
    (found,) = credit_of(MinNorm(explore=0), [scored_group(two([0.0, 1, 5], [2.0, 2, 2]))])
    torch.testing.assert_close(found.values, alone)
    (found,) = credit_of(MinNorm(explore=0), [scored_group(two([0.0, 1, 5], [nan, 1, 2]))])
    assert found.values[0] == found.parts["a"][0] != 0
    assert found.counted.all()


def test_settings_that_make_no_sense():
    with pytest.raises(ValueError, match="explore must be within 0 and 1, found 1.5"):
        MinNorm(explore=1.5)
