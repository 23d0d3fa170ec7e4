"""However a run ends, it goes on from its last whole iteration and arrives where an undisturbed run does, bit for bit.

Real run folders, real processes and real kills; the policy is the toy of ``tests/toy.py``.
"""

import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import Dark, Red, ToyModel

from mixgrpo_core import RunFolder, SlidingWindow, TrainConfig, WindowPlanner, load_lora, train
from mixgrpo_core.objectives.update import NonFiniteLoss
from mixgrpo_core.rewards.port import Scores
from mixgrpo_core.runs.checkpoint import CorruptCheckpoint, TrainState, read_checkpoint, write_checkpoint
from mixgrpo_core.runs.folder import RunError
from mixgrpo_core.runs.gallery import Gallery
from mixgrpo_core.runs.reports import GroupScored, Progress
from mixgrpo_core.training.taught import RewardsFailed

PROMPTS = ["a red circle", "a blue square", "green"]
HELD_OUT = ["a yellow star", "grey"]
CONFIG = TrainConfig(
    iterations=6,
    seed=3,
    steps=6,
    images_per_prompt=4,
    prompts_per_iteration=2,
    planner=WindowPlanner(window=SlidingWindow(size=2, stride=1, hold=2)),
    learning_rate=0.05,
    updates=2,
    ema=0.8,
    eval_every=2,
    eval_images=2,
    checkpoint_every=2,
    keep=2,
)


class Moody(Red):
    """Draws from all three global generators, as careless rewards do."""

    def __call__(self, batch):
        draws = torch.rand(len(batch.images)) + np.random.rand() + random.random()
        return Scores.of(super().__call__(batch).values + draws)


class Jaded(Red):
    """Scores against the best it has seen, which it keeps as a tensor, and counts its calls."""

    def __init__(self):
        self.best, self.calls = torch.zeros(1), 0

    def __call__(self, batch):
        values = super().__call__(batch).values
        scores = Scores.of((values - self.best).abs() + 0.1 * self.calls * values)
        self.best, self.calls = torch.maximum(self.best, values.max()), self.calls + 1
        return scores

    def state_dict(self):
        return {"best": self.best, "calls": self.calls}

    def load_state_dict(self, state):
        self.best, self.calls = state["best"], state["calls"]


def rewards():
    return {"moody": Moody(), "jaded": Jaded(), "dark": Dark()}


def scramble(seed):
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    random.gauss(0, 1), np.random.randn()  # leaves a second normal number waiting in the state


class Session:
    """One process's worth of a run: a new model with another LoRA, a new optimizer, other global random states."""

    def __init__(self, run, config=CONFIG, *, seed=0, observer=None, rewards=rewards, prompts=PROMPTS):
        scramble(seed)
        self.run, self.model, self.rewards = run, ToyModel(seed), rewards()
        self.reports = train(
            self.model,
            prompts,
            self.rewards,
            config,
            held_out=HELD_OUT,
            run=run,
            make_optimizer=self.make_optimizer,
            observer=observer or (lambda event: None),
        )

    def make_optimizer(self, parameters):
        self.optimizer = torch.optim.AdamW(parameters, lr=CONFIG.learning_rate)
        return self.optimizer

    def finish(self):
        for _ in self.reports:
            pass
        return self

    def snapshot(self):
        return TrainState(self.model, self.optimizer, self.rewards).capture()


def start(path, config=CONFIG):
    return RunFolder.create(path, config)


def resumed(path, config=CONFIG, seed=1, **options):
    return Session(RunFolder.open(path), config, seed=seed, **options).finish()


def timeless(metrics):
    return [{key: value for key, value in line.items() if key not in ("seconds", "peak_memory")} for line in metrics]


def assert_same_state(found, expected, parts=("lora", "optimizer", "ema", "rewards", "random")):
    """Every tensor and every value of two snapshots, bit for bit."""
    assert found.iteration == expected.iteration
    names = {name for name in expected.tensors if name.split(".")[0] in parts}
    assert names == {name for name in found.tensors if name.split(".")[0] in parts}
    different = [name for name in names if not torch.equal(found.tensors[name], expected.tensors[name])]
    assert not different
    for part in parts:
        assert found.values[part] == expected.values[part], part


