"""A learning rate that sets itself: the rule, and runs that have it."""

import json
import math
from dataclasses import replace

import pytest
import torch
from toy import Red, ToyModel

from mixgrpo_core import (
    RunFolder,
    SlidingWindow,
    TrainConfig,
    WindowPlanner,
    load_lora,
    train,
)
from mixgrpo_core.objectives import AWM
from mixgrpo_core.objectives.own_step import (
    FALL,
    HIGHEST,
    LOWEST,
    MOST,
    TARGET,
    Signal,
    own_count,
    steered,
    target,
)
from mixgrpo_core.settings.config import from_dict, to_dict
from mixgrpo_core.training.loop import adamw

PROMPTS = ["a", "bbbb", "ccccccc", "dd"]
AUTO = TrainConfig(
    iterations=6,
    steps=8,
    images_per_prompt=12,
    prompts_per_iteration=4,
    planner=WindowPlanner(window=SlidingWindow(size=3, stride=1, hold=6)),
    learning_rate="auto",
    updates="auto",
    eval_every=0,
)


def test_the_rule_in_numbers():
    assert target(0, 96) == target(0, 200) == TARGET == 0.05
    assert target(0, 24) == pytest.approx(0.025), "a quarter of the images, twice the noise"
    assert target(FALL, 96) == pytest.approx(0.05 / math.sqrt(2))
    clear = Signal().after(0.3, 100)
    assert clear.certain == pytest.approx(0.2), "a standard error is a tenth"
    assert target(90, 4, signal=clear) == MOST == 0.1
    assert target(90, 96, 1 / 2, Signal().after(0.2, 100)) == pytest.approx(0.6 * 0.1 / 2)
    assert target(0, 96, signal=Signal().after(0.1, 100)) == TARGET, "a start that is sure of nothing"
    assert steered(1e-3, 0.04, 0.01) == pytest.approx(5e-4)  # the root of a quarter
    assert steered(1e-3, 0.01, 0.0144) == pytest.approx(1.2e-3)
    assert steered(1e-3, 0.0, 0.01) == 2e-3  # no more than twice at once
    assert steered(1e-3, 1.0, 1e-9) == 5e-4
    assert steered(HIGHEST, 0.0, 1.0) == HIGHEST
    assert steered(LOWEST, 1.0, 0.0) == LOWEST


def test_the_number_of_updates_leaves_enough_members_for_each():
    assert [own_count(8, 12, whole=False), own_count(4, 12, whole=False), own_count(1, 4, whole=False)] == [16, 8, 1]
    assert own_count(4, 12, whole=True) == 4
    assert replace(AUTO, updates=5).update_count == 5


def moves(config, reward=Red()):  # noqa: B008
    torch.manual_seed(0)
    return [report.update.figures for report in train(ToyModel(), PROMPTS, {"red": reward}, config)]


def test_what_was_seen_is_forgotten_by_and_by_and_its_error_falls():
    one, many = Signal().after(0.2, 100), Signal()
    for _ in range(50):
        many = many.after(0.2, 100)
    assert many.cells == pytest.approx(800, rel=0.01), "eight iterations' worth"
    assert many.certain == pytest.approx(0.2 - 1 / math.sqrt(1500), rel=0.01)  # 100 / (1 - (7 / 8) ** 2) cells, 8 / 15
    assert one.certain < many.certain
    for _ in range(50):
        many = many.after(-0.2, 100)
    assert many.certain == 0.0


def test_the_policy_moves_as_far_as_it_should():
    found = moves(replace(AUTO, iterations=12))
    late = found[4:]  # the first rate is a guess
    shares = [figures["move"] / figures["move_target"] for figures in late]
    assert 0.6 < sum(shares) / len(shares) < 1.6


class Chance(Red):
    """Scores that no image has anything to do with."""

    def __call__(self, batch):
        generator = torch.Generator().manual_seed(batch.context.seed % 2**31)
        return replace(super().__call__(batch), values=torch.rand(len(batch.images), generator=generator))


