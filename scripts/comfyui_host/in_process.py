"""The pack inside this Python process, loaded as ComfyUI loads it: by its place, under a name of its own."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = "mixgrpo_pack"


def load_pack(comfyui):
    """Put ComfyUI's folder on the path, for the CPU, and load the pack as the module ``mixgrpo_pack``; returns it."""
    sys.path.insert(0, str(Path(comfyui).resolve()))
    arguments, sys.argv = sys.argv, [sys.argv[0], "--cpu", "--disable-api-nodes"]
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args  # reads the arguments
    finally:
        sys.argv = arguments
    spec = importlib.util.spec_from_file_location(NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return module
