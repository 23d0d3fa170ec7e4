"""A real ComfyUI in this process: ``pytest tests/host --comfyui=PATH`` with the Python of its environment.

The pack is loaded as ComfyUI loads it, by its place, under the name ``mixgrpo_pack``; tests import
``mixgrpo_pack.nodes...`` and ``mixgrpo_pack.mixgrpo_core...``.
"""

import sys
from pathlib import Path

import pytest
from comfyui_host.in_process import load_pack


def pytest_configure(config):
    comfyui = config.getoption("--comfyui").resolve()
    if not (comfyui / "comfyui_version.py").exists():
        raise pytest.UsageError(f"no ComfyUI in {comfyui}: run `make host`, or give its path with --comfyui=")
    sys.path.append(str(Path(__file__).parent))
    load_pack(comfyui)
