"""The guard of the training itself: a run that destroys the model is stopped, one that trains is let alone."""

import json
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from toy import Red, ToyModel

from mixgrpo_core import Collapse, FrozenWindow, RunFolder, TrainConfig, WindowPlanner, train
from mixgrpo_core.demo import demo_config, train_prompts
from mixgrpo_core.evaluation.guards import Guard, IterationView
from mixgrpo_core.evaluation.guards.watch import Watch
from mixgrpo_core.models import load_demo
from mixgrpo_core.models.lora import export_lora
from mixgrpo_core.rewards import ShapeReward
from mixgrpo_core.rewards.stats import RewardStats

PICTURES = torch.rand(4, 16, 16, 3, generator=torch.Generator().manual_seed(0))


def heard(number, means, spread=0.3, images=PICTURES, guard=None, **figures):
    guard = guard or Collapse()
    stats = RewardStats(mean=sum(means) / len(means), spread=spread, valid=12, count=12)
    return IterationView(
        iteration=number,
        rewards={"shape": stats},
        weights={"shape": 1.0},
        groups=[{"shape": mean} for mean in means],
        figures=figures,
        learning_rate=0.3,
        measured=guard.look(images),
    )


def story(guard, iterations):
    """The levels of all iterations, through a checkpoint each time."""
    memory, levels = {}, []
    for one in iterations:
        alarm, memory = guard.hear(one, memory)
        memory = json.loads(json.dumps(memory, allow_nan=False))
        levels.append(None if alarm is None else alarm.level)
    return levels


def around(mean, sd, count, seed):
    return (mean + sd * torch.randn(count, generator=torch.Generator().manual_seed(seed))).tolist()


def test_a_reward_below_its_start_in_three_iterations_stops_the_run_and_a_recovery_does_not():
    means = [0.68, 0.1, 0.1, 0.1]
    iterations = [heard(number, around(mean, 0.1, 8, number)) for number, mean in enumerate(means)]
    assert story(Collapse(), iterations) == [None, "warn", "warn", "stop"]
    assert story(Collapse(warn=None), iterations) == [None, None, None, "stop"]
    assert story(Collapse(stop=None), iterations)[-1] == "warn"
    recovers = [heard(number, around(mean, 0.1, 8, number)) for number, mean in enumerate([0.68, 0.1, 0.1, 0.7, 0.1])]
    assert story(Collapse(), recovers) == [None, "warn", "warn", None, "warn"]


def test_with_images_that_lost_their_content_it_stops_sooner_and_says_the_learning_rate_first():
    black, white, noise = PICTURES * 0.1, 0.9 + PICTURES * 0.1, 0.5 + 5 * (PICTURES - 0.5)
    for images, words in ((black, "becoming empty"), (white, "becoming empty"), (noise, "turning into noise")):
        iterations = [heard(0, around(0.68, 0.1, 8, 0))]
        iterations += [heard(number, around(0.1, 0.1, 8, number), images=images) for number in (1, 2)]
        assert story(Collapse(), iterations)[1:] == ["warn", "stop"]
        _, memory = Collapse().hear(iterations[0], {})
        alarm, _ = Collapse().hear(iterations[1], memory)
        assert words in alarm.sentence and "below its start (shape 0.0" in alarm.sentence.replace("0.1", "0.0")
        assert alarm.sentence.split(": ")[1].startswith("the learning rate (0.3) is the likeliest cause")


def test_signs_without_a_fall_only_warn():
    good = around(0.68, 0.1, 8, 0)
    start = [heard(number, good, grad_norm=0.01, clip_low=0.1, clip_high=0.1) for number in range(6)]
    nan = PICTURES.clone()
    nan[0, 0, 0] = torch.nan
    signs = [
        heard(6, good, images=PICTURES * 0.1),  # a reward may ask for it
        heard(6, good, images=nan),
        heard(6, good, grad_norm=0.4),
        heard(6, good, clip_low=0.3, clip_high=0.2),
    ]
    for sign in signs:
        assert (
            story(Collapse(), [*start, *[replace(sign, iteration=6 + more) for more in range(5)]])
            == [None] * 6 + ["warn"] * 5
        )


@pytest.mark.parametrize("prompts", [1, 3, 8])
def test_prompts_of_very_different_reward_are_no_collapse(prompts):
    """60 runs of 60 iterations in which nothing changes but the prompts, and whose start may be a lucky one."""
    for seed in range(60):
        values = torch.randn(60, prompts, generator=torch.Generator().manual_seed(seed)).mul(0.3).add(20)
        iterations = [heard(number, row, spread=0.3) for number, row in enumerate(values.tolist())]
        assert "stop" not in story(Collapse(), iterations)


@pytest.mark.parametrize("prompts", [1, 3])
def test_few_prompts_per_iteration_are_judged_over_several(prompts):
    good = [heard(number, around(0.68, 0.1, prompts, number)) for number in range(12)]
    bad = [heard(number, around(0.1, 0.1, prompts, number)) for number in range(12, 30)]
    levels = story(Collapse(), [*good, *bad])
    assert set(levels[:12]) == {None} and "stop" in levels


