"""Trackers: what a run sends them, by which name it goes on there, and that no training ends because of one.

The real libraries are asked where they are installed, offline; else a module that has what both document.
"""

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy import Red, ToyModel

from mixgrpo_core import TrainConfig, train
from mixgrpo_core.cli import main, trackers
from mixgrpo_core.cli.scalars import scalars
from mixgrpo_core.cli.trackers import Tracker
from mixgrpo_core.runs.folder import RunFolder

CONFIG = TrainConfig(iterations=2, steps=5, images_per_prompt=2, prompts_per_iteration=1, updates=1, eval_every=2)
STAND_IN = """
import json, pathlib

def _told(*said):
    with pathlib.Path({told!r}).open("a") as file:
        file.write(json.dumps(said) + "\\n")

def init(*, project, name=None, id=None, config=None, resume=None, dir=None):
    _told("init", project, name, id, config, resume)

def log(data, step=None):
    if {broken}:
        raise OSError("no room")
    _told("log", dict(data), step)

def finish():
    _told("finish")
"""


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(tmp_path / "first", CONFIG, {"rewards": {"red": "Red()"}})


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Puts a library of a name where it is imported from, and reads what it was told."""

    def put(name: str, broken: bool = False):
        told = tmp_path / "told.jsonl"
        folder = tmp_path / "library"
        folder.mkdir()
        (folder / f"{name}.py").write_text(STAND_IN.format(told=str(told), broken=broken))
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return lambda: [json.loads(line) for line in told.read_text().splitlines()]

    yield put
    for name in ("wandb", "trackio"):
        if str(tmp_path) in str(getattr(sys.modules.get(name), "__file__", "")):
            del sys.modules[name]


def tracked(name, run):
    reports = []
    with Tracker(name, run, run.config) as tracker:
        for report in train(ToyModel(), ["red"], {"red": Red()}, CONFIG, held_out=["blue"]):
            tracker.write(report)
            reports.append(report)
    return reports


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_every_figure_is_sent_at_its_iteration_and_steps_only_rise(name, run, stand_in):
    told = stand_in(name)
    reports = tracked(name, run)
    (begun, *logged, ended) = told()
    assert (
        begun[:2] == ["init", "mixgrpo"] and begun[4]["setup"] == {"rewards": {"red": "Red()"}} and ended == ["finish"]
    )
    steps = [step for _, _, step in logged]
    assert steps == sorted(steps) and set(steps) == {0, 1, 2}
    sent = {(key, step): value for _, data, step in logged for key, value in data.items()}
    expected = {(key, step): value for report in reports for key, value, step in scalars(report)}
    assert sent == pytest.approx({at: value for at, value in expected.items() if value == value})
    assert {"held_out/red", "reward/red", "update/loss"} <= {key for key, _ in sent}


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_run_that_goes_on_goes_on_there(name, run, stand_in):
    told = stand_in(name)
    for _ in range(2):
        with Tracker(name, run, run.config):
            pass
    one, other = [line for line in told() if line[0] == "init"]
    assert one == other and one[5] == "allow"
    assert any(part and (run.path / "tracker.txt").read_text() in part for part in (one[2], one[3]))


def test_a_tracker_that_fails_is_said_once_and_the_training_goes_on(run, stand_in):
    stand_in("wandb", broken=True)
    with pytest.warns(
        RuntimeWarning, match=r"wandb takes no reports \(no room\): the training goes on without them"
    ) as said:
        assert len(tracked("wandb", run)) == 2
    assert len(said) == 1


def test_a_tracker_that_is_not_installed_is_one_sentence_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    words = ["train", "--tracker", "wandb", "--out", str(tmp_path / "run"), "--prompts.train", "a red circle"]
    assert main([*words, "--rewards", "shape", "ShapeReward()"]) == 2
    error = capsys.readouterr().err
    assert "needs the package wandb: pip install wandb" in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def records(data: bytes) -> Iterator[bytes]:
    """Of a log as LevelDB has it: blocks of 32 KiB of chunks, each with a checksum, its length and whether it is
    whole (1), or the first (2), a middle (3) or the last (4) one of its record."""
    place, record = 7, b""  # after the file's own header
    while place < len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        if not kind:
            return
        chunk = data[place + 7 : place + 7 + length]
        place, record = place + 7 + length, chunk if kind in (1, 2) else record + chunk
        if kind in (1, 4):
            yield record


def test_wandb_itself_offline_holds_what_was_sent(run, monkeypatch, tmp_path):
    wandb = pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    tracked("wandb", run)
    wandb.teardown()  # its process writes the file
    (file,) = Path(run.path).glob("wandb/offline-run-*/*.wandb")
    found = {}
    for data in records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        for item in record.history.item:
            found[item.key or "/".join(item.nested_key), record.history.step.num] = json.loads(item.value_json)
    assert found["reward/red", 1] is not None and ("held_out/red", 0) in found and ("held_out/red", 2) in found
    assert (run.path / "tracker.txt").read_text() in file.name


def test_trackio_itself_holds_what_was_sent(run, monkeypatch, tmp_path):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    tracked("trackio", run)
    (name,) = SQLiteStorage.get_runs("mixgrpo")
    logs = SQLiteStorage.get_logs("mixgrpo", name)
    assert name.startswith("first-") and {line["step"] for line in logs} == {0, 1, 2}
    assert any("reward/red" in line for line in logs)
