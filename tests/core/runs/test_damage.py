"""Run folders from which something is missing or damaged: what can be read is used and said, the rest is refused."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy import Red, ToyModel

from mixgrpo_core import RunFolder, TrainConfig, train
from mixgrpo_core.cli import main
from mixgrpo_core.runs.checkpoint import CorruptCheckpoint, read_checkpoint
from mixgrpo_core.runs.folder import RunError

CONFIG = TrainConfig(
    iterations=4, steps=5, images_per_prompt=2, prompts_per_iteration=1, updates=1, eval_every=0, checkpoint_every=2
)
SETUP = {"model": "toy", "rewards": {"red": "Red()"}}


def trained(path, config=CONFIG, seed=0, setup=SETUP, prompts=("red",)):
    """The run at ``path``, begun or gone on with up to its end."""
    run = RunFolder.open_or_create(path, config, setup)
    for _ in train(ToyModel(seed), list(prompts), {"red": Red()}, config, run=run):
        pass
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of four iterations with the checkpoints 2 and 4."""
    return trained(tmp_path_factory.mktemp("whole") / "run").path


@pytest.fixture
def run(tmp_path, whole) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Checkpoints that are gone, or another run's


def gone(run):
    shutil.rmtree(run / "checkpoints")


def emptied(run):
    gone(run)
    (run / "checkpoints").mkdir()


def only_the_lora_is_left(run):
    gone(run)
    (run / "metrics.jsonl").unlink()


def only_the_metrics_are_left(run):
    gone(run)
    shutil.rmtree(run / "lora")


@pytest.mark.parametrize("damage", [gone, emptied, only_the_lora_is_left, only_the_metrics_are_left])
def test_a_run_whose_checkpoints_are_gone_does_not_begin_anew(run, damage, capsys):
    damage(run)
    before = contents(run)
    with pytest.raises(RunError, match=r"expected the checkpoints .* found none, though it has trained"):
        trained(run, seed=5)
    assert main(["resume", str(run)]) == 2
    assert "put that folder back" in capsys.readouterr().err
    assert {path: data for path, data in contents(run).items() if path.name != ".lock"} == {
        path: data for path, data in before.items() if path.name != ".lock"
    }


def test_a_run_that_was_killed_before_its_first_checkpoint_begins(tmp_path, whole):
    run = RunFolder.create(tmp_path / "run", CONFIG, SETUP).path
    (run / "checkpoints").mkdir()
    (run / "checkpoints/.000000.safetensors.x.tmp").write_bytes(b"half")
    trained(run)
    assert contents(run / "checkpoints").keys() == contents(whole / "checkpoints").keys()


def test_newest_checkpoints_that_are_gone_are_said_and_the_end_is_the_same(tmp_path, whole):
    often = replace(CONFIG, checkpoint_every=1, keep=9)
    run = trained(tmp_path / "run", often).path
    for number in (4, 3):
        (run / f"checkpoints/{number:06}.safetensors").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a kill, while one checkpoint is being written, leaves that
        RunFolder.open(run).latest()
    (run / "checkpoints/000002.safetensors").unlink()
    with pytest.warns(RuntimeWarning, match="goes on after iteration 1, though 4 have been done"):
        trained(run, often, seed=5)
    found, wanted = (read_checkpoint(path / "checkpoints/000004.safetensors").tensors for path in (run, whole))
    assert all(found[name].equal(wanted[name]) for name in wanted if name.startswith(("lora", "optimizer")))


@pytest.mark.parametrize(
    "other", [{"config": replace(CONFIG, learning_rate=0.01)}, {"setup": {**SETUP, "model": "another"}}]
)
def test_a_checkpoint_of_another_run_is_refused(run, tmp_path, other):
    stranger = trained(tmp_path / "stranger", **other).path
    shutil.copy(stranger / "checkpoints/000004.safetensors", run / "checkpoints/000004.safetensors")
    before = contents(run / "checkpoints")
    with pytest.raises(RunError, match=r"holds a checkpoint of a run of other settings \((learning_rate|model): "):
        trained(run, replace(CONFIG, iterations=6))
    assert contents(run / "checkpoints") == before


# config.json

DAMAGED = ["", "{", "[]", "null", "[" * 100_000, "{}", '{"format": 2}', '{"format": "2"}', "\x00\xff"]


