"""``mixgrpo train`` on the demo model, killed and interrupted: a run ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixgrpo_core.models.lora_file import load_lora
from mixgrpo_core.runs.checkpoint import read_checkpoint
from mixgrpo_core.runs.folder import RunFolder

# More iterations than are waited for: a slow machine must not reach the end before it is killed.
ITERATIONS = 7
RUN = f"""
[model]
rank = 2
[prompts]
train = ["a small red circle on the left", "a large blue cross in the middle"]
held_out = ["a small green square at the top"]
[rewards]
shape = "ShapeReward()"
[train]
iterations = {ITERATIONS}
checkpoint_every = 1
steps = 5
images_per_prompt = 3
prompts_per_iteration = 1
planner = "WindowPlanner(window=FrozenWindow(size=2, start=0), tail_ratio=0.5)"
tail_solver = "DPMpp2M()"
eval_every = 2
eval_images = 1
"""
# A shell that starts the tests in the background has its children ignore Ctrl-C.
FORKS = """
import json, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
import matplotlib.pyplot
from mixgrpo_core.cli import main
from mixgrpo_core.models.families.demo import load_demo

load_demo(rank=2)
print("ready", flush=True)
while line := sys.stdin.readline():
    words, ignored = json.loads(line)
    if (pid := os.fork()) == 0:
        os.dup2(2, 1)  # standard output is for what is told below
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        os._exit(main(words))
    print(pid, flush=True)
    sys.stdin.readline()  # not before the kill: the number of a child that was waited for may be another process's
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Commands:
    """Runs commands in children that start at once, with all modules loaded: loading them takes longer than a run."""

    def __init__(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        command, pipe = [sys.executable, "-c", FORKS], subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def run(self, *words, before_its_end=lambda pid: None, ignored=()):
        """``mixgrpo WORDS``: its exit status, or minus the signal that ended it."""
        print(json.dumps([words, ignored]), file=self.process.stdin, flush=True)
        before_its_end(int(self.process.stdout.readline()))
        print(file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def commands():
    commands = Commands()
    yield commands
    commands.process.stdin.close()
    commands.process.wait(timeout=30)
    commands.process.stdout.close()


def trained(commands, folder: Path, name: str, text: str = RUN, **more) -> int:
    (folder / f"{name}.toml").write_text(f'out = "{folder / name}"\n{text}')
    return commands.run("train", str(folder / f"{name}.toml"), **more)


@pytest.fixture(scope="module")
def whole(commands, tmp_path_factory) -> Path:
    """The run that nothing comes between."""
    folder = tmp_path_factory.mktemp("whole")
    assert trained(commands, folder, "whole") == 0
    return folder / "whole"


def stop_after(lines: int, run: Path, *numbers: int):
    """Sends signals inside the iteration after so many."""

    def send(pid: int) -> None:
        end = time.monotonic() + 60
        while not (run / "metrics.jsonl").exists() or (run / "metrics.jsonl").read_text().count("\n") < lines:
            assert time.monotonic() < end, f"less than {lines} iterations"
            time.sleep(0.02)
        time.sleep(0.03 * lines)
        for number in numbers:
            os.kill(pid, number)

    return send


def assert_same(found: Path, wanted: Path) -> None:
    """Metrics but for times, and the tensors of the last checkpoint."""
    kept = ("iteration", "rewards", "update", "evaluations", "nfe", "window")
    a, b = (
        [{key: line[key] for key in kept} for line in map(json.loads, (run / "metrics.jsonl").open())]
        for run in (found, wanted)
    )
    assert a == b and len(a) == ITERATIONS
    a, b = (read_checkpoint(run / "checkpoints" / f"{ITERATIONS:06d}.safetensors").tensors for run in (found, wanted))
    assert all(a[name].equal(b[name]) for name in a if not name.startswith("random"))


def test_a_run_that_nothing_comes_between_reaches_its_end(whole) -> None:
    assert RunFolder.open(whole).latest().iteration == ITERATIONS
    assert load_lora(whole / "lora" / "last.safetensors").rank == 2


def test_a_run_that_is_killed_twice_ends_as_if_nothing_had_happened(commands, whole, tmp_path) -> None:
    run = tmp_path / "killed"
    kills = [stop_after(lines, run, signal.SIGKILL) for lines in (1, 3)]
    assert trained(commands, tmp_path, "killed", before_its_end=kills[0]) == -signal.SIGKILL
    assert commands.run("resume", str(run), before_its_end=kills[1]) == -signal.SIGKILL
    assert commands.run("resume", str(run)) == 0
    assert_same(run, whole)


@pytest.fixture(scope="module")
def interrupted(commands, tmp_path_factory) -> tuple[Path, int, int]:
    """A run that got Ctrl-C, the command's exit status, and the iteration of its last checkpoint."""
    folder = tmp_path_factory.mktemp("interrupted")
    interrupt = stop_after(3, folder / "run", signal.SIGINT)
    status = trained(commands, folder, "run", before_its_end=interrupt)
    return folder / "run", status, RunFolder.open(folder / "run").latest().iteration


def test_an_interrupt_keeps_what_was_done(interrupted) -> None:
    run, status, done = interrupted
    assert status > 0 and 3 <= done < ITERATIONS
    assert load_lora(run / "lora" / "last.safetensors").rank == 2


def test_a_run_that_is_interrupted_ends_as_if_nothing_had_happened(commands, whole, interrupted) -> None:
    run, *_ = interrupted
    assert commands.run("resume", str(run)) == 0
    assert_same(run, whole)


SELDOM = RUN.replace("checkpoint_every = 1", "checkpoint_every = 99")


def test_kill_stops_under_nohup_and_in_the_background_and_two_signals_at_once_too(commands, whole, tmp_path) -> None:
    """There SIGHUP and SIGINT are ignored and stay so; systemd sends its signals together."""
    run = tmp_path / "run"
    signals = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGTERM)
    stop = stop_after(3, run, *signals)
    ignored = (signal.SIGHUP, signal.SIGINT)
    status = trained(commands, tmp_path, "run", SELDOM, before_its_end=stop, ignored=ignored)
    assert status == 128 + signal.SIGTERM
    assert RunFolder.open(run).latest().iteration >= 3, "no other checkpoint was due"
    assert commands.run("resume", str(run)) == 0
    assert_same(run, whole)


def test_a_hangup_stops_too(commands, tmp_path) -> None:
    run = tmp_path / "run"
    stop = stop_after(1, run, signal.SIGHUP)
    assert trained(commands, tmp_path, "run", SELDOM, before_its_end=stop) == 128 + signal.SIGHUP
    assert RunFolder.open(run).latest().iteration >= 1
