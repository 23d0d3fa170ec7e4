"""Checkpoints are written in a thread from one copy of the weights, when iterations or minutes have passed."""

import os
import signal
import threading
import time
from dataclasses import replace

import pytest
import torch
from toy import Red, ToyModel

from mixgrpo_core import RunFolder, TrainConfig, train
from mixgrpo_core.runs import checkpoints
from mixgrpo_core.runs.checkpoint import TrainState, read_checkpoint
from mixgrpo_core.runs.reports import Progress
from mixgrpo_core.support.background import Background, in_peace

CONFIG = TrainConfig(
    iterations=5,
    steps=5,
    images_per_prompt=2,
    prompts_per_iteration=1,
    updates=2,
    ema=0.5,
    eval_every=0,
    learning_rate=0.05,
    checkpoint_every=1,
    keep=99,
)


def trained(path, config=CONFIG, observer=lambda event: None):
    run = RunFolder.create(path, config)
    for _ in train(ToyModel(), ["red"], {"red": Red()}, config, run=run, observer=observer):
        pass
    return run


def numbers(run):
    return sorted(int(path.stem) for path in run.checkpoints)


def assert_same_checkpoints(found, wanted):
    assert numbers(found) == numbers(wanted) != []
    for a, b in zip(found.checkpoints, wanted.checkpoints, strict=True):
        a, b = read_checkpoint(a).tensors, read_checkpoint(b).tensors
        assert a.keys() == b.keys()
        assert all(a[name].equal(b[name]) for name in b if not name.startswith("random"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture
def copies(monkeypatch):
    """Hears of every copy of the weights."""
    made, weights = [], TrainState.weights
    monkeypatch.setattr(
        TrainState, "weights", lambda self, buffers: made.append(self.iteration) or weights(self, buffers)
    )
    return made


def test_the_training_goes_on_while_a_checkpoint_is_written_which_holds_its_own_iteration(tmp_path, whole, monkeypatch):
    write, updated, went_on = checkpoints.write_checkpoint, [threading.Event() for _ in range(6)], []

    def slowly(path, snapshot):
        if 0 < snapshot.iteration < 5:
            went_on.append(updated[snapshot.iteration].wait(20))
            time.sleep(0.1)  # the iteration ends, and its copy would be written over this one
        write(path, snapshot)

    def observer(event):
        if isinstance(event, Progress) and event.phase == "train" and event.done:
            updated[event.iteration].set()

    monkeypatch.setattr(checkpoints, "write_checkpoint", slowly)
    assert_same_checkpoints(trained(tmp_path / "run", observer=observer), whole)
    assert went_on == [True] * 4


def test_weights_are_copied_once_an_iteration_whether_it_is_saved_or_not(tmp_path, copies):
    trained(tmp_path / "often")
    assert copies == [0, 0, 1, 2, 3, 4, 5]  # the first checkpoint's, then each iteration's, then the last checkpoint's
    copies.clear()
    trained(tmp_path / "seldom", replace(CONFIG, checkpoint_every=99))
    assert copies == [0, 0, 1, 2, 3, 4, 5]


def test_an_iteration_that_is_stopped_before_its_updates_copies_nothing_but_its_checkpoint(tmp_path, copies, whole):
    def observer(event):
        if event.iteration == 3 and event.phase == "rollout":
            copies.append("stop")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        trained(tmp_path / "run", replace(CONFIG, checkpoint_every=99), observer)
    assert copies == [0, 0, 1, 2, "stop", 3]
    found = RunFolder.open(tmp_path / "run").latest()
    wanted = read_checkpoint(whole.path / "checkpoints/000003.safetensors")
    assert found.iteration == 3
    assert all(found.tensors[name].equal(wanted.tensors[name]) for name in wanted.tensors if "random" not in name)


def test_minutes_make_checkpoints_too_and_change_nothing_else(tmp_path, whole):
    config = replace(CONFIG, checkpoint_every=99, checkpoint_minutes=1e-9)
    assert_same_checkpoints(trained(tmp_path / "run", config), whole)
    never = trained(tmp_path / "never", replace(CONFIG, checkpoint_every=99, checkpoint_minutes=0))
    assert numbers(never) == [0, 5]


def test_a_checkpoint_that_cannot_be_written_ends_the_run(tmp_path, monkeypatch):
    write = checkpoints.write_checkpoint

    def full(path, snapshot):
        if snapshot.iteration == 2:
            raise OSError(28, "No space left on device")
        write(path, snapshot)

    monkeypatch.setattr(checkpoints, "write_checkpoint", full)
    with pytest.raises(RuntimeError, match="cannot write a checkpoint .*No space left"):
        trained(tmp_path / "run", replace(CONFIG, iterations=50))
    monkeypatch.undo()
    assert len(RunFolder.open(tmp_path / "run").metrics()) <= 4, "the next checkpoint waits for the one before it"


def begin_and_wait(work):
    background = Background()
    try:
        background.start(work)
    finally:
        background.wait()


@pytest.mark.parametrize("wait", [begin_and_wait, in_peace])
def test_what_is_being_saved_is_not_cut_short_by_ctrl_c(wait):
    done = []

    def work():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.02)
        done.append(threading.current_thread() is not threading.main_thread())

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            wait(work)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == [True]


def test_a_copy_lies_where_the_one_before_it_lay():
    model = ToyModel()
    state = TrainState(model, torch.optim.AdamW(model.parameters()), {})
    buffers = {}
    first = state.weights(buffers).tensors["lora.net.lora_A.weight"]
    with torch.no_grad():
        model.down += 1
    second = state.weights(buffers).tensors["lora.net.lora_A.weight"]
    assert first.data_ptr() == second.data_ptr() != model.down.data_ptr() and second.equal(model.down.detach())