@pytest.mark.parametrize("text", DAMAGED, ids=lambda text: repr(text[:14]))
def test_damaged_settings_are_taken_from_the_newest_checkpoint(run, whole, text):
    (run / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.warns(RuntimeWarning, match=r"config\.json cannot be used .*000004\.safetensors holds a copy"):
        opened = RunFolder.open(run)
    assert opened.config == json.loads((whole / "config.json").read_text())
    trained_on = opened.settings
    for _ in train(ToyModel(3), ["red"], {"red": Red()}, replace(trained_on, iterations=5), run=opened):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert RunFolder.open(run).config["train"]["iterations"] == 5


@pytest.mark.parametrize("part", ["format", "started", "train", "setup"])
def test_settings_without_one_of_their_parts_are_damaged_too(run, whole, part):
    config = json.loads((run / "config.json").read_text())
    config.pop(part)
    (run / "config.json").write_text(json.dumps(config))
    with pytest.warns(RuntimeWarning, match="holds a copy"):
        assert RunFolder.open(run).started == RunFolder.open(whole).started


def test_settings_that_are_gone_are_found_by_a_script_that_is_started_again(run):
    (run / "config.json").unlink()
    with pytest.warns(RuntimeWarning, match="holds a copy"):
        trained(run)
    assert (run / "config.json").exists()


def test_a_newer_version_s_run_is_left_to_it(run):
    (run / "config.json").write_text('{"format": 99}')
    with pytest.raises(RunError, match=r"of format 99.*Use the version that wrote it"):
        RunFolder.open(run)


def test_where_no_copy_can_be_read_there_is_no_run(run):
    (run / "config.json").write_text("{")
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(RuntimeWarning, match="before it"), pytest.raises(RunError, match="not a run folder"):
        RunFolder.open(run)


# metrics.jsonl

STRANGE = ["null", "[]", "5", "{}", '{"iteration": 1}', '{"iteration": "1"}', "[" * 100_000, "\x00", "NaN", '"text"']


@pytest.mark.parametrize("line", STRANGE, ids=lambda line: repr(line[:18]))
def test_a_line_that_is_no_report_is_said_and_left_out(run, line):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join([lines[0], line, *lines[2:]]) + "\n")
    with pytest.warns(RuntimeWarning, match="line 2 is no report; it lacks iteration 1"):
        trained(run, replace(CONFIG, iterations=5))
    assert [report["iteration"] for report in RunFolder.open(run).metrics()] == [0, 2, 3, 4]


def test_a_report_whose_parts_are_no_figures_is_none(run):
    whole = json.loads((run / "metrics.jsonl").read_text().splitlines()[1])
    wrong = [{"rewards": {"red": 3}}, {"seconds": {"train": "long"}}, {"window": [1]}, {"evaluations": [0]}]
    wrong += [{"warnings": ["x"]}, {"iteration": -1}, {"iteration": True}]
    (run / "metrics.jsonl").write_text("".join(json.dumps({**whole, **part}) + "\n" for part in [*wrong, {}]))
    assert RunFolder.open(run).metrics() == [whole]


def test_a_gap_in_the_metrics_is_said(run):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text(lines[0])
    with pytest.warns(RuntimeWarning, match="it lacks iteration 1-3"):
        trained(run)
    (run / "metrics.jsonl").unlink()
    with pytest.warns(RuntimeWarning, match="it lacks iteration 0-3"):
        trained(run)


# What must be on the disk


def test_reports_and_names_are_synced(tmp_path, monkeypatch):
    """Of each report the file; of each checkpoint, LoRA and config.json the file and then the folder it is named in."""
    import os

    synced, replaced, sync = [], [], os.fsync
    kept_replace = os.replace
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(os.readlink(f"/proc/self/fd/{handle}")), sync(handle))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (replaced.append((len(synced), str(b))), kept_replace(a, b)))
    run = trained(tmp_path / "runs" / "run").path
    assert synced.count(str(run / "metrics.jsonl")) == 4
    assert str(tmp_path / "runs") in synced and str(tmp_path) in synced
    for place, path in replaced:  # other threads sync files of theirs in between
        beside = str(Path(path).parent / f".{Path(path).name}.")
        assert any(one.startswith(beside) for one in synced[:place]), "the file before its name"
        assert str(Path(path).parent) in synced[place:], "its name after it"
    assert {Path(path).name for _, path in replaced} >= {"config.json", "000004.safetensors", "last.safetensors"}


def test_no_file_stays_mapped_after_it_was_read(run):
    """Windows neither deletes nor replaces a mapped file."""
    from mixgrpo_core import load_lora

    snapshot, lora = RunFolder.open(run).latest(), load_lora(run / "lora/last.safetensors")
    assert str(run) not in Path("/proc/self/maps").read_text()
    assert snapshot.tensors and isinstance(lora.state["net.lora_A.weight"], torch.Tensor)


def test_a_checkpoint_whose_numbers_are_said_to_be_of_another_kind_is_passed_over(run):
    """The same bytes under another dtype: a flipped bit in the header, which no digest of the bytes alone sees."""
    newest = sorted((run / "checkpoints").glob("*.safetensors"))[-1]
    data = newest.read_bytes()
    assert data.count(b'"dtype":"F32"')
    newest.write_bytes(data.replace(b'"dtype":"F32"', b'"dtype":"I32"', 1))
    with pytest.raises(CorruptCheckpoint, match="checksum"):
        read_checkpoint(newest)


def test_what_a_kill_left_half_written_is_swept_away(run):
    """Ours, and the files beside their own that safetensors writes first: as large as a checkpoint."""
    left = [run / "lora" / ".tmpXh52aR", run / "checkpoints" / ".tmp0aZ9bQ", run / ".config.json.ab.tmp"]
    for path in left:
        path.write_bytes(b"half")
    trained(run)
    assert not any(path.exists() for path in left)
    assert (run / "lora" / "last.safetensors").exists()
