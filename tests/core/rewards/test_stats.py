"""Figures of rewards: by hand, against numpy, and in a run whose reward fails."""

import json
import math
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import Dark, Red, ToyModel

from mixgrpo_core import Scores, SlidingWindow, TrainConfig, WindowPlanner, train
from mixgrpo_core.rewards.port import RewardInfo
from mixgrpo_core.rewards.stats import RewardStats, all_stats, within_groups
from mixgrpo_core.training.rolling_out import spread_floor


def scores(*values, failed=(), note=""):
    valid = torch.tensor([place not in failed for place in range(len(values))])
    return Scores(torch.tensor(values).float().masked_fill(~valid, float("nan")), valid, note)


def test_figures_by_hand():
    found = RewardStats.of(
        [scores(1, 3), scores(5, 5, 0, failed=[2], note="away"), scores(9, 0, failed=[1], note="late")]
    )
    assert (found.valid, found.count, found.failed) == (5, 7, 2)
    assert found.mean == pytest.approx(23 / 5)
    assert found.spread == pytest.approx(np.std([1, 3, 5, 5, 9], ddof=1))
    assert found.within_group == pytest.approx(2**0.5 / 2)  # sqrt 2 and 0; one value has no spread
    assert found.tied == 0.5
    assert found.reason == "away"


def test_rounding_noise_is_a_tie():
    noise = [0.3, 0.3 + 1e-8, 0.3 - 1e-8]
    assert RewardStats.of([scores(*noise), scores(0.3, 0.3001)]).tied == 0.5


def test_without_a_score_there_are_no_figures_and_no_error():
    found = RewardStats.of([scores(0, 0, failed=[0, 1], note="server away")])
    assert math.isnan(found.mean)
    assert (found.valid, found.tied, found.within_group, found.reason) == (0, None, None, "server away")
    json.dumps(found.to_json())


def test_correlation_is_within_groups():
    """Over all images the two rise together; within each prompt they exclude each other."""
    one = [scores(0, 1, 2), scores(100, 101, 102)]
    two = [scores(2, 1, 0), scores(202, 201, 200)]
    assert within_groups(one, two) == pytest.approx(-1.0)
    assert np.corrcoef([0, 1, 2, 100, 101, 102], [2, 1, 0, 202, 201, 200])[0, 1] > 0.99
    assert within_groups(one, one) == pytest.approx(1.0)


def test_correlation_is_numpy_s_over_the_images_that_both_scored():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, 8, generator=generator)
    valid_a, valid_b = torch.rand(2, 3, 8, generator=generator) > 0.3
    one = [Scores(values, valid) for values, valid in zip(a, valid_a, strict=True)]
    two = [Scores(values, valid) for values, valid in zip(b, valid_b, strict=True)]
    pairs = []
    for group in range(3):
        both = (valid_a[group] & valid_b[group]).numpy()
        x, y = a[group].numpy()[both].astype(float), b[group].numpy()[both].astype(float)
        pairs.append((x - x.mean(), y - y.mean()))
    x, y = (np.concatenate(side) for side in zip(*pairs, strict=True))
    assert within_groups(one, two) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)


def test_rewards_without_spread_have_no_correlation():
    found = all_stats({"a": [scores(1, 1, 1)], "b": [scores(1, 2, 3)], "c": [scores(3, 2, 1)]})
    assert found["a"].correlation == {}
    assert found["b"].correlation == {"c": -1.0}


def test_what_has_nothing_to_say_is_not_written():
    plain = RewardStats.of([scores(1, 2)]).to_json()
    assert plain.keys() == {"mean", "spread", "valid", "count", "within_group", "tied"}


# In a run

CONFIG = TrainConfig(
    iterations=25,
    steps=10,
    shift=1.0,
    images_per_prompt=8,
    prompts_per_iteration=3,
    planner=WindowPlanner(window=SlidingWindow(size=4, stride=1, hold=6)),
    learning_rate=2e-2,
    updates=2,
    eval_every=25,
    eval_images=16,
)
PROMPTS = ["a", "bbbb", "ccccccc"]


class Unreliable(Red):
    """Fails on a share of the images of a training, whatever they show."""

    def __init__(self, share):
        self.share, self.generator = share, torch.Generator().manual_seed(0)

    def __call__(self, batch):
        found = super().__call__(batch)
        if batch.context.iteration is None:
            return found
        failed = torch.rand(len(found.values), generator=self.generator) < self.share
        return Scores(found.values.masked_fill(failed, -100.0), ~failed, "no answer")


def rise(rewards, config=CONFIG):
    reports = list(train(ToyModel(), PROMPTS, rewards, config, held_out=["zz"]))
    before, after = reports[0].evaluations[0].rewards, reports[-1].evaluations[-1].rewards
    return {name: after[name].mean - before[name].mean for name in after}, reports


def test_a_reward_that_fails_on_30_percent_of_the_samples_still_trains():
    whole, _ = rise({"red": Unreliable(0.0)})
    partly, reports = rise({"red": Unreliable(0.3)})
    assert partly["red"] > 0.8 * whole["red"] > 0.15
    failed = [report.rewards["red"].failed / report.rewards["red"].count for report in reports]
    assert 0.25 < np.mean(failed) < 0.35
    line = reports[0].to_json()["rewards"]["red"]
    assert line["reason"] == "no answer"
    assert line["mean"] > 0, "a failure is no 0 and no -100"


def test_correlation_and_ties_are_written_for_every_iteration():
    with closing(train(ToyModel(), PROMPTS, {"red": Red(), "dark": Dark()}, CONFIG)) as reports:
        line = next(reports).to_json()["rewards"]
    assert line["red"]["correlation"] == {"dark": line["dark"]["correlation"]["red"]}
    assert -1 < line["red"]["correlation"]["dark"] < 1
    assert line["red"]["tied"] == 0


class Rough(Red):
    about = RewardInfo(spread_floor=0.5)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 0.5),
        ({"spread_floor": 0.1}, 0.5),
        ({"spread_floor": 0.7}, 0.7),
        ({"spread_floor": 0.7, "spread_floors": {"rough": 0.2}}, 0.2),
        ({"spread_floors": {"other": 0.2}}, 0.5),
    ],
)
def test_which_spread_floor_holds(settings, expected):
    assert spread_floor("rough", Rough(), replace(CONFIG, **settings)) == expected


def test_the_floor_that_a_reward_declares_makes_small_differences_small_advantages():
    def largest(reward, config=CONFIG):
        heard = []
        observer = lambda event: heard.append(event) if hasattr(event, "advantage") else None  # noqa: E731
        with closing(train(ToyModel(), PROMPTS, {"r": reward}, config, observer=observer)) as reports:
            next(reports)
        return max(float(event.advantage.abs().max()) for event in heard)

    assert largest(Red()) > 1
    assert largest(Rough()) < 0.6  # redness differs by some hundredths
    assert largest(Rough(), replace(CONFIG, spread_floors={"r": 0.0})) > 1


def test_floors_of_unknown_rewards_are_refused():
    with pytest.raises(ValueError, match="spread_floors names .*'rod'"):
        train(ToyModel(), PROMPTS, {"red": Red()}, replace(CONFIG, spread_floors={"rod": 0.1}))
    with pytest.raises(ValueError, match="spread floor of reward 'red' must be"):
        replace(CONFIG, spread_floors={"red": -0.1})
