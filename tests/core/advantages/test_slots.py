"""ParetoSlider's advantages: slots with preferences of their own, normalised apart."""

import pytest
import torch
from groups import credit_of, scored_group

from mixgrpo_core.advantages import PreferenceSlots, drawn_preference, slot_advantages
from mixgrpo_core.rewards.port import Scores
from mixgrpo_core.support.facts import RunFacts

REWARDS = torch.tensor([[0.0, 9], [4, 1], [1, 2], [5, 3], [2, 2], [9, 8]], dtype=torch.float64)
VALID = torch.ones(6, 2, dtype=torch.bool)


def facts(images, rewards=("a", "b")):
    return RunFacts(
        latent_shape=(1,), trained_steps=(2,), rewards=rewards, masks={}, images=images, leaves=(1,), shared_noise=True
    )


def test_by_hand_with_the_biased_standard_deviation():
    found = slot_advantages(REWARDS, VALID, torch.tensor([[0.25, 0.75], [1.0, 0.0]]))
    for slot, (a, b) in enumerate([(0.25, 0.75), (1, 0)]):
        own = REWARDS[slot::2]
        parts = (own - own.mean(0)) / (own.var(0, correction=0).sqrt() + 1e-4)
        torch.testing.assert_close(found[slot::2], a * parts[:, 0] + b * parts[:, 1], atol=1e-12, rtol=0)


def test_a_preference_for_one_is_that_reward_alone_and_advantages_are_clamped_before_they_are_mixed():
    rewards = torch.zeros(40, 2, dtype=torch.float64)
    rewards[0, 0], rewards[1:, 1] = 1.0, torch.arange(39) / 39
    valid = torch.ones(40, 2, dtype=torch.bool)
    one = slot_advantages(rewards, valid, torch.tensor([[1.0, 0.0]]))
    assert float(one[0]) == 5
    other = slot_advantages(rewards, valid, torch.tensor([[0.0, 1.0]]))
    both = slot_advantages(rewards, valid, torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(both, (one + other) / 2)


def test_slots_never_mix():
    shares = torch.tensor([[0.3, 0.7], [0.6, 0.4]])
    changed = REWARDS.clone()
    changed[1::2] = 100 * changed[1::2].flip(0)
    one, two = slot_advantages(REWARDS, VALID, shares), slot_advantages(changed, VALID, shares)
    assert torch.equal(one[0::2], two[0::2])
    assert not torch.allclose(one[1::2], two[1::2])


def test_a_score_that_failed_is_as_good_as_absent_and_a_flat_slot_teaches_nothing():
    valid = VALID.clone()
    valid[2, 0] = False
    poisoned = torch.where(valid, REWARDS, torch.nan)
    found = slot_advantages(poisoned, valid, torch.tensor([[1.0, 0.0]]))
    kept = [0, 1, 3, 4, 5]
    torch.testing.assert_close(found[kept], slot_advantages(REWARDS[kept], VALID[kept], torch.tensor([[1.0, 0.0]])))
    assert found[2] == 0
    assert not slot_advantages(torch.full((4, 2), 0.1), VALID[:4], torch.tensor([[0.5, 0.5]])).any()


def test_preferences_have_the_published_shares():
    two = torch.stack([drawn_preference(2, seed) for seed in range(2000)])
    torch.testing.assert_close(two.sum(1), torch.ones(2000, dtype=torch.float64))
    assert float(two[:, 0].mean()) == pytest.approx(0.5, abs=0.03)
    assert float(two[:, 0].var()) == pytest.approx(1 / 12, abs=0.01), "uniform"
    used = torch.stack([drawn_preference(4, seed) for seed in range(2000)]).count_nonzero(1)
    for count, share in ((1, 0.5), (2, 0.35), (4, 0.15)):
        assert float((used == count).double().mean()) == pytest.approx(share, abs=0.04)


def test_a_group_draws_its_own_and_draws_it_again_alike():
    slots = PreferenceSlots()
    first = slots.preferences(2, 0, 0)
    assert torch.equal(first, slots.preferences(2, 0, 0))
    for other in (slots.preferences(2, 1, 0), slots.preferences(2, 0, 1), PreferenceSlots(seed=1).preferences(2, 0, 0)):
        assert not torch.equal(first, other)
    assert len({*map(tuple, first.tolist())}) == 3


def test_the_stage_is_the_function_and_tells_its_preferences():
    scores = {"a": Scores.of(REWARDS[:, 0]), "b": Scores.of(REWARDS[:, 1])}
    slots = PreferenceSlots(slots=2)
    (found,) = credit_of(slots, [scored_group(scores, place=3)])
    shares = slots.preferences(2, 0, 3)
    torch.testing.assert_close(found.values.double(), slot_advantages(REWARDS, VALID, shares), atol=1e-6, rtol=1e-6)
    assert found.figures["preference_a"] == pytest.approx(float(shares[:, 0].mean()))


@pytest.mark.parametrize("images", [10, 3, 4])
def test_slots_that_do_not_fit_the_group(images):
    with pytest.raises(ValueError, match=f"{images} images per prompt do not make 3 equal slots of 2 or more"):
        PreferenceSlots().check(facts(images))
    PreferenceSlots().check(facts(6))


def test_one_reward_has_no_preference():
    with pytest.raises(ValueError, match="weighs 2 or more rewards against each other, and this run trains 1"):
        PreferenceSlots().check(facts(6, ("a",)))