def test_two_rewards_are_weighed_together():
    def both(number, shape, other):
        one = heard(number, [shape] * 8)
        rewards = {name: RewardStats(mean=0.0, spread=0.3, valid=12, count=12) for name in ("shape", "other")}
        groups = [{"shape": shape + 0.01 * place, "other": other} for place in range(8)]
        return replace(one, rewards=rewards, weights={"shape": 1.0, "other": 3.0}, groups=groups)

    traded = [both(0, 0.7, 0.2), *(both(number, 0.1, 0.6) for number in range(1, 5))]
    assert set(story(Collapse(), traded)) == {None}
    lost = [both(0, 0.7, 0.7), *(both(number, 0.7, 0.1) for number in range(1, 5))]
    assert story(Collapse(), lost)[-1] == "stop"


def test_settings_that_cannot_be_are_told():
    for wrong in ({"fall": 0.0}, {"content": 1.0}, {"clipped": -0.1}, {"gradient": 0.0}, {"stop": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be above 0"):
            Collapse(**wrong)


def test_a_guard_that_fails_over_an_iteration_costs_its_word_and_not_the_run():
    class Breaks(Guard):
        def look(self, images):
            raise RuntimeError("no eyes")

    class Deaf(Guard):
        def hear(self, heard, memory):
            raise RuntimeError("no ears")

    watch, notes = Watch((Breaks(), Deaf(), Collapse()), {"shape": 1.0}), {}
    watch.look(PICTURES)
    words = [str(alarm) for alarm in watch.hear(heard(0, [0.5] * 8), notes)]
    assert [word.partition(":")[0] for word in words] == ["Breaks", "Deaf"]
    assert "cannot judge this iteration (RuntimeError: no eyes)" in words[0]
    assert notes["guards"]["Collapse"]["content"]


# In a run


def test_the_demo_is_stopped_at_a_learning_rate_that_destroys_it(tmp_path):
    config = replace(
        demo_config(iterations=40),
        learning_rate=0.3,
        images_per_prompt=4,
        steps=8,
        planner=WindowPlanner(window=FrozenWindow(size=2)),
        reward_weights={},
        updates=4,
    )
    run = RunFolder.create(tmp_path / "run", config)
    reports = list(train(load_demo(rank=8), train_prompts(), {"shape": ShapeReward()}, config, run=run))
    assert len(reports) <= 5
    assert "Collapse: the training reward is below its start" in reports[-1].stopped
    assert "the learning rate (0.3) is the likeliest cause" in reports[-1].stopped
    assert not run.lora("best").exists()  # nothing was better than the untrained model
    again = list(train(load_demo(rank=8), train_prompts(), {"shape": ShapeReward()}, config, run=run))
    assert again == []


SMALL = TrainConfig(
    iterations=6,
    steps=6,
    images_per_prompt=4,
    prompts_per_iteration=2,
    planner=WindowPlanner(window=FrozenWindow(size=2)),
    learning_rate=0.05,
    checkpoint_every=2,
)
PROMPTS = [f"prompt {number}" for number in range(5)]


def test_without_held_out_prompts_the_best_is_kept_by_training_reward_and_resumes_alike(tmp_path):
    def run(folder, ends):
        found = RunFolder.create(folder, SMALL)
        weights = []
        for end in ends:
            model = ToyModel()
            trained = train(model, PROMPTS, {"red": Red()}, SMALL, run=found)
            with closing(trained):
                for report in trained:
                    weights.append((report, {name: value.clone() for name, value in model.lora_state().items()}))
                    if report.iteration + 1 == end:
                        break
        return found, weights

    whole, weights = run(tmp_path / "whole", [6])
    parts, _ = run(tmp_path / "parts", [1, 3, 6])
    notes = [found.latest().values["notes"] for found in (whole, parts)]
    assert notes[0]["best_training"] == notes[1]["best_training"] and notes[0]["guards"] == notes[1]["guards"]
    means = [report.rewards["red"].mean for report, _ in weights]
    smooth = [sum(means[max(0, at - 2) : at + 1]) / len(means[max(0, at - 2) : at + 1]) for at in range(6)]
    best = smooth.index(max(smooth))
    assert notes[0]["best_training"]["iteration"] == best > 0
    files = [load_file(found.lora("best")) for found in (whole, parts)]
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])
    before = weights[best - 1][1]  # after the iteration before: what this one rolled out with
    model = ToyModel()
    model.load_lora_state(before)
    expected = load_file(export_lora(model, tmp_path / "expected.safetensors", {}))
    assert all(torch.equal(files[0][name], expected[name]) for name in expected)


def test_a_move_of_more_than_a_tenth_is_told_and_the_advice_fits_who_sets_the_rate():
    _, memory = Collapse().hear(heard(0, [0.5] * 8, move=0.02), {})
    assert Collapse().hear(heard(1, [0.5] * 8, move=0.08), memory)[0] is None
    fixed, _ = Collapse().hear(heard(1, [0.5] * 8, move=0.13), memory)
    assert fixed.level == "warn" and fixed.sentence.startswith("an iteration moves the policy by 13% of its velocity:")
    assert "start again with a tenth of it" in fixed.sentence
    own, _ = Collapse().hear(heard(1, [0.5] * 8, move=0.13, move_target=0.05), memory)
    assert "sets itself" in own.sentence and "tenth" not in own.sentence
    asked, _ = Collapse().hear(heard(1, [0.5] * 8, move=0.13, move_target=0.08), memory)
    assert asked is None, "so much was asked for, and a measured move is noisy"
