"""The benchmark for machines with a GPU, run as tiny as it goes: everything in it but the GPU itself."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

GPU = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"
CASES = ["sd3:bf16", "flux:float8_e4m3fn", "flux:bf16"]


def script(comfyui, out, *cases):
    """What the whole script finds: ComfyUI is started for every case."""
    words = [str(comfyui), "--tiny", "--out", str(out), "--cases", *cases]
    command = [sys.executable, str(GPU / "canvas_training.py"), *words]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    entries = json.loads((out / "results.json").read_text())
    found = {f"{entry['case']['model']}:{entry['case']['form']}": entry for entry in entries}
    assert list(found) == list(cases), result.stdout + result.stderr
    return found, (out / "results.md").read_text(), result.returncode


def assert_as_it_should_be(entry):
    assert "failed" not in entry, entry.get("last_words")
    assert len(entry["ratio_first"]) == 2
    assert max(entry["ratio_first"]) < 1e-5
    assert entry["lora_moved"] > 0.9, "the last block of SD3 has no use for its text"
    assert entry["finite"] and entry["repeatable"] and entry["restored"]
    assert entry["weights"] == "resident"
    assert entry["images_trained"][-1] == 2 * (1 + 4), "of each prompt's first trained step one, then four"
    assert all(seconds["rollout"] > 0 and seconds["train"] > 0 for seconds in entry["seconds"])


@pytest.fixture
def canvas_training(monkeypatch):
    """The script as a module of this process, in which ComfyUI is loaded already."""
    monkeypatch.setattr(sys, "path", [str(GPU), *sys.path])
    return importlib.import_module("canvas_training")


@pytest.mark.parametrize("name", CASES)
def test_a_model_of_the_hosts_own_loader_is_trained_and_samples_as_before(
    canvas_training, name, request, tmp_path, monkeypatch
):
    comfyui = str(request.config.getoption("--comfyui"))
    monkeypatch.setattr(sys, "argv", ["canvas_training.py", comfyui, "--tiny", "--brief", "--cases", name])
    [case] = canvas_training.cases(canvas_training.parse(), tmp_path)
    entry = importlib.import_module("one_case").run(case)
    assert_as_it_should_be(json.loads(json.dumps(entry)))
    assert f"| {case.name} | resident |" in canvas_training.table([entry])


def test_a_case_that_fails_is_told_and_does_not_end_the_others(tmp_path):
    entries, table, status = script(tmp_path / "no ComfyUI", tmp_path, *CASES[:2])
    assert status == 1
    for name, entry in entries.items():
        assert "found none" in entry["last_words"][-1]
        assert f"| {name.replace(':', ' ')} --cpu | exit status 1" in table


@pytest.mark.long("benchmark")
def test_the_script_goes_through_its_cases_and_past_one_that_fails(request, tmp_path):
    cases = ["sd3:bf16", "flux:no_such_format", "flux:float8_e4m3fn", "flux:bf16"]
    entries, table, status = script(request.config.getoption("--comfyui").resolve(), tmp_path, *cases)
    for name in CASES:
        assert_as_it_should_be(entries[name])
        assert entries[name]["operations_of_an_image"] > 1e5 and entries[name]["matrix_peak"] > 1e8
        assert entries[name]["predicted_bytes"] > entries[name]["model_bytes"]
        assert set(entries[name]["waits"]) == {"aten::_local_scalar_dense"}, "a CPU is waited for in no other way"
    assert "no_such_format" in entries["flux:no_such_format"]["last_words"][-1]
    assert status == 1
    assert "| flux no_such_format --cpu | exit status 1" in table