def test_where_there_is_nothing_to_learn_it_moves_ever_less():
    found = moves(replace(AUTO, iterations=10), reward=Chance())
    assert found[9]["move_target"] == pytest.approx(TARGET / math.sqrt(2) / math.sqrt(1 + 9 / FALL)), "48 images"
    assert sum(figures["signal"] for figures in found) / 10 == pytest.approx(0, abs=3 / math.sqrt(10 * 126))


def test_where_updates_are_right_it_gets_as_far_as_a_good_rate_by_hand():
    config = replace(AUTO, iterations=24)
    torch.manual_seed(0)

    def begins(parameters):
        made = adamw(parameters, config=config)
        made.param_groups[0]["lr"] = 1e-5  # ten times too low
        return made

    found = [
        (report.rewards["red"].mean, report.update.figures)
        for report in train(ToyModel(), PROMPTS, {"red": Red()}, config, make_optimizer=begins)
    ]
    assert found[-1][0] > 0.95, "0.59 by the usual 1e-3, 0.72 if the signal were not heard"
    assert found[-1][1]["signal"] > 0.2


def test_a_fixed_rate_tells_its_move_and_keeps_its_rate():
    slow, fast = (moves(replace(AUTO, learning_rate=rate, iterations=3))[-1] for rate in (1e-3, 1e-2))
    assert "rate" not in slow and "move_target" not in slow
    assert fast["move"] > 4 * slow["move"] > 0


def test_a_run_that_was_resumed_goes_on_with_its_rate_bit_for_bit(tmp_path):
    def run(name, iterations):
        config = replace(AUTO, iterations=iterations, checkpoint_every=1)
        made = RunFolder.open_or_create(tmp_path / name, config)
        torch.manual_seed(0)
        for _ in train(ToyModel(), PROMPTS, {"red": Red()}, config, run=made):
            pass
        return load_lora(made.lora("last")).state, [report["update"].get("rate") for report in made.metrics()]

    whole, rates = run("whole", 5)
    run("parts", 2)
    again, rates_again = run("parts", 5)
    assert rates == rates_again and len({*rates}) > 3
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_auto_is_a_word_of_files_and_nothing_else_is():
    assert from_dict(json.loads(json.dumps(to_dict(AUTO)))) == AUTO
    assert from_dict({"learning_rate": "auto"}).first_rate == 1e-4
    for name, words in {"learning_rate": "a number or 'auto'", "updates": "a whole number or 'auto'"}.items():
        with pytest.raises(ValueError, match=f"{name} expects {words}, found 'fast'"):
            from_dict({name: "fast"})
        with pytest.raises(ValueError, match=f"{name} must be .*, or auto"):
            replace(AUTO, **{name: "fast"})


@pytest.mark.parametrize(
    "config",
    [
        replace(AUTO, updates=1),
        replace(AUTO, prompts_per_iteration=1, images_per_prompt=4, updates=4),
        replace(AUTO, objective=AWM(), updates=4),
    ],
    ids=["one update", "an image an update", "forward draws"],
)
def test_updates_that_cannot_tell_each_others_move_are_looked_back_at(config):
    found = moves(replace(config, iterations=12))
    assert all("signal" not in figures for figures in found)
    shares = [figures["move"] / figures["move_target"] for figures in found[6:]]
    assert 0.4 < sum(shares) / len(shares) < 1.6
    (fixed,) = moves(replace(config, iterations=1, learning_rate=0.3, updates=1))
    assert fixed["move"] > 0.1 and "rate" not in fixed, "what a warning needs"


def test_a_look_back_at_one_update_is_resumed_bit_for_bit(tmp_path):
    def run(name, iterations):
        config = replace(AUTO, objective=AWM(), updates=1, iterations=iterations, checkpoint_every=1)
        made = RunFolder.open_or_create(tmp_path / name, config)
        torch.manual_seed(0)
        for _ in train(ToyModel(), PROMPTS, {"red": Red()}, config, run=made):
            pass
        return load_lora(made.lora("last")).state

    whole, _, again = run("whole", 4), run("parts", 2), run("parts", 4)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
