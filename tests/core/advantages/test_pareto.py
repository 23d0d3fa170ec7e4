"""Only the members on the two fronts of a group teach, and count for those that do not."""

import pytest
import torch
from groups import credit_of, plain_scores, scored_group
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mixgrpo_core.advantages import CentredRewards, ParetoCredit, WeightedAdvantages, pareto_fronts
from mixgrpo_core.rewards.port import Scores

NOTED = torch.tensor([[0.9, 0.2], [0.7, 0.7], [0.2, 0.9], [0.5, 0.5], [0.1, 0.1], [0.9, 0.2]])


WEIGHTED = WeightedAdvantages()


def scores_of(rewards):
    return {f"reward {k}": Scores.of(column) for k, column in enumerate(torch.as_tensor(rewards).T)}


def before_and_after(scores, maker=WEIGHTED):
    group = scored_group(scores)
    return *credit_of(maker, [group]), *credit_of((maker, ParetoCredit()), [group])


def test_the_noted_fronts():
    best, worst = pareto_fronts(NOTED)
    assert best.nonzero()[:, 0].tolist() == [0, 1, 2, 5], "equal ones do not dominate each other"
    assert worst.nonzero()[:, 0].tolist() == [4]


@pytest.mark.parametrize("maker", [WeightedAdvantages(), CentredRewards()])
def test_who_is_on_no_front_teaches_nothing_and_the_others_make_up_for_it(maker):
    before, after = before_and_after(scores_of(NOTED), maker)
    assert after.values[3] == 0
    kept = torch.tensor([0, 1, 2, 4, 5])
    torch.testing.assert_close(after.values[kept], before.values[kept] * 6 / 5)
    torch.testing.assert_close(after.values.mean(), before.values[kept].mean())
    assert after.counted.all(), "who is on no front is a part of the group, of advantage 0"
    assert after.parts.keys() == before.parts.keys()


def test_one_reward_leaves_the_best_and_the_worst():
    _, after = before_and_after(plain_scores(3, 1, 2, 5, 4))
    assert after.values.nonzero()[:, 0].tolist() == [1, 3]
    _, after = before_and_after(plain_scores(5, 1, 2, 5))
    assert after.values.nonzero()[:, 0].tolist() == [0, 1, 3]


def test_who_was_not_judged_by_all_is_left_out():
    """Were the failure a 0 or the best, the fronts would be others."""
    nan = float("nan")
    scores = scores_of([[5.0, nan], [1, 2], [2, 1], [0, 0], [1.5, 0.5]])
    before, after = before_and_after(scores)
    assert after.counted.tolist() == [False, True, True, True, True]
    assert after.values[[0, 4]].tolist() == [0, 0]  # the last lies between (2, 1) and (0, 0)
    torch.testing.assert_close(after.values[1:4], before.values[1:4] * 4 / 3)


def test_a_reward_that_failed_on_the_whole_group_is_not_asked():
    whole = scores_of(NOTED)
    lame = {**whole, "broken": Scores.of(torch.full((6,), float("nan")))}
    assert torch.equal(before_and_after(lame)[1].values != 0, before_and_after(whole)[1].values != 0)
    nothing = {"broken": Scores.of(torch.full((6,), float("nan")))}
    _, after = before_and_after(nothing)
    assert not after.values.any()
    assert not after.counted.any()


tables = st.integers(1, 3).flatmap(lambda k: st.lists(st.tuples(*[st.integers(0, 4)] * k), min_size=2, max_size=8))


def dominates(one, other):
    return all(a >= b for a, b in zip(one, other, strict=True)) and one != other


@given(tables)
@examples(max_examples=200, deadline=None)
def test_fronts_by_definition(rows):
    best, worst = pareto_fronts(torch.tensor(rows, dtype=torch.float64))
    assert best.tolist() == [not any(dominates(other, row) for other in rows) for row in rows]
    assert worst.tolist() == [not any(dominates(row, other) for other in rows) for row in rows]
    assert best.any()
    assert worst.any()


@given(tables, st.randoms(use_true_random=False))
@examples(max_examples=100, deadline=None)
def test_the_order_of_members_and_monotone_scales_do_not_matter(rows, shuffler):
    order = shuffler.sample(range(len(rows)), len(rows))
    _, found = before_and_after(scores_of(torch.tensor(rows).float()))
    _, moved = before_and_after(scores_of(torch.tensor(rows).float()[order]))
    torch.testing.assert_close(moved.values, found.values[order], atol=1e-5, rtol=1e-4)
    bent = pareto_fronts(torch.tensor(rows).double().exp())
    assert all(torch.equal(a, b) for a, b in zip(bent, pareto_fronts(torch.tensor(rows).double()), strict=True))