def assert_same_run(path, reference, iterations=6):
    """The folder holds what the undisturbed run's folder holds."""
    run = RunFolder.open(path)
    assert_same_state(run.latest(), read_checkpoint(reference / f"checkpoints/{iterations:06}.safetensors"))
    assert run.latest().values["notes"] == RunFolder.open(reference).latest().values["notes"]
    assert [line["iteration"] for line in run.metrics()] == list(range(iterations))
    assert timeless(run.metrics()) == timeless(RunFolder.open(reference).metrics())
    for name in ("last", "ema", "best"):
        there, expected = (folder / f"lora/{name}.safetensors" for folder in (Path(path), reference))
        assert there.exists() == expected.exists(), name
        if expected.exists():
            there, expected = load_lora(there), load_lora(expected)
            assert all(torch.equal(there.state[key], value) for key, value in expected.state.items()), name
            assert there.metadata["ss_steps"] == expected.metadata["ss_steps"], name
    assert_same_gallery(run, RunFolder.open(reference), iterations)
    leftovers = [str(file) for file in Path(path).rglob(".*.tmp")]
    assert not leftovers


def assert_same_gallery(run, reference, end):
    """The same pictures and LoRAs; one of the end is made by who goes on after it only."""
    found, expected = ({one.iteration: one for one in Gallery(one).entries()} for one in (run, reference))
    assert expected.keys() - found.keys() <= {end} and 0 in found
    for iteration in expected.keys() & found.keys():
        here, there = found[iteration], expected[iteration]
        assert [path.read_bytes() for path in here.pictures] == [path.read_bytes() for path in there.pictures]
        one, two = load_lora(here.lora), load_lora(there.lora)
        assert all(torch.equal(one.state[name], value) for name, value in two.state.items()), iteration


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """An undisturbed run; it keeps every checkpoint."""
    path = tmp_path_factory.mktemp("reference") / "run"
    config = replace(CONFIG, checkpoint_every=1, keep=99)
    session = Session(start(path, config), config).finish()
    assert_same_state(session.snapshot(), replace(RunFolder.open(path).latest(), iteration=0), ("lora", "optimizer"))
    return path


def state_at(reference, iteration):
    return read_checkpoint(reference / f"checkpoints/{iteration:06}.safetensors")


def test_the_reference_learns_something_new_in_every_iteration(reference):
    """Otherwise the comparisons below would compare nothing."""
    states = [state_at(reference, iteration) for iteration in range(7)]
    parts = ("lora.net.lora_A.weight", "ema.net.lora_B.weight", "random.torch", "random.python.1")
    for before, after in itertools.pairwise(states):
        assert [part for part in parts if torch.equal(before.tensors[part], after.tensors[part])] == []
        assert before.values["random"]["map"]["numpy"] != after.values["random"]["map"]["numpy"]
    assert (reference / "lora/best.safetensors").exists()
    assert states[6].values["notes"]["updates"] == 12


# Stopping


def test_stopping_by_closing_the_generator(tmp_path, reference):
    session = Session(start(tmp_path / "run"))
    for _ in range(3):
        next(session.reports)
    session.reports.close()
    found = RunFolder.open(tmp_path / "run").latest()
    assert_same_state(found, state_at(reference, 3))
    resumed(tmp_path / "run")
    assert_same_run(tmp_path / "run", reference)


class Stop(Exception):
    pass


def stops_at(iteration, phase, done):
    def observer(event):
        here = isinstance(event, Progress) and event.phase == phase and event.done == done
        if event.iteration == iteration and (here or (phase == "scored" and isinstance(event, GroupScored))):
            raise Stop

    return observer


