"""The benchmark for machines with a GPU, run as tiny as it goes: everything in it but the GPU itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def found(request, tmp_path_factory):
    """Its findings by case, and its table."""
    out = tmp_path_factory.mktemp("out")
    comfyui = request.config.getoption("--comfyui").resolve()
    script = ROOT / "benchmarks" / "gpu" / "canvas_training.py"
    cases = ["--cases", "sd3:bf16", "flux:float8_e4m3fn", "flux:no_such_format"]
    command = [sys.executable, str(script), str(comfyui), "--tiny", "--out", str(out), *cases]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    found = {f"{entry['case']['model']}:{entry['case']['form']}": entry for entry in _read(out)}
    assert list(found) == cases[1:], result.stdout + result.stderr
    return found, (out / "results.md").read_text(), result.returncode


def _read(out):
    return json.loads((out / "results.json").read_text())


@pytest.mark.parametrize("case", ["sd3:bf16", "flux:float8_e4m3fn"])
def test_a_model_of_the_hosts_own_loader_is_trained_and_samples_as_before(found, case):
    entry = found[0][case]
    assert "failed" not in entry, entry.get("last_words")
    assert len(entry["ratio_first"]) == 2
    assert max(entry["ratio_first"]) < 1e-5
    assert entry["lora_moved"] > 0.9, "the last block of SD3 has no use for its text"
    assert entry["finite"] and entry["repeatable"] and entry["restored"]
    assert entry["weights"] == "resident"
    assert all(seconds["rollout"] > 0 and seconds["train"] > 0 for seconds in entry["seconds"])


def test_a_case_that_fails_is_told_and_does_not_end_the_others(found):
    entries, table, status = found
    assert "no_such_format" in entries["flux:no_such_format"]["last_words"][-1]
    assert status == 1
    assert "| flux no_such_format --cpu | exit status 1" in table
