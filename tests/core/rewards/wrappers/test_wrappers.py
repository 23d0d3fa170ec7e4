"""Transforms and gates: known answers, independent statistics, what is masked stays masked, what is kept is resumed."""

import math
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy.stats import rankdata
from toy import Dark, Red, ToyModel

from mixgrpo_core import (
    RewardBatch,
    RunFolder,
    Scores,
    SlidingWindow,
    TrainConfig,
    WeightedRewards,
    WindowPlanner,
    train,
)
from mixgrpo_core.rewards.pixels.measures import Brightness, More, PixelReward, Saturation
from mixgrpo_core.rewards.port import Context, RewardInfo, StatelessReward, about
from mixgrpo_core.rewards.scoring import score
from mixgrpo_core.rewards.wrappers.gates import Gated, Penalised
from mixgrpo_core.rewards.wrappers.transforms import Affine, Clip, Rank, RunningZ, Sigmoid, Transformed
from mixgrpo_core.support.spelling import parse, spell

TRAINING = Context(iteration=3)
NAN = float("nan")


class Told(StatelessReward):
    """Gives the values it is told, NaN for a failure."""

    def __init__(self, *values, note="", about=None):
        self.told, self.note, self.about = values, note, about or RewardInfo()

    def __call__(self, batch):
        values = torch.tensor(self.told)
        return Scores(values, values.isfinite(), self.note)


def batch(count, context=TRAINING):
    return RewardBatch(images=torch.rand(count, 4, 4, 3), prompts=("a",) * count, context=context)


def scored(transform, *values, context=TRAINING):
    return Transformed(Told(*values), transform)(batch(len(values), context))


@pytest.mark.parametrize(
    ("transform", "values", "expected"),
    [
        (Affine(scale=-2.0, shift=1.0), [0.0, 1.0, 3.0], [1.0, -1.0, -5.0]),
        (Clip(low=0.5), [0.0, 1.0, 3.0], [0.5, 1.0, 3.0]),
        (Clip(low=-1.0, high=2.0), [-5.0, 1.0, 3.0], [-1.0, 1.0, 2.0]),
        (Sigmoid(centre=1.0, scale=2.0), [1.0, 3.0, -1.0], [0.5, 0.7310586, 0.2689414]),
        (Rank(), [10.0, -3.0, 10.0, 99.0, 0.0], [0.625, 0.0, 0.625, 1.0, 0.25]),
        (Rank(), [4.0], [0.5]),
        (RunningZ(), [1.0, 3.0], [-1.0, 1.0]),
        (RunningZ(), [7.0, 7.0], [0.0, 0.0]),
    ],
)
def test_known_answers(transform, values, expected):
    torch.testing.assert_close(scored(transform, *values).values, torch.tensor(expected))


@given(st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=9))
@examples(max_examples=50, deadline=None)
def test_ranks_are_scipy_s(values):
    expected = (rankdata(values) - 1) / (len(values) - 1)
    np.testing.assert_allclose(scored(Rank(), *values).values.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("transform", [Affine(2.0, 1.0), Clip(high=1.0), Sigmoid(), Rank(), RunningZ()])
def test_what_failed_stays_masked_and_is_not_looked_at(transform):
    found = scored(transform, 0.0, NAN, 2.0, 5.0)
    alone = scored(transform, 0.0, 2.0, 5.0)
    assert found.valid.tolist() == [True, False, True, True]
    assert torch.equal(found.values[found.valid], alone.values)
    assert not scored(transform, NAN, NAN).valid.any()


@given(st.lists(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=5), min_size=1, max_size=8))
@examples(max_examples=50, deadline=None)
def test_running_statistics_are_those_of_all_groups_weighted_by_age(groups):
    transform = RunningZ(decay=0.8)
    state = transform.init()
    for group in groups:
        _, state = transform.apply(torch.tensor(group), state)
    weights = np.array([0.8 ** (len(groups) - 1 - age) for age in range(len(groups))])
    shares = np.concatenate([[w / len(g)] * len(g) for w, g in zip(weights / weights.sum(), groups, strict=True)])
    values = np.concatenate(groups)
    mean = (shares * values).sum()
    assert state["mean"] == pytest.approx(mean, abs=1e-6)
    assert state["variance"] == pytest.approx((shares * (values - mean) ** 2).sum(), abs=1e-4, rel=1e-6)


