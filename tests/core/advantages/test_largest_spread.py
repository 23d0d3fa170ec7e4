"""Geo-Align's normaliser: one divisor for the iteration, the largest spread of a group."""

import pytest
import torch
from groups import credit_of, plain_scores, scored_group

from mixgrpo_core.advantages import CentredRewards, LargestSpread, widest
from mixgrpo_core.advantages.group import group_advantages

GROUPS = [[1.0, 2, 4, 5], [0.2, 0.3, 0.1, 0.2], [7.0, 7, 7, 7]]


def found_of(groups):
    return credit_of(LargestSpread(), [scored_group(plain_scores(*rewards)) for rewards in groups])


def test_the_widest_group_has_its_own_advantages_and_the_others_less():
    spread = torch.tensor(GROUPS[0]).double().std()
    for found, rewards in zip(found_of(GROUPS), GROUPS, strict=True):
        rewards = torch.tensor(rewards).double()
        torch.testing.assert_close(found.values.double(), (rewards - rewards.mean()) / spread, atol=1e-6, rtol=1e-6)
        assert found.figures["largest_spread"] == pytest.approx(float(spread), rel=1e-6)
    torch.testing.assert_close(found_of(GROUPS)[0].values, group_advantages(torch.tensor(GROUPS[0])))


def test_one_group_is_normalised_by_itself_and_scale_and_order_do_not_matter():
    torch.testing.assert_close(found_of(GROUPS[1:2])[0].values, group_advantages(torch.tensor(GROUPS[1])))
    moved = found_of([[1000 * r - 3 for r in rewards] for rewards in GROUPS[::-1]])[::-1]
    for one, two in zip(found_of(GROUPS), moved, strict=True):
        torch.testing.assert_close(one.values, two.values, atol=1e-5, rtol=1e-4)


def test_where_nothing_has_spread_nothing_is_blown_up():
    assert not any(found.values.any() for found in found_of([GROUPS[2], GROUPS[2]]))
    assert widest([torch.ones(1)]) == 0


def test_several_rewards_are_mixed_in_their_own_units_first():
    scores = {**plain_scores(0, 1), "other": plain_scores(10, 0)["reward"]}
    group = scored_group(scores, {"reward": 9.0, "other": 1.0})
    (found,), (centred,) = credit_of(LargestSpread(), [group]), credit_of(CentredRewards(), [group])
    torch.testing.assert_close(found.values, group_advantages(centred.values), atol=1e-6, rtol=0)
