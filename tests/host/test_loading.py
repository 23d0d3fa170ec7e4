"""How the published pack is loaded: what ComfyUI reads of it, what an old one logs, and what is not imported."""

import importlib.util
import logging
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from published import export

ROOT = Path(__file__).resolve().parents[2]


def load(monkeypatch, caplog, version):
    """Load the pack as ComfyUI does where its version is another (None: it does not say) and it has no comfy_api."""
    host = types.ModuleType("comfyui_version")
    host.__version__ = version
    monkeypatch.setitem(sys.modules, "comfyui_version", host if version else None)
    for name in [name for name in sys.modules if name.split(".")[0] == "comfy_api"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "comfy_api", None)
    place = ROOT / "__init__.py"
    spec = importlib.util.spec_from_file_location("old_pack", place, submodule_search_locations=[str(ROOT)])
    with caplog.at_level(logging.INFO):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("version", ["0.24.0", "0.3.40", "0.16.3", None])
def test_an_old_host_logs_one_plain_sentence(version, monkeypatch, caplog):
    [sentence] = load(monkeypatch, caplog, version)
    assert f"ComfyUI 0.24.1 or newer, and this is {version or 'an older one'}: please update" in sentence


@pytest.mark.parametrize("version", ["0.24.1", "0.30.0", "0.100.0", "1.0.0"])
def test_a_host_that_is_new_enough_logs_nothing(version, monkeypatch, caplog):
    assert load(monkeypatch, caplog, version) == []


def test_comfyui_reads_the_packs_description_of_itself():
    from comfy_config.config_parser import extract_node_configuration

    found = extract_node_configuration(str(ROOT))
    assert found.project.name == "mixgrpo" and "ComfyUI" not in found.project.name
    assert found.project.version.count(".") == 2
    assert found.project.license.file == "LICENSE"
    assert found.project.supported_comfyui_version == ">=0.24.1"
    assert found.project.supported_os == ["OS Independent"]
    assert found.tool_comfy.display_name
    assert not found.tool_comfy.web, "WEB_DIRECTORY registers the scripts; both would load them twice"


# What a user's ComfyUI need not have. Loading the pack, and asking it for all it tells the server, may need none.
NOT_IN_THE_HOST = ("diffusers", "peft", "accelerate", "matplotlib", "tyro", "rich", "tensorboard")
LOAD = """
import asyncio, os, sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in NAMES else PathFinder.find_spec(name, path, target)

def load(pack, hide):
    if hide:
        sys.meta_path = [Hiding if finder is PathFinder else finder for finder in sys.meta_path]
    server.PromptServer(asyncio.new_event_loop())
    before = set(sys.modules)
    assert asyncio.run(nodes.load_custom_node(pack))
    ours = [name for name in nodes.NODE_CLASS_MAPPINGS if name.startswith("MixGRPO_")]
    for name in ours:
        nodes.NODE_CLASS_MAPPINGS[name].GET_NODE_INFO_V1()
    fresh = {name.split(".")[0] for name in set(sys.modules) - before}
    print("FOUND", len(ours), sorted(fresh & NAMES), "mixgrpo_core" in fresh, flush=True)

comfyui, pack = sys.argv[1:]
sys.path.insert(0, comfyui)
sys.argv[1:] = ["--cpu", "--disable-api-nodes"]
import comfy.options
comfy.options.enable_args_parsing()
import nodes, server
for hide in (False, True):
    if (child := os.fork()) == 0:
        load(pack, hide)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, f"hidden: {hide}"
"""


@pytest.fixture(scope="module")
def found(request, tmp_path_factory):
    """What was found with them installed, and with them missing: ComfyUI itself is imported once for both."""
    comfyui = request.config.getoption("--comfyui").resolve()
    code = f"NAMES = {set(NOT_IN_THE_HOST)}\n{LOAD}"
    command = [sys.executable, "-c", code, str(comfyui), str(export(tmp_path_factory.mktemp("pack")))]
    result = subprocess.run(command, capture_output=True, text=True, cwd=comfyui, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = [line.split(maxsplit=2) for line in result.stdout.splitlines() if line.startswith("FOUND ")]
    return dict(zip(("installed", "missing"), lines, strict=True)), result.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("case", ["installed", "missing"])
def test_loading_the_pack_needs_and_imports_nothing_that_the_host_lacks(found, case):
    _, nodes, imported = found[0][case]
    assert int(nodes) > 5
    assert imported == "[] False", "these were imported by loading the pack: " + found[1]
