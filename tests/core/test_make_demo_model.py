"""The demo model's recipe runs from nothing to files that load, and goes on where it was stopped."""

import json
import subprocess
import sys
from pathlib import Path

import torch

from mixgrpo_core.models.families.demo import load_demo

ROOT = Path(__file__).parents[2]
SMALL = """
import json
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[3])
import make_demo_model
from demo_model.settings import AutoencoderSettings, FlowSettings, Settings

if __name__ == "__main__":
    settings = Settings(
        work=Path(sys.argv[1]),
        assets=Path(sys.argv[2]),
        drawings=160,
        autoencoder=AutoencoderSettings(steps=4, tuning_steps=3),
        flow=FlowSettings(steps=int(sys.argv[4]), batch=16),
    )
    make_demo_model.make(settings)
    # the report samples 1,280 images: too long here
    make_demo_model.export.write_report = lambda settings, stages, note: print("STAGES", json.dumps(stages))
    make_demo_model.export_latest(settings, "small")
"""


def make(folder: Path, flow_steps: int) -> dict:
    (folder / "small.py").write_text(SMALL)
    command = [sys.executable, str(folder / "small.py"), str(folder / "work"), str(folder / "assets")]
    done = subprocess.run([*command, str(ROOT / "scripts"), str(flow_steps)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("STAGES ")]
    return json.loads(line.removeprefix("STAGES "))


def test_the_recipe_makes_files_that_load_and_goes_on_where_it_was(tmp_path: Path) -> None:
    first = make(tmp_path, flow_steps=3)
    files = {path.name: path.read_bytes() for path in (tmp_path / "assets").rglob("*.safetensors")}
    autoencoder = (tmp_path / "work" / "autoencoder.pt").stat().st_mtime_ns
    again = make(tmp_path, flow_steps=3)
    assert again == first  # nothing was trained again
    assert (tmp_path / "work" / "autoencoder.pt").stat().st_mtime_ns == autoencoder
    assert {path.name: path.read_bytes() for path in (tmp_path / "assets").rglob("*.safetensors")} == files
    model = load_demo(folder=tmp_path / "assets", rank=2)
    x = model.noise(0, 2)
    cond = model.encode("a small red circle on the left")
    assert model.run([cond], lambda velocity: velocity(x, torch.tensor(0.5))).isfinite().all()
    assert model.decode(x).shape == (2, 64, 64, 3)
