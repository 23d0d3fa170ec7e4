"""Prompts that share calls: lack of memory among them, and a kill between two of their groups."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy import Red, ToyModel

from mixgrpo_core import FrozenWindow, RunFolder, TrainConfig, WindowPlanner, train
from mixgrpo_core.training.out_of_memory import within_memory

PROMPTS = ["a", "bb", "ccc", "dddd"]
CONFIG = TrainConfig(
    iterations=3,
    steps=5,
    images_per_prompt=4,
    prompts_per_iteration=4,
    planner=WindowPlanner(window=FrozenWindow(size=2, start=1)),  # a shared prefix: calls of one row a prompt
    learning_rate=0.05,
    updates=2,
    eval_every=0,
    checkpoint_every=1,
)


class Counted(ToyModel):
    """Keeps the rows and prompts of its calls; after ``scarce`` of them there is room for ``most`` rows."""

    def __init__(self, most=10**9, scarce=0):
        super().__init__()
        self.most, self.scarce, self.rows, self.prompts = most, scarce, [], []

    def run(self, conds, body):
        def guarded(velocity):
            def call(x, sigma, rows=None):
                self.rows.append(len(x))
                self.prompts.append(1 if rows is None else len(rows.unique()))
                if len(self.rows) > self.scarce and len(x) > self.most:
                    raise torch.cuda.OutOfMemoryError("CUDA out of memory")
                return velocity(x, sigma, rows)

            return body(call)

        return super().run(conds, guarded)


def going(path, model, config=CONFIG, reward=None):
    """Train to the end, from wherever the run stands; ``(iteration, update)`` per report."""
    run = RunFolder.open_or_create(path, CONFIG)
    return [report.to_json()["update"] for report in train(model, PROMPTS, {"red": reward or Red()}, config, run=run)]


def states_of(path):
    return RunFolder.open(path).latest().tensors


def same(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if "random" not in name and not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize("scarce", [0, 11])
def test_batches_are_halved_where_calls_of_several_prompts_lack_memory(tmp_path, scarce):
    """In a rollout, in an update; the run goes on with what fits."""
    told, model = [], Counted(most=5, scarce=scarce)
    within_memory(lambda lower: going(tmp_path / "run", model, lower), CONFIG, lambda lower, _: told.append(lower))
    failed = [place for place, rows in enumerate(model.rows) if place >= scarce and rows > model.most]
    assert model.prompts[failed[0]] > 1, "a call of several prompts lacked memory"
    assert (told[-1].rollout_batch, told[-1].update_batch) == (4, 4) and len(told) == len(failed)
    assert max(model.prompts[failed[-1] + 1 :]) > 1, "they still share calls"
    going(tmp_path / "plain", Counted())
    one, other = states_of(tmp_path / "run"), states_of(tmp_path / "plain")
    for name in [name for name in one if name.startswith("lora")]:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-5)


KILLED = """
import sys
sys.path[:0] = sys.argv[1:3]
from test_waves import Counted, Mortal, going
going(sys.argv[3], Counted(), reward=Mortal())
"""


class Watched(Red):
    """Keeps how many rows were rolled out when each group was scored."""

    def __init__(self, model):
        self.model, self.seen = model, []

    def __call__(self, batch):
        self.seen.append((batch.context.iteration, batch.group, self.model.evaluations))
        return super().__call__(batch)


class Mortal(Red):
    """Kills its process at the third group of the second iteration."""

    def __call__(self, batch):
        if (batch.context.iteration, batch.group) == (1, 2):
            signal.raise_signal(signal.SIGKILL)
        return super().__call__(batch)


def test_a_kill_between_groups_that_were_rolled_out_together_leaves_a_run_that_goes_on_bit_for_bit(tmp_path):
    here = Path(__file__).parent
    command = [sys.executable, "-c", KILLED, str(here), str(here.parents[1]), str(tmp_path / "killed")]
    assert subprocess.run(command, cwd=here.parents[2], check=False).returncode == -signal.SIGKILL
    stood = RunFolder.open(tmp_path / "killed").latest()
    assert stood.iteration in (0, 1)  # a checkpoint is written while the next iteration goes on
    model = Counted()
    watched = Watched(model)
    whole = going(tmp_path / "whole", model, reward=watched)
    rolled = [rows for iteration, _, rows in watched.seen if iteration == 1]
    assert len(rolled) == 4 and len(set(rolled)) == 1, (
        "one wave: all of its groups are there before the first is scored"
    )
    rest = going(tmp_path / "killed", Counted())
    assert rest == whole[stood.iteration :]
    same(states_of(tmp_path / "killed"), states_of(tmp_path / "whole"))
