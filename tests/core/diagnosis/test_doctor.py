"""Runs made sick on purpose, each in one way: the right cause comes first. Trained for real, on the toy."""

import json
from dataclasses import replace

import pytest
import torch
from toy import Red, ToyModel

from mixgrpo_core import FrozenWindow, RunFolder, Scores, SlidingWindow, TrainConfig, WindowPlanner, train
from mixgrpo_core.cli import main
from mixgrpo_core.diagnosis import diagnose
from mixgrpo_core.evaluation.guards import Collapse

MIX = TrainConfig(
    iterations=16,
    steps=8,
    shift=None,
    images_per_prompt=8,
    prompts_per_iteration=3,
    planner=WindowPlanner(window=SlidingWindow(size=4, stride=1, hold=4)),
    learning_rate=2e-2,
    updates=2,
    eval_every=8,
    eval_images=16,
    checkpoint_every=16,
)


class Coarse(Red):
    """One of two numbers, which the images of a prompt nearly always share."""

    def __call__(self, batch):
        return Scores.of((batch.images[..., 0].mean((1, 2)) > 0.8).float())


class Shuffled(Red):
    """The right values on the wrong images."""

    def __call__(self, batch):
        scores = super().__call__(batch)
        return Scores(scores.values[torch.randperm(len(scores.values))], scores.valid)


class Breaks(Red):
    """Fails on three images of four."""

    def __call__(self, batch):
        values = super().__call__(batch).values
        return Scores.of(torch.where(torch.arange(len(values)) % 4 == 0, values, float("nan")))


class OnlyWhatItKnows(Red):
    """Likes red on the prompts that are trained, and the contrary on others."""

    def __call__(self, batch):
        values = super().__call__(batch).values
        return Scores.of(torch.where(torch.tensor([prompt == "zz" for prompt in batch.prompts]), 1 - values, values))


class HalfBound(ToyModel):
    """Has layers that its network never runs."""

    def __init__(self):
        super().__init__()
        self.dead = [torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.zeros(3, 2))]

    def parameters(self):
        return [*super().parameters(), *self.dead]

    def lora(self):
        dead = getattr(self, "dead", [])
        return {**super().lora(), **dict(zip(("dead.lora_A.weight", "dead.lora_B.weight"), dead, strict=False))}


def run(folder, config=MIX, reward=None, model=None, setup=None):
    """A trained run."""
    torch.manual_seed(0)
    made = RunFolder.create(folder / "run", config, setup)
    prompts = ["a", "bbbb", "ccccccc"]
    for _ in train(model or ToyModel(), prompts, {"red": reward or Red()}, config, held_out=["zz"], run=made):
        pass
    return RunFolder.open(made.path)


def test_a_healthy_run_rises_and_has_no_grave_cause(tmp_path):
    found = diagnose(run(tmp_path))
    assert found.trend.rises and found.trend.gain > 0.05
    assert found.verdict.startswith("The reward rises, from 0.")
    assert max(finding.gravity for finding in found.findings) < 0.5


SICK = {
    "flat groups": {"reward": Coarse()},
    "movement": {"config": replace(MIX, learning_rate=1e-8)},
    "step size": {"config": replace(MIX, learning_rate=0.3, guards=(Collapse(stop=None),), updates=6)},
    "reward noise": {"reward": Shuffled()},
    "failures": {"reward": Breaks()},
    "held-out": {"reward": OnlyWhatItKnows()},
    "LoRA": {"model": HalfBound()},
    "window": {
        "config": replace(
            MIX, planner=WindowPlanner(window=FrozenWindow(start=6, size=1)), shift=1.0, learning_rate=3e-3
        )
    },
    "guidance": {"reward": Shuffled(), "setup": {"model": {"folder": "x", "guidance": 15.0}}},
}


@pytest.mark.parametrize("cause", SICK)
def test_the_right_cause_comes_first(tmp_path, cause):
    found = diagnose(run(tmp_path, **SICK[cause]))
    assert found.causes[0].sign == cause, [(one.sign, one.gravity, one.found) for one in found.findings]
    assert found.causes[0].change


def test_a_young_run_says_so(tmp_path):
    found = diagnose(run(tmp_path, replace(MIX, iterations=2, eval_every=0)))
    assert "too young" in found.verdict


def test_the_command_prints_one_page_and_json_for_programs(tmp_path, capsys):
    folder = run(tmp_path, replace(MIX, learning_rate=1e-8, iterations=4)).path
    assert main(["doctor", str(folder)]) == 0
    page = capsys.readouterr().out
    assert "raise the learning rate (1e-08)" in " ".join(page.split())
    assert len(page.splitlines()) < 50
    assert main(["doctor", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["findings"][0]["sign"] == "movement"
    assert main(["doctor", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
