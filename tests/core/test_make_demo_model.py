"""The demo model's recipe runs from nothing to files that load, and goes on where it was stopped."""

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import make_demo_model as recipe
import pytest
import torch
from demo_model.settings import AutoencoderSettings, FlowSettings, Settings

from mixgrpo_core.models.families.demo import load_demo

ROOT = Path(__file__).parents[2]


class Here:
    """In the place of multiprocessing's contexts: processes that run in this one, which has loaded everything."""

    class Process:
        exitcode = 0

        def __init__(self, target, args):
            self.start = lambda: target(*args)

        def join(self):
            """It has ended."""


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A few steps on a few drawings, in one process; the report, which samples 1,280 images, holds its stages only."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: Here)
    monkeypatch.setattr(recipe.export, "measure_assets", lambda assets: None)
    threads = torch.get_num_threads()
    yield Settings(
        work=tmp_path / "work",
        assets=tmp_path / "assets",
        drawings=40,
        autoencoder=AutoencoderSettings(steps=4, tuning_steps=3),
        flow=FlowSettings(steps=3, batch=16),
    )
    torch.set_num_threads(threads)


def made(settings: Settings) -> dict:
    recipe.make(settings)
    recipe.export_latest(settings, "small")
    return json.loads((settings.assets / "training.json").read_text())["stages"]


def test_the_recipe_makes_files_that_load_and_goes_on_where_it_was(settings: Settings) -> None:
    first = made(settings)
    assert {name: stage.get("steps") for name, stage in first.items()} == {
        "autoencoder": 4,
        "latents": None,
        "decoder": 3,
        "flow": 3,
    }
    files = {path.name: path.read_bytes() for path in settings.assets.rglob("*.safetensors")}
    autoencoder = (settings.work / "autoencoder.pt").stat().st_mtime_ns
    assert made(settings) == first  # nothing was trained again
    assert (settings.work / "autoencoder.pt").stat().st_mtime_ns == autoencoder
    assert {path.name: path.read_bytes() for path in settings.assets.rglob("*.safetensors")} == files
    model = load_demo(folder=settings.assets, rank=2)
    x = model.noise(0, 2)
    cond = model.encode("a small red circle on the left")
    assert model.run([cond], lambda velocity: velocity(x, torch.tensor(0.5))).isfinite().all()
    assert model.decode(x).shape == (2, 64, 64, 3)


@pytest.mark.long("recipe")
def test_the_whole_recipe_makes_a_demo_model_as_good_as_the_shipped_one() -> None:
    """An hour on two cores; it goes on where it was interrupted, in ``build/demo_model_test``."""
    work, assets = (ROOT / "build" / "demo_model_test" / name for name in ("work", "assets"))
    command = [sys.executable, str(ROOT / "scripts" / "make_demo_model.py"), "--work", str(work)]
    subprocess.run([*command, "--assets", str(assets)], check=True)
    found = json.loads((assets / "training.json").read_text())
    assert {name: stage.get("steps") for name, stage in found["stages"].items()} == {
        "autoencoder": 2200,
        "latents": None,
        "decoder": 2200,
        "flow": 9000,
    }
    figures = found["figures"]
    assert figures["reconstruction"]["psnr"] > 30 and figures["reconstruction"]["adherence"] >= 0.97
    assert figures["held_out"]["clean"] >= 0.90 and 0.40 <= figures["held_out"]["adherence"] <= 0.70
