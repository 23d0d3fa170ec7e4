"""The list of folders is a test: imports go down it, never in circles, and heavy libraries stay where they belong."""

import subprocess
import sys
from pathlib import Path

import pytest
from layers import House, bound_names

ROOT = Path(__file__).resolve().parents[2]
CORE = House(
    ROOT / "mixgrpo_core",
    # From the ground up: each may import from those before it.
    ("support", "shapes", "models", "rewards", "sampling", "advantages", "objectives", "evaluation", "settings")
    + ("runs", "diagnosis", "training", "views", "demo", "cli", ""),
)
HOSTS = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "server", "nodes", "execution"}
HEAVY = {"diffusers", "peft", "transformers", "accelerate", "matplotlib", "tyro", "rich", "tensorboard"}
PLAIN = {*sys.stdlib_module_names, "torch", "numpy", "safetensors", "PIL"}
"""What the core needs where it does not say otherwise."""
AT_HOME = {  # the parts that stand on a heavy library, which only who uses them imports
    "models.diffusers": {"diffusers", "peft", "torchao", "bitsandbytes", "transformers"},
    "models.families": {"diffusers", "transformers"},
    "views.figures": {"matplotlib"},
    "cli": {"rich", "tyro", "tensorboard", "tomllib", "tomli", "diffusers", "transformers"},
}
OPTIONAL = {"transformers", "tokenizers", "sentencepiece", "rapidocr", "onnxruntime", "mixgrpo_judge"}
"""What rewards import when they are used."""


def test_the_parser_sees_the_imports():
    """A parser that saw nothing would pass everything below."""
    assert {"sampling.schedule", "sampling.windows", "support.seeds"} <= CORE.graph["sampling.planners"]
    assert "objectives.grpo" in CORE.graph["objectives"]
    assert {"shapes.captions", "rewards.port"} <= CORE.graph["rewards.shapes"]
    assert "diffusers" in CORE.packages["models.families.demo"]
    assert len(CORE.modules) > 150


def test_every_folder_has_its_place_in_the_list():
    assert CORE.without_a_floor() == []
    assert CORE.floors_without_modules() == []


def test_imports_only_go_down():
    assert CORE.imports_that_go_up() == []


def test_everything_imported_from_the_core_is_there():
    assert CORE.imports_of_nothing() == []


def test_no_module_imports_itself_through_others():
    assert CORE.circles() == {}


def test_no_name_of_a_package_is_both_a_module_and_something_else():
    assert CORE.names_that_shadow() == []


def test_a_name_that_shadows_a_module_is_seen(tmp_path):
    (tmp_path / "house/rooms").mkdir(parents=True)
    (tmp_path / "house/__init__.py").write_text("from .rooms.train import train\n")
    (tmp_path / "house/rooms/__init__.py").write_text("from .train import train\nfrom . import other\n")
    for name in ("train", "other"):
        (tmp_path / f"house/rooms/{name}.py").write_text(f"def {name}(): ...\n")
    assert House(tmp_path / "house", ("rooms", "")).names_that_shadow() == ["rooms.train"]


def test_the_core_knows_no_host_and_not_its_own_name():
    """The package lives in two homes: imports are relative."""
    assert {name: found for name in CORE.modules if (found := CORE.packages[name] & (HOSTS | {"mixgrpo_core"}))} == {}


def test_the_core_needs_torch_numpy_safetensors_and_pillow_only():
    found = {}
    for name in CORE.modules:
        home = next((packages for place, packages in AT_HOME.items() if f"{name}.".startswith(f"{place}.")), set())
        optional = OPTIONAL if name.startswith("rewards.") else set()
        extra = (CORE.packages_at_import(name) - PLAIN - home) | (CORE.packages[name] - PLAIN - home - optional)
        if extra:
            found[name] = extra
    assert found == {}


def test_importing_the_core_loads_nothing_heavy():
    code = f"import sys, mixgrpo_core; print([name for name in {sorted(HEAVY)!r} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, timeout=120
    )
    assert result.stdout.strip() == "[]"


def test_importing_the_core_needs_no_other_name_for_it(tmp_path):
    """The pack is loaded by ComfyUI as a part of another package."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/__init__.py").write_text("")
    (tmp_path / "pack/mixgrpo_core").symlink_to(CORE.folder)
    code = "import sys, pack.mixgrpo_core as core; core.mixgrpo(); print('mixgrpo_core' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True, timeout=120
    )
    assert result.stdout.strip() == "False"


def test_only_the_command_line_prints():
    assert [place for place in CORE.prints() if not place.startswith("cli.")] == []


def test_files_and_functions_stay_short():
    assert CORE.too_long() == []


def test_every_folder_of_code_is_a_package_so_that_an_installed_copy_has_it():
    folders = {path.parent for path in CORE.folder.rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("package", [name for name, path in CORE.modules.items() if path.name == "__init__.py"])
def test_what_a_room_exports_is_there(package):
    """Its ``__all__`` names what its ``__init__`` binds, and nothing else."""
    tree = CORE.trees[package]
    listed = [node for node in tree.body if "__all__" in getattr(getattr(node, "targets", [None])[0], "id", "")]
    if listed:
        names = [element.value for element in listed[0].value.elts]
        assert sorted({*names} - {*bound_names(tree)}) == []
        assert len({*names}) == len(names)
