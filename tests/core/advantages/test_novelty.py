"""The stand-in for perceptual entropy: who is far from the nearest sibling."""

import pytest
import torch
from groups import credit_of, plain_scores, scored_group
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mixgrpo_core.advantages import NoveltyBonus, WeightedAdvantages, novelty_bonus
from mixgrpo_core.advantages.group import group_advantages

LINE = torch.tensor([[0.0], [1.0], [1.1], [5.0]], dtype=torch.float64)
ALL = torch.ones(4, dtype=torch.bool)


def test_by_hand_the_logarithm_of_the_nearest_distance():
    expected = group_advantages(torch.tensor([1.0, 0.1, 0.1, 3.9], dtype=torch.float64).log())
    torch.testing.assert_close(novelty_bonus(LINE, ALL), expected)
    assert novelty_bonus(LINE, ALL).argmax() == 3


def test_duplicates_get_the_least_and_no_infinity():
    found = novelty_bonus(torch.tensor([[0.0], [0.0], [1.0], [3.0]]), ALL)
    assert found.isfinite().all()
    assert found[0] == found[1] == found.min()
    assert not novelty_bonus(torch.ones(4, 3), ALL).any()
    assert not novelty_bonus(LINE[:2], ALL[:2]).any(), "two are each other's nearest"


def test_who_is_not_counted_is_nobody_s_neighbour():
    counted = torch.tensor([True, True, False, True])
    found = novelty_bonus(LINE, counted)
    assert found[2] == 0
    torch.testing.assert_close(found[counted], novelty_bonus(LINE[counted], ALL[:3]))


points = st.lists(st.tuples(*[st.integers(-5, 5)] * 2), min_size=3, max_size=7)


@given(points, st.floats(0.01, 1000), st.randoms(use_true_random=False))
@examples(max_examples=60, deadline=None)
def test_scale_and_order_do_not_matter(rows, scale, shuffler):
    features, counted = torch.tensor(rows, dtype=torch.float64), torch.ones(len(rows), dtype=torch.bool)
    found = novelty_bonus(features, counted)
    torch.testing.assert_close(novelty_bonus(scale * features, counted), found, atol=1e-6, rtol=1e-6)
    order = shuffler.sample(range(len(rows)), len(rows))
    torch.testing.assert_close(novelty_bonus(features[order], counted), found[order], atol=1e-6, rtol=1e-6)


def test_it_is_added_to_the_advantages():
    images = torch.rand(4, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    images[3] = images[2]
    group = scored_group(plain_scores(0, 1, 2, 3))
    (plain,) = credit_of(WeightedAdvantages(), [group])
    (found,) = credit_of((WeightedAdvantages(), NoveltyBonus(weight=0.5)), [group], images)
    bonus = novelty_bonus(images.movedim(-1, 1).flatten(1), ALL).float()
    torch.testing.assert_close(found.values, plain.values + 0.5 * bonus, atol=1e-4, rtol=1e-4)
    assert found.figures["nearest_distance"] > 0


def test_settings_that_make_no_sense():
    with pytest.raises(ValueError, match="weight must be a finite number above 0"):
        NoveltyBonus(weight=0)