def test_held_out_figures_stay_comparable_between_iterations():
    held_out = Context()
    for transform in (RunningZ(), Rank()):
        assert scored(transform, 3.0, 9.0, context=held_out).values.tolist() == [3.0, 9.0]
    assert scored(Affine(scale=-1.0), 3.0, 9.0, context=held_out).values.tolist() == [-3.0, -9.0]
    reward = Transformed(Told(3.0, 9.0), RunningZ())
    before = reward.state_dict()
    reward(batch(2, held_out))
    assert reward.state_dict() == before, "held-out images teach it nothing"


def test_what_is_declared_is_in_the_new_units():
    own = RewardInfo(expected=(0.0, 4.0), spread_floor=0.1, licence="MIT", memory=7, held_out=False)

    def declared(transform, of=own):
        return about(Transformed(Told(about=of), transform))

    assert declared(Affine(-2.0, 1.0)) == replace(own, expected=(-7.0, 1.0), spread_floor=0.2)
    assert declared(Clip(high=3.0)) == replace(own, expected=(0.0, 3.0))
    assert declared(Clip(1.0, 2.0), RewardInfo()).expected == (1.0, 2.0)
    assert declared(Sigmoid(2.0)).expected == pytest.approx((0.1192029, 0.8807971))
    assert declared(Sigmoid(2.0)).spread_floor == pytest.approx(0.025)
    assert declared(Rank()) == replace(own, expected=(0.0, 1.0), spread_floor=0.0, groupwise=True)
    assert declared(RunningZ()).expected is None


def test_a_transformed_reward_has_the_gradient_of_both():
    reward = Transformed(PixelReward(Brightness()), Affine(-3.0, 1.0))
    assert about(reward).differentiable
    assert not about(Transformed(PixelReward(Brightness()), Rank())).differentiable
    images = torch.rand(2, 3, 3, 3, dtype=torch.float32, requires_grad=True)
    reward.values(RewardBatch(images=images, prompts=("a", "a"))).sum().backward()
    green = images.grad[..., 1]
    torch.testing.assert_close(green, torch.full_like(green, -3 * 0.7152 / 9))
    with pytest.raises(TypeError, match="gradients"):
        Transformed(PixelReward(Brightness()), Rank()).values(batch(2))


CLASSES = {
    cls.__name__: cls
    for cls in (
        Transformed,
        Gated,
        Penalised,
        Affine,
        Clip,
        Sigmoid,
        Rank,
        RunningZ,
        PixelReward,
        Brightness,
        Saturation,
        More,
    )
}


