"""The scripts of examples/ run as they stand, with fewer and smaller iterations, and reach what they say."""

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SMALL = ("--images", "4", "--steps", "6")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    def call(name, *flags):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *SMALL, *flags])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return call


def test_a_reward_of_ones_own_trains_and_another_is_watched(run, tmp_path):
    out = run("own_reward.py", "--iterations", "1")
    assert re.search(r"  0  warm [+-]\d", out) and "held out: warm" in out and "clean" in out
    assert (tmp_path / "runs/own_reward/lora/last.safetensors").stat().st_size > 10_000


def test_an_objective_of_ones_own_has_grpos_gradient_at_first_and_then_moves(run):
    out = run("own_objective.py", "--iterations", "2")
    [apart] = re.findall(r"\|GRPO's\| = (\S+)", out)
    assert float(apart) < 1e-4
    assert [float(moved) > 0 for moved in re.findall(r"\|log ratio\| (\S+)", out)] == [True, True]


def test_two_algorithms_start_alike_and_cost_what_they_ask_of_the_network(run):
    out = run("two_algorithms.py", "--iterations", "1", "--held-out", "2")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:]}
    assert rows["MixGRPO"][0] == rows["Flow-GRPO"][0], "both were evaluated before the first iteration"
    assert float(rows["MixGRPO"][2]) < float(rows["Flow-GRPO"][2])


def test_every_example_is_tested():
    told = Path(__file__).read_text("utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in told] == []
