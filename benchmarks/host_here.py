"""A ComfyUI in this process, with this pack loaded as ComfyUI loads it; for benchmarks that time what is inside."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACK = "mixgrpo_pack"


def begin(comfyui: Path, arguments: Sequence[str] = ("--cpu",), *, whole: bool = False) -> None:
    """Afterwards ``comfy`` can be imported, as started with ``arguments``, and the pack is ``mixgrpo_pack``.

    Args:
        whole: with all that ComfyUI's ``main.py`` sets up before it serves, its dynamic memory among it.

    Raises:
        FileNotFoundError: there is no ComfyUI in that folder.
    """
    comfyui = comfyui.resolve()
    if not (comfyui / "comfyui_version.py").exists():
        raise FileNotFoundError(f"expected a ComfyUI in {comfyui}, found none: `make host` gets one, or give its path")
    sys.path.insert(0, str(comfyui))
    given, sys.argv = sys.argv, [sys.argv[0], "--disable-api-nodes", *arguments]
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args  # it reads the arguments now

        if whole:
            importlib.import_module("main")
    finally:
        sys.argv = given
    place = ROOT / "__init__.py"
    spec = importlib.util.spec_from_file_location(PACK, place, submodule_search_locations=[str(ROOT)])
    sys.modules[PACK] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[PACK])
