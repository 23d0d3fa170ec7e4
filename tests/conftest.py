from pathlib import Path

from hypothesis import settings

# The same examples in every run, and no time limit per example: a busy machine is no failure.
settings.register_profile("mixgrpo", deadline=None, derandomize=True)
settings.load_profile("mixgrpo")

pytest_plugins = ["cost", "campaigns.options"]

# They need the Python of a ComfyUI: `make test-host` and `make test-web`, or their folder's name on the command line.
HOST = Path(__file__).resolve().parents[1] / ".host"
collect_ignore = ["host", "web"]


def pytest_addoption(parser):
    # to be written --comfyui=PATH: a path that stands alone would be taken for a folder of tests
    parser.addoption("--comfyui", type=Path, default=HOST / "ComfyUI-0.30.0", help="folder of a ComfyUI")
    parser.addoption("--accept-nodes", action="store_true", help="write the nodes as they are into nodes.json")
