"""Prompt sources: the shuffle, and the curriculum that learns which prompts are easy."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from memories import SMALL, assert_same_story, played

from mixgrpo_core import train
from mixgrpo_core.demo import train_prompts
from mixgrpo_core.models import load_demo
from mixgrpo_core.rewards import ShapeReward
from mixgrpo_core.rewards.port import Scores
from mixgrpo_core.runs.reports import GroupScored
from mixgrpo_core.sampling.planners import GroupResult, deterministic_plan
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.settings.prompt_sources import PocaCurriculum, PromptDraw, Shuffled, difficulty_classes, ecdf
from mixgrpo_core.support.facts import RunFacts

NAN = float("nan")
PLAN = deterministic_plan(flow_sigmas(4))


def draw(iteration=0, count=10, pool=100, seed=0):
    return PromptDraw(seed=seed, iteration=iteration, count=count, pool=pool)


def heard(prompt, *values, **others):
    scores = {"ocr": values, **others}
    return GroupResult(
        prompt=prompt, plan=PLAN, scores={name: Scores.of(torch.tensor(v)) for name, v in scores.items()}
    )


def remembered(means):
    return {"means": {str(prompt): mean for prompt, mean in enumerate(means) if mean is not None}}


def counted(source, memory, *, iterations=1000, at=0, classes, **asked):
    """Share of the draws that fell into each of ``classes`` (sets of prompts)."""
    found = Counter()
    for seed in range(iterations):
        found.update(source.choose(draw(at, seed=seed, **asked), memory))
    total = sum(found.values())
    return [sum(found[prompt] for prompt in members) / total for members in classes]


LADDER = [place / 100 for place in range(100)]
"""Prompt number n is easier than n of a hundred."""
HARD, MEDIUM, EASY = range(2, 30), range(30, 69), range(69, 98)


# --- the arithmetic ------------------------------------------------------------------------------------------------


def test_the_noted_distribution():
    found = ecdf(torch.tensor([0.1, 0.5, 0.5, 0.9, 0.3], dtype=torch.float64))
    assert found.tolist() == pytest.approx([0.2, 0.8, 0.8, 1, 0.4], abs=1e-15)
    assert found.dtype == torch.float64


def test_classes_by_thresholds_without_the_extremes():
    easy, medium, hard = difficulty_classes(torch.tensor(LADDER), 0.7, 0.3, 0.02)
    assert [mask.nonzero()[:, 0].tolist() for mask in (hard, medium, easy)] == [list(c) for c in (HARD, MEDIUM, EASY)]
    easy, medium, hard = difficulty_classes(torch.tensor([0.1, 0.5, 0.5, 0.9, 0.3]), 0.7, 0.3, 0.0)
    assert easy.tolist() == [False, True, True, True, False]
    assert medium.tolist() == [False, False, False, False, True]
    assert hard.tolist() == [True, False, False, False, False]


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30), st.floats(0, 0.49))
@examples(max_examples=200, deadline=None)
def test_classes_do_not_overlap_and_somebody_is_left(means, drop):
    masks = torch.stack(difficulty_classes(torch.tensor(means).double(), 0.7, 0.3, drop))
    assert (masks.sum(0) <= 1).all()
    assert masks.any()
    shares = [sum(other <= mean for other in means) / len(means) for mean in means]
    assert ecdf(torch.tensor(means)).tolist() == pytest.approx(shares)
    if drop == 0:
        assert (masks.sum(0) == 1).all()


# --- what is drawn -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("iteration", "shares"),
    [
        (0, (0.6, 0.3, 0.1)),
        (99, (0.6, 0.3, 0.1)),
        (100, (0.4, 0.5, 0.1)),
        (200, (0.1, 0.6, 0.3)),
        (900, (0.1, 0.6, 0.3)),
    ],
)
@pytest.mark.parametrize("count", [1, 4, 10])
def test_each_stage_draws_its_shares(iteration, shares, count):
    found = counted(PocaCurriculum(), remembered(LADDER), at=iteration, count=count, classes=(EASY, MEDIUM, HARD))
    assert found == pytest.approx(shares, abs=0.05 if count == 1 else 0.02)
    assert sum(found) == pytest.approx(1, abs=1e-9), "the extremes are never drawn"


def test_within_a_class_all_prompts_come_alike_and_none_twice():
    found = Counter()
    for seed in range(1000):
        chosen = PocaCurriculum().choose(draw(seed=seed), remembered(LADDER))
        assert len(set(chosen)) == 10
        found.update(chosen)
    rates = [found[prompt] / 1000 * len(EASY) / 6 for prompt in EASY]
    assert min(rates) > 0.7
    assert max(rates) < 1.3


def test_at_first_all_is_exploration_and_the_unseen_have_their_share_of_the_pool():
    nothing = counted(PocaCurriculum(), {}, classes=[range(50), range(50, 100)])
    assert nothing == pytest.approx([0.5, 0.5], abs=0.03)
    half = [mean if place % 2 else None for place, mean in enumerate(LADDER)]
    unseen = range(0, 100, 2)
    easy = [place for place in range(1, 100, 2) if 69 < place < 99]
    found = counted(PocaCurriculum(), remembered(half), classes=[unseen, easy])
    assert found == pytest.approx([0.5, 0.3], abs=0.03)


def test_no_prompt_is_drawn_for_being_easy_before_there_is_something_to_compare_it_with():
    memory = {"means": {"3": 0.9, "4": 0.1}}
    found = counted(PocaCurriculum(), memory, classes=[[3], [4]])
    assert found == pytest.approx([0.01, 0.01], abs=0.008)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_where_all_prompts_are_alike_the_draw_is_even(level):
    found = counted(PocaCurriculum(), remembered([level] * 100), at=250, classes=[range(50), range(50, 100)])
    assert found == pytest.approx([0.5, 0.5], abs=0.03)


def test_the_share_of_an_empty_class_goes_to_the_others():
    two = remembered([0.0] * 20 + [1.0] * 80)  # F is .2 and 1: hard and easy
    found = counted(PocaCurriculum(drop=0), two, classes=[range(20, 100), range(20)])
    assert found == pytest.approx([6 / 7, 1 / 7], abs=0.02)
    only_medium = PocaCurriculum(drop=0, shares=((0, 1, 0),) * 3)
    assert len(set(only_medium.choose(draw(), two))) == 10


def test_places_that_a_class_is_too_small_for_go_to_the_others():
    chosen = PocaCurriculum(drop=0).choose(draw(count=8, pool=10), remembered(LADDER[::10]))
    assert len(set(chosen)) == 8  # .6 of 8 are 5, of four easy ones


def test_a_pool_smaller_than_the_iteration_comes_whole_before_any_comes_again():
    for memory in ({}, remembered([0.1, 0.5, 0.9])):
        found = Counter(PocaCurriculum().choose(draw(count=8, pool=3), memory))
        assert sorted(found.values()) == [2, 3, 3]
        assert PocaCurriculum().choose(draw(count=2, pool=1), memory) == [0, 0]


means_of = st.lists(st.none() | st.floats(-10, 10), min_size=1, max_size=20)


@given(means_of, st.integers(1, 30), st.integers(0, 400), st.integers(0, 9), st.floats(0, 0.49))
@examples(max_examples=200, deadline=None)
def test_a_draw_is_whole_and_a_function_of_seed_iteration_and_memory_alone(means, count, iteration, seed, drop):
    source, asked = PocaCurriculum(drop=drop), draw(iteration, count, len(means), seed)
    memory = remembered(means)
    chosen = source.choose(asked, memory)
    assert len(chosen) == count
    assert set(chosen) <= set(source.visited(asked, 1000)) == set(range(len(means)))
    torch.manual_seed(count)  # what is global is not asked
    shuffled = {"means": dict(reversed(memory["means"].items()))}
    assert PocaCurriculum(drop=drop).choose(asked, json.loads(json.dumps(shuffled))) == chosen


def test_seed_iteration_and_memory_each_make_another_draw():
    source = PocaCurriculum()
    chosen = [
        source.choose(draw(), remembered(LADDER)),
        source.choose(draw(seed=1), remembered(LADDER)),
        source.choose(draw(iteration=1), remembered(LADDER)),
        source.choose(draw(), remembered(LADDER[::-1])),
    ]
    assert len(set(map(tuple, chosen))) == 4


# --- what is learned -----------------------------------------------------------------------------------------------


def test_running_means_of_what_was_scored():
    source = PocaCurriculum(rate=0.25)
    memory = source.learn({}, [heard(7, 1.0, 2.0, NAN), heard(2, 0.5)])
    assert memory == {"means": {"7": 1.5, "2": 0.5}}
    later = source.learn(memory, [heard(7, 3.5)])
    assert later == {"means": {"7": 2.0, "2": 0.5}}
    assert memory == {"means": {"7": 1.5, "2": 0.5}}, "snapshots hold it, too"


def test_nobody_s_score_is_no_memory_and_never_nan():
    source = PocaCurriculum()
    assert source.learn({}, [heard(1, NAN, NAN)]) == {}
    memory = source.learn(remembered([0.5]), [heard(0, NAN), heard(1, NAN)])
    assert memory == remembered([0.5])
    json.dumps(memory, allow_nan=False)


def facts(*rewards):
    return RunFacts(
        latent_shape=(3, 2, 2), trained_steps=(2,), rewards=rewards, masks={}, images=4, leaves=(1,), shared_noise=True
    )


def test_one_reward_tells_the_difficulty_or_all_of_them_do():
    group = heard(0, 1.0, 3.0, clip=[10.0, 20.0], lame=[NAN, NAN])
    assert PocaCurriculum(reward="clip").learn({}, [group]) == {"means": {"0": 15.0}}
    assert PocaCurriculum().learn({}, [group]) == {"means": {"0": 8.5}}
    assert PocaCurriculum(reward="lame").learn({}, [group]) == {}
    with pytest.raises(ValueError, match=r"'hps', but those that are trained on are \['clip', 'lame', 'ocr'\]"):
        PocaCurriculum(reward="hps").check(facts("ocr", "lame", "clip"))
    PocaCurriculum(reward="clip").check(facts("clip"))


@given(st.permutations([heard(0, 1.0), heard(0, 4.0, 5.0), heard(1, -2.0), heard(2, 0.1), heard(0, 0.3)]))
@examples(max_examples=30, deadline=None)
def test_the_order_of_groups_does_not_matter(groups):
    source = PocaCurriculum()
    first = source.learn({}, [heard(0, 0.7)])
    expected = {"0": 0.5 * 0.7 + 0.5 * (1 + 4.5 + 0.3) / 3, "1": -2.0, "2": 0.1}
    assert source.learn(first, groups)["means"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"until": (200, 100)}, "until holds"),
        ({"until": (100,)}, "until holds"),
        ({"shares": ((0.6, 0.3, 0.1),) * 2}, "shares holds"),
        ({"shares": ((0.6, 0.3, 0.2),) * 3}, "sum to 1"),
        ({"shares": ((1.2, -0.2, 0.0),) * 3}, "shares holds"),
        ({"easy": 0.3, "hard": 0.3}, "hard < easy"),
        ({"drop": 0.5}, "drop must"),
        ({"rate": 0.0}, "rate must"),
    ],
)
def test_settings_that_make_no_curriculum(settings, words):
    with pytest.raises(ValueError, match=words):
        PocaCurriculum(**settings)


# --- in training ---------------------------------------------------------------------------------------------------

PROMPTS = ["r" * (1 + 2 * length) for length in range(10)]
"""A prompt of the toy is its length, and a longer one redder: number n is easier than n others."""
CURRICULUM = PocaCurriculum(until=(10, 20), drop=0.0)
TOY = replace(SMALL, iterations=30, prompts_per_iteration=4, learning_rate=1e-4, prompt_source=CURRICULUM)


def test_a_run_learns_which_prompts_are_easy_and_goes_from_these_to_the_hard_ones(tmp_path):
    story = played(TOY, PROMPTS, tmp_path)
    means = story.memories[-1]["prompt_source"]["means"]
    assert [means[str(place)] for place in range(10)] == sorted(means.values())
    mean = [sum(map(sum, story.prompts[first : first + 6])) / 24 for first in (4, 24)]
    assert mean[0] > mean[1] + 1
    assert set(story.memories[-1]) == {"prompt_source"}


@pytest.mark.parametrize("resumed_at", [[1], [9, 12]])
def test_a_resumed_run_is_the_undisturbed_one_bit_for_bit(tmp_path, resumed_at):
    config = replace(TOY, iterations=14)
    whole = played(config, PROMPTS, tmp_path)
    assert_same_story(played(config, PROMPTS, tmp_path, resumed_at=resumed_at, cut_at=[3]), whole)


def test_it_trains_the_demo_model():
    source = PocaCurriculum(reward="shape", until=(1, 2))
    config = replace(
        SMALL, iterations=3, steps=8, prompts_per_iteration=4, learning_rate=5e-4, eval_every=0, prompt_source=source
    )
    prompts = train_prompts()[:6]
    groups = []
    reports = train(
        load_demo(rank=2),
        prompts,
        {"shape": ShapeReward()},
        config,
        observer=lambda event: groups.append(event) if isinstance(event, GroupScored) else None,
    )
    assert [report.update.steps for report in reports] == [1, 1, 1]
    memory, plan = {}, deterministic_plan(flow_sigmas(4))
    for iteration in range(3):
        of_this = [group for group in groups if group.iteration == iteration]
        chosen = [prompts.index(group.prompt) for group in of_this]
        asked = PromptDraw(seed=config.seed, iteration=iteration, count=4, pool=6)
        assert chosen == source.choose(asked, memory), "what it is handed is what it learned"
        told = [GroupResult(prompt=p, plan=plan, scores=g.scores) for p, g in zip(chosen, of_this, strict=True)]
        memory = source.learn(memory, told)


def test_the_shuffle_brings_every_prompt_before_any_comes_again():
    chosen = [place for iteration in range(5) for place in Shuffled().choose(draw(iteration, count=3, pool=5))]
    assert all(sorted(chosen[first : first + 5]) == list(range(5)) for first in (0, 5, 10))
    assert Shuffled().visited(draw(4, count=3, pool=5), 5) == sorted(set(chosen[12:]))
    assert Shuffled().learn({"kept": 1}, []) == {"kept": 1}
