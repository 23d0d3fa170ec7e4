"""A real ComfyUI in this process: ``pytest tests/host --comfyui=PATH`` with the Python of its environment.

The pack is loaded as ComfyUI loads it, by its place, under the name ``mixgrpo_pack``; tests import
``mixgrpo_pack.nodes...`` and ``mixgrpo_pack.mixgrpo_core...``.
"""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def pytest_configure(config):
    comfyui = config.getoption("--comfyui").resolve()
    if not (comfyui / "comfyui_version.py").exists():
        raise pytest.UsageError(f"no ComfyUI in {comfyui}: run `make host`, or give its path with --comfyui=")
    sys.path.insert(0, str(comfyui))
    sys.path.append(str(Path(__file__).parent))
    arguments, sys.argv = sys.argv, [sys.argv[0], "--cpu", "--disable-api-nodes"]
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args
    finally:
        sys.argv = arguments
    _load_pack()


def _load_pack():
    place = ROOT / "__init__.py"
    spec = importlib.util.spec_from_file_location("mixgrpo_pack", place, submodule_search_locations=[str(ROOT)])
    module = importlib.util.module_from_spec(spec)
    sys.modules["mixgrpo_pack"] = module
    spec.loader.exec_module(module)