@pytest.mark.parametrize(
    ("iteration", "phase", "done"),
    [
        (0, "evaluation", 1),  # before anything was trained
        (0, "train", 1),  # the optimizer had no state at the iteration's start
        (3, "rollout", 1),
        (3, "rollout", 9),  # in the second prompt's window
        (3, "scored", 0),
        (3, "train", 1),  # between the updates
        (3, "train", 2),  # after the last
        (3, "evaluation", 2),  # the iteration's policy is complete, its report is not
        (5, "evaluation", 2),
    ],
)
def test_an_observer_that_raises_stops_at_once_and_the_iteration_is_done_again(
    tmp_path, reference, iteration, phase, done
):
    session = Session(start(tmp_path / "run"), observer=stops_at(iteration, phase, done))
    with pytest.raises(Stop):
        session.finish()
    begin = state_at(reference, iteration)
    found = RunFolder.open(tmp_path / "run").latest()
    assert_same_state(found, begin)
    assert_same_state(replace(session.snapshot(), iteration=iteration), begin, ("lora", "optimizer"))
    assert session.rewards["jaded"].calls == begin.values["rewards"]["map"]["jaded"]["map"]["calls"]["value"]
    resumed(tmp_path / "run")
    assert_same_run(tmp_path / "run", reference)


def test_without_a_run_folder_too_an_interrupted_iteration_leaves_no_trace_in_the_policy(reference):
    session = Session(None, observer=stops_at(3, "train", 1))
    with pytest.raises(Stop):
        session.finish()
    assert_same_state(
        replace(session.snapshot(), iteration=3), state_at(reference, 3), ("lora", "optimizer", "rewards")
    )


def test_ctrl_c_inside_a_reward(tmp_path, reference):
    session = Session(start(tmp_path / "run"))
    jaded = session.rewards["jaded"]

    class Interrupted(Dark):
        def __call__(self, batch):
            if jaded.calls > 12:
                raise KeyboardInterrupt
            return super().__call__(batch)

    session.rewards["dark"] = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        session.finish()
    stopped = RunFolder.open(tmp_path / "run").latest()
    assert 0 < stopped.iteration < 6
    assert_same_state(stopped, state_at(reference, stopped.iteration))
    resumed(tmp_path / "run")
    assert_same_run(tmp_path / "run", reference)


def test_stopping_after_every_iteration(tmp_path, reference):
    start(tmp_path / "run")
    for seed in range(6):
        session = Session(RunFolder.open(tmp_path / "run"), seed=seed)
        next(session.reports)
        session.reports.close()
    assert_same_run(tmp_path / "run", reference)


def test_a_finished_run_has_nothing_left_to_do(tmp_path, reference):
    shutil.copytree(reference, tmp_path / "run")
    config = replace(CONFIG, checkpoint_every=1, keep=99)
    session = Session(RunFolder.open(tmp_path / "run"), config, seed=1)
    assert list(session.reports) == []
    assert session.model.evaluations == 0
    assert_same_run(tmp_path / "run", reference)


def test_extending_a_finished_run_equals_the_longer_run(tmp_path, reference):
    Session(start(tmp_path / "run", replace(CONFIG, iterations=4)), replace(CONFIG, iterations=4)).finish()
    run = RunFolder.open(tmp_path / "run")
    run.require(CONFIG)
    resumed(tmp_path / "run")
    assert_same_run(tmp_path / "run", reference)
    assert RunFolder.open(tmp_path / "run").config["train"]["iterations"] == 6


# Kills

