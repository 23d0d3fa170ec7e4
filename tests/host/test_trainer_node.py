"""The trainer node itself in this process: what a second queue finds, what it hands on, what it refuses at once."""

import shutil
import sys
from pathlib import Path

import folder_paths
import pytest
import torch
from canvas import loaded, prompt_set, short_config
from mixgrpo_pack.mixgrpo_core.rewards.shapes import ShapeReward
from mixgrpo_pack.nodes.sockets import Rewards, TrainerSettings
from mixgrpo_pack.nodes.trainer import TrainLora


@pytest.fixture(scope="module")
def parts():
    return loaded()


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    monkeypatch.setattr(folder_paths, "get_temp_directory", lambda: str(tmp_path / "temp"))
    return tmp_path


class Queued(TrainLora):
    """The node as the host calls it."""

    class hidden:
        unique_id = "12:5"
        extra_pnginfo = None
        prompt = None


def queue(model, clip, vae, name="run", start_from="none", rewards=None, **changes):
    changes = {"iterations": 1, "eval_every": 0, **changes}
    settings = TrainerSettings(train=short_config(**changes), width=64, height=64, rank=2, alpha=4, checkpointing=False)
    rewards = rewards or {"shape": ShapeReward()}
    given = Rewards(rewards=rewards, weights=dict.fromkeys(rewards, 1.0))
    with torch.inference_mode():
        return Queued.execute(model, vae, prompt_set(clip), given, settings, name, start_from)


def runs(output):
    return sorted(path.name for path in (output / "mixgrpo").iterdir())


def test_the_lora_of_a_run_whose_folder_is_gone_is_not_written_over(parts, output):
    queue(*parts)
    file = output / "loras" / "mixgrpo" / "run-last.safetensors"
    before = file.read_bytes()
    shutil.rmtree(output / "mixgrpo" / "run")
    queue(*parts, seed=5)
    assert file.read_bytes() == before
    assert runs(output) == ["run-2"]


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells what is mapped")
def test_what_the_node_hands_on_does_not_hold_the_file(parts, output):
    """Windows cannot replace a file that is mapped into memory, and the next checkpoint replaces this one."""
    _, lora, *_ = queue(*parts).result
    assert lora, "kept by the host's cache"
    assert "run-last" not in Path("/proc/self/maps").read_text()
