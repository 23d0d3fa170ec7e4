"""A step that sets itself becomes smaller where it does harm, and goes on so after a resume."""

import json
from dataclasses import replace

import pytest
import torch
from toy import Red, ToyModel

from mixgrpo_core import FrozenWindow, RunFolder, TrainConfig, WindowPlanner, load_lora, train
from mixgrpo_core.evaluation.guards import IterationView
from mixgrpo_core.evaluation.held_out import Evaluation
from mixgrpo_core.objectives.own_step import Signal, target
from mixgrpo_core.rewards.port import RewardBatch, Scores
from mixgrpo_core.rewards.stats import RewardStats
from mixgrpo_core.training.backing_off import LEAST_SHARE, BackingOff

CONFIG = TrainConfig(
    iterations=5,
    steps=6,
    images_per_prompt=12,
    prompts_per_iteration=2,
    planner=WindowPlanner(window=FrozenWindow(size=2)),
    learning_rate="auto",
    updates="auto",
    eval_every=1,
    guards=(),
    checkpoint_every=1,
)
SPREAD, IMAGES = 0.2, 200  # a standard error of .014
PICTURES = torch.rand(4, 16, 16, 3, generator=torch.Generator().manual_seed(0))


def after(backing_off, notes, *means, images=PICTURES, reward=0.5):
    """Alarms and memory after an iteration that ends with evaluations of such means; through a checkpoint."""
    backing_off.look(images)
    stats = {"red": RewardStats(mean=reward, spread=SPREAD, valid=8, count=8)}
    heard = IterationView(iteration=0, rewards=stats, weights={"red": 1.0}, groups=[{"red": reward}] * 8)
    made = [
        Evaluation(
            iteration=1, rewards={"red": RewardStats(mean=mean, spread=SPREAD, valid=IMAGES, count=IMAGES)}, scores={}
        )
        for mean in means
    ]
    alarms, notes = backing_off.after(heard, made, notes)
    return alarms, json.loads(json.dumps(notes))


def test_a_held_out_fall_halves_the_step_and_a_new_best_doubles_it_again():
    backing_off, notes, shares, told = BackingOff(CONFIG, {"red": 1.0}), {}, [], []
    for mean in (0.5, 0.6, 0.58, 0.55, 0.54, 0.61, 0.62, 0.5, 0.5, 0.5, 0.5):  # two errors of a difference are .04
        alarms, notes = after(backing_off, notes, mean)
        shares.append(notes["share"])
        told += [alarm.sentence for alarm in alarms]
    assert shares == [1, 1, 1, 1 / 2, 1 / 4, 1 / 2, 1, 1 / 2, 1 / 4, LEAST_SHARE, LEAST_SHARE]
    assert told[0] == "the held-out reward fell (0.55, was 0.6): from now on an iteration takes 0.5 of its usual step"
    assert len(told) == 5, "at its least it is told no more"
    assert target(3, 24, 1 / 4) == target(3, 24) / 4


@pytest.mark.parametrize(("broken", "words"), [(PICTURES * 0 + 0.5, "becoming empty"), (PICTURES * torch.nan, "NaN")])
def test_torn_images_and_a_collapsed_reward_halve_it_without_any_guard(broken, words):
    backing_off = BackingOff(CONFIG, {"red": 1.0})
    _, notes = after(backing_off, {})
    alarms, torn = after(backing_off, notes, images=broken)
    assert torn["share"] == 1 / 2 and words in alarms[0].sentence and alarms[0].level == "warn"
    alarms, fallen = after(backing_off, notes, reward=0.2)
    assert fallen["share"] == 1 / 2 and "below its start" in alarms[0].sentence
    assert after(backing_off, notes)[1]["share"] == 1


def test_a_fixed_rate_remembers_nothing():
    backing_off = BackingOff(replace(CONFIG, learning_rate=1e-3), {"red": 1.0})
    backing_off.look(PICTURES)
    assert after(backing_off, {}, 0.9, 0.1) == ([], {})


class WorseFromThen(Red):
    """Red on what is trained; on held-out images it falls from the third look on."""

    def __init__(self):
        self.looks = 0

    def __call__(self, batch: RewardBatch) -> Scores:
        found = super().__call__(batch)
        if batch.prompts[0] != "zzz":
            return found
        self.looks += 1
        return replace(found, values=found.values - (self.looks > 2) * 0.5)

    def state_dict(self):
        return {"looks": self.looks}

    def load_state_dict(self, state):
        self.looks = state["looks"]


def test_a_run_that_backed_off_goes_on_so_bit_for_bit(tmp_path):
    def run(name, iterations):
        config = replace(CONFIG, iterations=iterations)
        made = RunFolder.open_or_create(tmp_path / name, config)
        torch.manual_seed(0)
        for _ in train(ToyModel(), ["a", "bbbb"], {"red": WorseFromThen()}, config, held_out=["zzz"], run=made):
            pass
        return load_lora(made.lora("last")).state, made.metrics()

    whole, reports = run("whole", 5)
    run("parts", 3)
    again, reports_again = run("parts", 5)
    signal, usual = Signal(), []
    for number, report in enumerate(reports):
        usual.append(target(number, 24, signal=signal))
        signal = signal.after(report["update"]["signal"], report["update"]["signal_cells"])
    targets = [report["update"]["move_target"] / full for report, full in zip(reports, usual, strict=True)]
    assert targets == pytest.approx([1, 1, 1 / 2, 1 / 4, LEAST_SHARE])
    assert usual[1] > target(1, 24), "where it is seen to be right it is larger"
    assert [alarm["guard"] for alarm in reports[1]["warnings"]] == ["StepSize"]
    assert [one["update"]["rate"] for one in reports_again] == [one["update"]["rate"] for one in reports]
    assert all(torch.equal(whole[name], again[name]) for name in whole)