SERVER = """
import os, resource, signal, sys
sys.path[:0] = sys.argv[1:3]
import test_resume as test
import torch

parameter = torch.nn.Parameter(torch.zeros(1))
parameter.grad = torch.zeros(1)
torch.optim.AdamW([parameter]).step()  # loads a second's worth of modules; backward is what must not run before a fork

def child(path, kind, amount):
    if kind in ("events", "create"):
        def hook(event, arguments, left=[amount]):
            if event in ("open", "os.rename", "os.remove", "os.mkdir") and path in str(arguments[0]):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
    if kind == "file size":
        resource.setrlimit(resource.RLIMIT_FSIZE, (amount, amount))
    if kind == "create":
        test.start(path)
        return
    options = {"rewards": test.wordy} if kind == "file size" and amount > 100_000 else {}
    test.Session(test.RunFolder.open(path), **options).finish()

while line := sys.stdin.readline():
    path, kind, amount = line.strip().split("\\t")
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            child(path, kind, int(amount))
        except BaseException as error:
            with open(path + ".error", "w") as file:
                file.write(f"{type(error).__name__}: {error}")
            code = 3
        os._exit(code)
    print(pid, flush=True)
    sys.stdin.readline()  # not before the kill: the number of a child that was waited for may be another process's
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Server:
    """A process that has loaded torch and forks one child per run: children start at once and are really killed."""

    def __init__(self):
        here = Path(__file__).parent
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(here), str(here.parents[1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(here.parents[2]), "OMP_NUM_THREADS": "1"},
        )

    def run(self, path, kind="whole", amount=0, kill_after=None):
        """Train in a child; its wait status (the signal that ended it, or 256 times its exit code)."""
        print(path, kind, amount, sep="\t", file=self.process.stdin, flush=True)
        pid = int(self.process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(pid, signal.SIGKILL)
        print(file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.process.stdin.close()
    server.process.wait(timeout=30)


def assert_resumable(path):
    """What must hold right after a kill, before anything is mended."""
    run = RunFolder.open(path)
    snapshot = run.latest()
    iterations = [line["iteration"] for line in run.metrics()]
    assert iterations == list(range(len(iterations)))
    assert len(iterations) >= (snapshot.iteration if snapshot else 0)
    if (path / "lora/last.safetensors").exists():
        assert load_lora(path / "lora/last.safetensors").rank == 2
    return snapshot.iteration if snapshot else None


def finished_after_kill(path, reference):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a kill never leaves a broken checkpoint
        stood_at = assert_resumable(path)
        resumed(path, seed=0 if stood_at is None else 1)  # without a checkpoint it starts as the undisturbed one did
    assert_same_run(path, reference)
    return stood_at


def test_kill_9_at_twenty_random_moments(tmp_path, reference, server):
    durations = []
    for name in ("first", "second"):
        start(tmp_path / name)
        begin = time.perf_counter()
        assert server.run(tmp_path / name) == 0
        durations.append(time.perf_counter() - begin)
        assert_same_run(tmp_path / name, reference)
    moments = random.Random(7)
    statuses, stood_at = [], set()
    for number in range(20):
        path = tmp_path / f"run{number}"
        start(path)
        statuses.append(server.run(path, kill_after=moments.uniform(0, min(durations))))
        stood_at.add(finished_after_kill(path, reference))
    assert statuses.count(signal.SIGKILL) >= 5, "the kills came after the end"
    assert len(stood_at) >= 2, "the kills came all at one place"


def test_kill_9_before_file_operations(tmp_path, reference, server):
    """Between any two touches of the run folder: files half written, checkpoint without LoRA, metrics ahead."""
    path = tmp_path / "run"
    moments = random.Random(8)
    killed = 0
    for number in [*range(12), *sorted(moments.sample(range(12, 53), 10))]:
        shutil.rmtree(path, ignore_errors=True)
        start(path)
        killed += server.run(path, "events", number) == signal.SIGKILL
        finished_after_kill(path, reference)
    assert killed >= 15


def test_twenty_kills_of_one_run(tmp_path, reference, server):
    path = tmp_path / "run"
    start(path)
    moments = random.Random(9)
    for _ in range(20):
        server.run(path, "events", moments.randrange(5, 25))
        assert_resumable(path)
    resumed(path)
    assert_same_run(path, reference)


def test_kill_9_while_a_run_is_created(tmp_path, reference, server):
    path = tmp_path / "run"
    for number in range(8):
        shutil.rmtree(path, ignore_errors=True)
        server.run(path, "create", number)
        if (path / "config.json").exists():
            RunFolder.open(path)
        else:
            start(path)  # the folder is as good as new
        resumed(path, seed=0)
        assert_same_run(path, reference)


def test_lora_files_missed_by_a_crash_are_written_on_resume(tmp_path, reference):
    """The last checkpoint was written, its LoRA files were not, and there is no iteration left to write them."""
    shutil.copytree(reference, tmp_path / "run")
    best = RunFolder.open(reference).latest().values["notes"]["best"]["iteration"]
    first = tmp_path / "first"
    Session(start(first, replace(CONFIG, iterations=1)), replace(CONFIG, iterations=1)).finish()
    for name in ("last", "ema"):
        shutil.copy(first / f"lora/{name}.safetensors", tmp_path / f"run/lora/{name}.safetensors")
    if best == 6:
        (tmp_path / "run/lora/best.safetensors").unlink()
    resumed(tmp_path / "run", replace(CONFIG, checkpoint_every=1, keep=99))
    assert_same_run(tmp_path / "run", reference)


# Broken files


def stopped_run(path, iterations=5, config=CONFIG):
    """A run that was stopped after some iterations; with CONFIG it has checkpoints 2 (or the best), 4 and 5."""
    session = Session(start(path, config), config)
    for _ in range(iterations):
        next(session.reports)
    session.reports.close()
    return RunFolder.open(path)


def truncate(path, moments):
    path.write_bytes(path.read_bytes()[: moments.randrange(path.stat().st_size)])


def flip_a_bit(path, moments):
    data = bytearray(path.read_bytes())
    data[moments.randrange(len(data))] ^= 1 << moments.randrange(8)
    path.write_bytes(bytes(data))


def empty(path, moments):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, reference, damage):
    run = stopped_run(tmp_path / "run")
    newest, before = run.checkpoints[:2]
    damage(newest, random.Random(1))
    with pytest.warns(RuntimeWarning, match=newest.name):
        assert RunFolder.open(tmp_path / "run").latest().iteration == int(before.stem)
    with pytest.warns(RuntimeWarning, match="falling back"):
        resumed(tmp_path / "run")
    assert_same_run(tmp_path / "run", reference)


def test_every_flipped_bit_is_noticed(tmp_path):
    whole = stopped_run(tmp_path / "run", 2).checkpoints[0].read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    places = random.Random(2)
    damaged = tmp_path / "damaged.safetensors"
    for number in range(1500):
        data = bytearray(whole)
        data[places.randrange(header if number % 2 else len(whole))] ^= 1 << places.randrange(8)
        damaged.write_bytes(bytes(data))
        with pytest.raises(CorruptCheckpoint, match=r"damaged\.safetensors"):
            read_checkpoint(damaged)


def test_when_no_checkpoint_can_be_read_the_run_is_not_started_over(tmp_path):
    run = stopped_run(tmp_path / "run")
    metrics = (tmp_path / "run/metrics.jsonl").read_bytes()
    for path in run.checkpoints:
        truncate(path, random.Random(3))
    with (
        pytest.warns(RuntimeWarning, match="falling back"),
        pytest.raises(RunError, match=r"none of the .* can be read: start a new run"),
    ):
        resumed(tmp_path / "run")
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == metrics


def test_a_damaged_checkpoint_does_not_push_out_a_good_one(tmp_path, reference):
    """It is newer by its number: keeping "the newest" must not mean keeping it instead of what is written next."""
    config = replace(CONFIG, keep=1, checkpoint_every=4)
    run = stopped_run(tmp_path / "run", 5, config)
    assert run.checkpoints[0].stem == "000005"
    assert len(run.checkpoints) == 2, "this needs a best checkpoint before the newest"
    truncate(run.checkpoints[0], random.Random(4))
    session = Session(run, config, seed=1)
    with pytest.warns(RuntimeWarning, match="falling back"):
        report = next(session.reports)
    session.reports.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert RunFolder.open(tmp_path / "run").latest().iteration == report.iteration + 1
        resumed(tmp_path / "run", config)
    assert_same_run(tmp_path / "run", reference)


def test_a_torn_line_and_lines_ahead_of_the_checkpoint_are_cut(tmp_path, reference):
    run = stopped_run(tmp_path / "run", 3)
    lines = (reference / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run/metrics.jsonl").write_text("".join(lines[:5]) + lines[5][:100])
    session = Session(run, seed=1)
    next(session.reports)
    assert [line["iteration"] for line in run.metrics()] == [0, 1, 2, 3]
    session.reports.close()
    resumed(tmp_path / "run")
    assert_same_run(tmp_path / "run", reference)


def test_the_newest_and_the_best_are_kept(tmp_path):
    class Fading(Red):
        """Good at first, worse from the third held-out evaluation on."""

        held_out = 0

        def __call__(self, batch):
            values = super().__call__(batch).values
            if batch.prompts[0] not in HELD_OUT:
                return Scores.of(values)
            Fading.held_out += 1
            evaluation = (Fading.held_out - 1) // len(HELD_OUT)
            return Scores.of(torch.full_like(values, [0.0, 0.1, 0.9, 0.3, 0.2][evaluation]))

    config = replace(CONFIG, iterations=8, checkpoint_every=1)
    Session(start(tmp_path / "run", config), config, rewards=lambda: {"fading": Fading()}).finish()
    run = RunFolder.open(tmp_path / "run")
    assert [path.stem for path in run.checkpoints] == ["000008", "000007", "000004"]
    assert run.latest().values["notes"]["best"] == {"iteration": 4, "reward": pytest.approx(0.9)}
    best = load_lora(tmp_path / "run/lora/best.safetensors").state
    average = read_checkpoint(tmp_path / "run/checkpoints/000004.safetensors")
    for name, tensor in best.items():
        assert torch.equal(tensor, average.tensors[f"ema.{name}"]), "best is what was evaluated: the average"


# Run folders that do not fit


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learning_rate": 0.01}, "learning_rate: 0.05 -> 0.01"),
        ({"ema": None}, "ema: 0.8 -> None"),
        ({"planner": WindowPlanner(window=SlidingWindow(size=3, hold=2))}, "planner: .*size=2.*size=3"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(tmp_path, change, words):
    run = stopped_run(tmp_path / "run", 3)
    before = contents(tmp_path / "run")
    with pytest.raises(RunError, match=words):
        run.require(replace(CONFIG, **change))
    session = Session(run, replace(CONFIG, **change), seed=1)
    with pytest.raises(RunError, match=words):
        session.finish()
    assert session.model.evaluations == 0
    assert contents(tmp_path / "run") == before


def test_a_run_is_not_resumed_with_another_setup(tmp_path):
    setup = {"model": "demo", "rewards": ["red"]}
    RunFolder.create(tmp_path / "run", CONFIG, setup)
    RunFolder.open(tmp_path / "run").require(CONFIG, setup)
    with pytest.raises(RunError, match=r"model: 'demo' -> 'sd3'"):
        RunFolder.open(tmp_path / "run").require(CONFIG, {**setup, "model": "sd3"})


def test_a_run_is_not_resumed_with_other_rewards(tmp_path):
    run = stopped_run(tmp_path / "run", 3)
    before = contents(tmp_path / "run/checkpoints")
    with pytest.raises(ValueError, match="jaded"):
        Session(run, rewards=lambda: {"moody": Moody(), "dark": Dark()}).finish()
    assert contents(tmp_path / "run/checkpoints") == before


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_a_new_run_wants_an_empty_place(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        start(tmp_path / "full")
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file/run", "/proc/mixgrpo/run"):
        with pytest.raises(RunError, match="cannot write a run to"):
            start(place)
    assert contents(tmp_path) == {Path("full/thesis.txt"): b"mine", Path("file"): b"mine"}
    (tmp_path / "empty").mkdir()
    start(tmp_path / "empty")
    with pytest.raises(RunError, match="resume the run that is there"):
        start(tmp_path / "empty")


@pytest.mark.parametrize("config", [None, "", "{", '{"format": 99}', "[1]"])
def test_what_is_no_run_is_not_opened(tmp_path, config):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(RunError, match=str(tmp_path)):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize(
    "obstacle", ["metrics.jsonl", "lora/last.safetensors", "lora", "checkpoints/000004.safetensors"]
)
@pytest.mark.filterwarnings("ignore:.*falling back:RuntimeWarning")
def test_what_cannot_be_written_is_a_run_error_and_the_run_can_be_mended(tmp_path, reference, obstacle):
    """A folder where a file belongs, or the other way round, stops root too."""
    run = stopped_run(tmp_path / "run", 3)
    place, aside = tmp_path / "run" / obstacle, tmp_path / "aside"
    if place.exists():
        place.rename(aside)
    if obstacle == "lora":
        place.write_text("in the way")
    else:
        (place / "in the way").mkdir(parents=True)
    with pytest.raises(RunError, match=f"{tmp_path / 'run'}.*resume"):
        Session(run, seed=1).finish()
    assert RunFolder.open(tmp_path / "run").checkpoints[-1].is_file()
    place.unlink() if place.is_file() else shutil.rmtree(place)
    if aside.exists():
        aside.rename(place)
    resumed(tmp_path / "run")
    assert_same_run(tmp_path / "run", reference)


def test_a_full_disk_leaves_the_checkpoint_before_it_whole(tmp_path, reference, server):
    path = tmp_path / "run"
    run = stopped_run(path, 2)
    limit = run.checkpoints[0].stat().st_size // 2
    assert limit > (path / "metrics.jsonl").stat().st_size * 2
    before = run.checkpoints[0].read_bytes()
    assert server.run(path, "file size", limit) == 3 * 256
    error = Path(f"{path}.error").read_text()
    assert error.startswith("RunError: cannot write a checkpoint")
    assert "free space" in error
    assert run.checkpoints[0].read_bytes() == before
    assert run.checkpoints[0].stem == "000002"
    resumed(path)
    assert_same_run(path, reference)


class Wordy(Red):
    """Fails on every second prompt, at great length."""

    def __call__(self, batch):
        if batch.group == 1 and batch.prompts[0] not in HELD_OUT:
            raise RuntimeError("no " * 50_000)
        return super().__call__(batch)


def wordy():
    return {"wordy": Wordy(), "dark": Dark()}


def test_when_only_the_metrics_cannot_be_written_no_iteration_goes_missing(tmp_path, server):
    Session(start(tmp_path / "whole"), rewards=wordy).finish()
    path = tmp_path / "run"
    start(path)
    assert server.run(path, "file size", 400_000) == 3 * 256
    assert Path(f"{path}.error").read_text().startswith("RunError: cannot write")
    resumed(path, rewards=wordy)
    assert_same_run(path, tmp_path / "whole")


# Runs that go wrong


def test_a_loss_that_is_not_finite_stops_the_run_before_it(tmp_path, reference):
    session = Session(start(tmp_path / "run"), observer=lambda event: poison(session, event))

    def poison(session, event):
        """The second update of iteration 3 meets a broken network."""
        if isinstance(event, Progress) and (event.iteration, event.phase, event.done) == (3, "train", 1):
            with torch.no_grad():
                session.model.up[0, 0] = float("nan")

    with pytest.raises(NonFiniteLoss, match=r"nan.*lower learning rate"):
        session.finish()
    assert_same_state(RunFolder.open(tmp_path / "run").latest(), state_at(reference, 3))
    assert bool(session.model.up.isfinite().all())
    resumed(tmp_path / "run")
    assert_same_run(tmp_path / "run", reference)


def test_a_reward_that_always_fails_stops_the_run_before_the_iteration(tmp_path):
    class Down(Red):
        def __call__(self, batch):
            raise ConnectionError("the server is gone")

    Session(start(tmp_path / "whole"), rewards=lambda: {"red": Red()}).finish()
    run = start(tmp_path / "run")
    session = Session(run, rewards=lambda: {"red": Red()})
    next(session.reports), next(session.reports), next(session.reports)
    session.reports.close()
    before = RunFolder.open(tmp_path / "run").latest()
    with pytest.raises(RewardsFailed, match=r"the server is gone.*mend the reward and resume"):
        Session(run, rewards=lambda: {"red": Down()}).finish()
    assert_same_state(RunFolder.open(tmp_path / "run").latest(), before)
    resumed(tmp_path / "run", rewards=lambda: {"red": Red()})
    assert_same_run(tmp_path / "run", tmp_path / "whole")


# Snapshots


def trained_state(state=None):
    model = ToyModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    living = TrainState(model, optimizer, {"jaded": Jaded()} if state is None else state)
    step(living)
    return living


def step(state):
    sum(((parameter - 1) ** 2).sum() for parameter in state.model.parameters()).backward()
    state.optimizer.step()
    state.optimizer.zero_grad()


def test_a_snapshot_can_be_put_back_twice():
    """Training after a restore must not reach into the snapshot: optimizers adopt the tensors they are given."""
    state = trained_state()
    snapshot = state.capture()
    step(state)
    expected = state.capture()
    for _ in range(2):
        state.restore(snapshot)
        step(state)
        assert_same_state(state.capture(), expected, ("lora", "optimizer"))


def test_awkward_names_and_kinds_survive_the_file(tmp_path):
    class Holder(Red):
        def __init__(self, state):
            self.state = state

        def state_dict(self):
            return self.state

        def load_state_dict(self, state):
            self.state = state

    kinds = {"zero": torch.tensor(3.5), "none": torch.zeros(0, 2), "half": torch.ones(2, 2).bfloat16().T}
    values = {"deep": [1, {"a": None, "b": [True, 1.5, "x", float("inf")]}], "mask": torch.tensor([True, False])}
    awkward = {
        "a": Holder({"b": {"c": torch.tensor([1.0])}}),
        "a.b": Holder({"c": torch.tensor([2.0])}),
        "kinds": Holder(kinds),
        "ärger": Holder(values),
    }
    write_checkpoint(tmp_path / "x", trained_state(awkward).capture())
    fresh = {name: Holder({}) for name in awkward}
    trained_state(fresh).restore(read_checkpoint(tmp_path / "x"))
    assert fresh["a"].state["b"]["c"].tolist() == [1.0]
    assert fresh["a.b"].state["c"].tolist() == [2.0]
    for name, tensor in kinds.items():
        found = fresh["kinds"].state[name]
        assert found.dtype == tensor.dtype
        assert found.shape == tensor.shape
        assert torch.equal(found, tensor)
    assert fresh["ärger"].state["deep"] == values["deep"]
    assert fresh["ärger"].state["mask"].tolist() == [True, False]


def test_the_limit_of_a_child_does_not_reach_this_process():
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_two_cannot_train_in_one_run_at_a_time(tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG)
    first = train(ToyModel(), PROMPTS, {"red": Red()}, CONFIG, run=run)
    next(first)
    with pytest.raises(RunError, match="another process"):
        next(train(ToyModel(), PROMPTS, {"red": Red()}, CONFIG, run=RunFolder.open(tmp_path / "run")))
    first.close()
    second = train(ToyModel(), PROMPTS, {"red": Red()}, CONFIG, run=RunFolder.open(tmp_path / "run"))
    assert next(second).iteration == 1


def test_other_prompts_or_fewer_iterations_are_refused_and_change_nothing(tmp_path):
    run = RunFolder.create(tmp_path / "run", CONFIG)
    list(train(ToyModel(), PROMPTS, {"red": Red()}, CONFIG, run=run))
    before = (tmp_path / "run" / "config.json").read_bytes()
    for prompts, held_out in (([*PROMPTS, "one more"], ()), (PROMPTS, ("held",))):
        with pytest.raises(RunError, match="other prompts"):
            next(train(ToyModel(), prompts, {"red": Red()}, CONFIG, held_out=held_out, run=run))
    with pytest.raises(RunError, match=f"has done {CONFIG.iterations} iterations, found iterations=2"):
        next(train(ToyModel(), PROMPTS, {"red": Red()}, replace(CONFIG, iterations=2), run=run))
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_batches_may_change_on_resume_and_the_result_stays_within_rounding(tmp_path):
    def lora(other: dict) -> dict:
        folder = tmp_path / f"run{len(other)}"
        reports = train(ToyModel(), PROMPTS, {"red": Red()}, CONFIG, run=RunFolder.create(folder, CONFIG))
        for _ in range(2):
            next(reports)
        reports.close()
        config = replace(CONFIG, **other)
        list(train(ToyModel(), PROMPTS, {"red": Red()}, config, run=RunFolder.open(folder)))
        return load_lora(folder / "lora" / "last.safetensors").state

    same, other = lora({}), lora({"rollout_batch": 3, "update_batch": 2})
    for name, weight in same.items():
        torch.testing.assert_close(other[name], weight, atol=1e-4, rtol=0)


def test_training_has_its_own_gradient_mode(tmp_path):
    with torch.inference_mode():  # as a node of ComfyUI runs
        model = None
        with torch.inference_mode(False):
            model = ToyModel()
        reports = train(model, PROMPTS, {"red": Red()}, CONFIG)
        next(reports)
        assert torch.is_inference_mode_enabled()  # the caller's mode is its own between iterations
        reports.close()
    assert model.up.abs().sum() > 0