@pytest.mark.parametrize(
    "text",
    [
        "Transformed(PixelReward(Brightness()), Affine(scale=-1.0))",
        "Transformed(Transformed(PixelReward(Brightness()), Clip(low=0.1)), RunningZ(decay=0.9))",
        "Gated(PixelReward(Brightness()), by=PixelReward(Saturation()), most=0.5)",
        "Penalised(PixelReward(Brightness()), by=Transformed(PixelReward(Saturation()), Sigmoid()), least=0.1)",
    ],
)
def test_they_are_spelled_as_calls(text):
    made = parse(text, CLASSES)
    assert parse(spell(made), CLASSES) == made
    assert repr(made) == repr(parse(text, CLASSES))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Affine(scale=0.0), "not 0"),
        (lambda: Affine(shift=NAN), "finite"),
        (lambda: Clip(2.0, 1.0), "low below high"),
        (lambda: Sigmoid(scale=0.0), "above 0"),
        (lambda: RunningZ(decay=1.0), "below 1"),
        (lambda: Gated(Red(), by=Red()), "least or most"),
        (lambda: Gated(Red(), by=Red(), least=2.0, most=1.0), "at most"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# Gates


def test_out_of_bounds_does_not_count_and_is_no_failure():
    reward = Gated(Told(1.0, 2.0, 3.0, 4.0), by=Told(0.1, 0.5, 0.9, 0.4), least=0.4, most=0.5)
    scores, failures = score({"r": reward}, batch(4))
    assert scores["r"].valid.tolist() == [False, True, False, True]
    assert scores["r"].values[1:2].tolist() == [2.0]
    assert scores["r"].note == "2 of 4 images are out of the gate's bounds"
    assert failures == []


def test_failures_are_told_from_images_out_of_bounds():
    reward = Gated(Told(1.0, NAN, 3.0, note="the server is away"), by=Told(0.1, 0.9, 0.9), least=0.5)
    scores, (failure,) = score({"r": reward}, batch(3))
    assert scores["r"].valid.tolist() == [False, False, True]
    assert "the server is away" in failure.reason
    assert "1 of 3 images are out" in failure.reason


def test_an_image_that_the_gate_could_not_score_is_masked():
    gate = Told(0.9, NAN, 0.1, note="no face found")
    for reward in (Gated(Told(1.0, 2.0, 3.0), by=gate, least=0.5), Penalised(Told(1.0, 2.0, 3.0), by=gate, least=0.5)):
        scores, (failure,) = score({"r": reward}, batch(3))
        assert not scores["r"].valid[1]
        assert "no face found" in failure.reason


def test_a_penalty_costs_and_masks_nothing():
    reward = Penalised(Told(1.0, 2.0, 3.0), by=Told(0.1, 0.5, 0.9), most=0.5, penalty=10.0)
    assert score({"r": reward}, batch(3))[0]["r"].values.tolist() == [1.0, 2.0, -7.0]
    declared = Penalised(Told(about=RewardInfo(expected=(0.0, 1.0))), by=Told(), most=0.5, penalty=10.0).about
    assert declared.expected == (-10.0, 1.0)


def test_a_gated_reward_declares_both():
    own, gate = RewardInfo(licence="MIT", memory=3), RewardInfo(licence="Apache-2.0", memory=4, held_out=False)
    found = Gated(Told(about=own), by=Told(about=gate), most=1.0).about
    assert (found.licence, found.memory, found.held_out) == ("MIT; Apache-2.0", 7, False)


# In a run

CONFIG = TrainConfig(
    iterations=4,
    steps=6,
    images_per_prompt=4,
    prompts_per_iteration=2,
    planner=WindowPlanner(window=SlidingWindow(size=2, stride=1, hold=2)),
    credit=(WeightedRewards(),),  # the one whose advantages depend on the running statistics
    learning_rate=0.05,
    eval_every=0,
    checkpoint_every=1,
)


def rewards():
    gated = Gated(Red(), by=Dark(), least=0.05)
    return {"z": Transformed(Red(), RunningZ(decay=0.5)), "dark": Dark(), "nested": Transformed(gated, RunningZ())}


def run_to_end(path, made, observer=lambda event: None, config=CONFIG):
    run = RunFolder.open_or_create(path, config)
    model = ToyModel()
    with closing(train(model, ["a", "bbb"], made, config, run=run, observer=observer)) as reports:
        for _ in reports:
            pass
    return {name: tensor.clone() for name, tensor in model.lora_state().items()}


class Interrupted(Exception):
    pass


def test_an_image_with_nan_is_no_part_of_ranks_and_running_statistics():
    """As if it had not been there, and not as if it were black."""
    images = torch.tensor([0.2, math.nan, 0.4, 0.6])[:, None, None, None].expand(4, 8, 8, 3)
    without = images[[0, 2, 3]]
    for transform in (Rank(), RunningZ()):
        rewards = [Transformed(PixelReward(Brightness(), More()), transform) for _ in range(2)]
        found, expected = (
            score({"one": reward}, RewardBatch(images=seen, prompts=("",) * len(seen), context=Context(iteration=0)))
            for reward, seen in zip(rewards, (images, without), strict=True)
        )
        assert found[0]["one"].valid.tolist() == [True, False, True, True]
        assert torch.equal(found[0]["one"].values[[0, 2, 3]], expected[0]["one"].values)
        assert rewards[0].state_dict() == rewards[1].state_dict()
        assert [(failure.masked, failure.reason) for failure in found[1]] == [(1, "the image holds NaN or infinity")]


def test_statistics_are_resumed_and_an_interrupted_iteration_counts_once(tmp_path):
    undisturbed = rewards()
    expected = run_to_end(tmp_path / "one", undisturbed)
    events = []

    def interrupt(event):
        events.append(event)
        if type(event).__name__ == "GroupScored" and event.iteration == 2:
            raise Interrupted

    disturbed = rewards()
    with pytest.raises(Interrupted):
        run_to_end(tmp_path / "two", disturbed, interrupt)
    assert disturbed["z"].state_dict()["transform"]["groups"] == 4, "two iterations of two groups, not the fifth group"
    resumed = rewards()
    found = run_to_end(tmp_path / "two", resumed)
    assert resumed["z"].state_dict() == undisturbed["z"].state_dict()
    assert resumed["z"].state_dict()["transform"]["groups"] == 8
    assert all(torch.equal(found[name], expected[name]) for name in expected)
