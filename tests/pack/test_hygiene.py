"""The pack as it is published: a stranger's ComfyUI runs it, and the registry's scanner reads every file of it."""

import ast
import re
import subprocess
import sys
from pathlib import PurePosixPath

import pytest
from published import ROOT, published_files

FILES = published_files()
PYTHON = [name for name in FILES if name.endswith(".py")]
SCRIPTS = [name for name in FILES if name.endswith((".js", ".mjs"))]

BINARY = (
    "mixgrpo_core/assets/demo/*.safetensors",
    "mixgrpo_core/assets/demo_edit/*.safetensors",
    "mixgrpo_core/assets/demo/*/*.safetensors",
    "example_workflows/*.jpg",
)
TEXT_SUFFIXES = {".py", ".md", ".json", ".js", ".mjs", ".css", ".txt", ".toml", ".typed", ".LICENSE"}
NEEDED = {"__init__.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE", "nodes/__init__.py"} | {
    "mixgrpo_core/__init__.py",
    "mixgrpo_core/assets/demo/transformer/diffusion_pytorch_model.safetensors",
    "web/events.js",
    "web/lib/uPlot.LICENSE",
    "web/docs/MixGRPO_TrainLora.md",
}
DEVELOPMENT = (
    *(".*", "tests", "scripts", "benchmarks", "judge"),
    *(
        "Makefile",
        "mkdocs.yml",
        "examples",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "ARCHITECTURE.md",
        "requirements-dev.txt",
        "docs",
    ),
)

# Reaching the network, starting programs, running text as code. The pack's own routes need one name of aiohttp.
FORBIDDEN_MODULES = {
    *("socket", "socketserver", "ssl", "selectors", "http", "urllib", "urllib3", "requests", "httpx", "aiohttp"),
    *("websocket", "websockets", "ftplib", "smtplib", "xmlrpc", "webbrowser", "huggingface_hub", "subprocess"),
    *("multiprocessing", "pty", "ctypes", "cffi", "pickle", "marshal", "shelve", "dill", "cloudpickle", "code"),
    *("codeop", "runpy", "pip", "dotenv"),
}
ALLOWED_IMPORTS = {("nodes/live/routes.py", "aiohttp.web"), ("__init__.py", "comfyui_version.__version__")}
ALLOWED_ATTRIBUTES = {("mixgrpo_core/cli/imports.py", "sys", "path")}
"""The command line, which ComfyUI does not run, searches the working folder for a module of the user's."""
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "breakpoint", "input"}
FORBIDDEN_ATTRIBUTES = {
    "os": {"environ", "environb", "getenv", "putenv", "unsetenv", "system", "popen", "fork", "startfile", "kill"},
    "torch": {"hub"},
    "sys": {"path", "meta_path", "path_hooks"},
    "asyncio": {"create_subprocess_exec", "create_subprocess_shell", "open_connection"},
}
FORBIDDEN_WORDS = re.compile(r"\b(subprocess|os\.environ|getenv|urllib|urlopen|huggingface|import requests|base64)\b")
FORBIDDEN_IN_SCRIPTS = re.compile(
    r"\beval\(|\bnew Function\b|\bXMLHttpRequest\b|\bWebSocket\(|\bEventSource\(|\bsendBeacon\b|\bdocument\.cookie\b"
    r"|\bimport\s*\(|\bfrom\s+[\"']https?:|\binnerHTML\b|(?<![.\w])(?<!async )fetch\("
)


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def matches(name, patterns):
    return any(PurePosixPath(name).match(pattern) for pattern in patterns)


def python_faults(name, source):
    """Sentences about what a published Python file may not do."""
    for node in ast.walk(ast.parse(source)):
        faults = [*import_faults(name, node), *call_faults(node), *attribute_faults(name, node)]
        yield from (f"{name}:{node.lineno} {fault}" for fault in faults)


def import_faults(name, node):
    for module in imported(node):
        top = module.split(".")[0]
        if top in FORBIDDEN_MODULES and (name, module) not in ALLOWED_IMPORTS:
            yield f"imports {module}"
        if top in ("mixgrpo_core", "nodes", "mixgrpo_pack"):
            yield f"imports {module} by its absolute name"
        of_the_host = top.startswith("comfy") or top in ("folder_paths", "server", "execution")
        if of_the_host and not name.startswith("nodes/") and (name, module) not in ALLOWED_IMPORTS:
            yield f"imports {module}, which only nodes/ may"


def call_faults(node):
    if not isinstance(node, ast.Call):
        return
    if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
        yield f"calls {node.func.id}"
    name = getattr(node.func, "attr", None)
    if name == "from_pretrained" and not says_true(node, "local_files_only"):
        yield "calls from_pretrained without local_files_only=True"
    if name == "load" and getattr(node.func.value, "id", None) == "torch" and not says_true(node, "weights_only"):
        yield "calls torch.load without weights_only=True"


def says_true(call, argument):
    """Whether a keyword argument is the literal True."""
    found = [keyword.value for keyword in call.keywords if keyword.arg == argument]
    return bool(found) and isinstance(found[0], ast.Constant) and found[0].value is True


def attribute_faults(name, node):
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        owner, what = node.value.id, node.attr
        if (name, owner, what) in ALLOWED_ATTRIBUTES:
            return
        if what in FORBIDDEN_ATTRIBUTES.get(owner, ()) or (owner == "os" and what.startswith(("spawn", "exec"))):
            yield f"uses {owner}.{what}"


def imported(node):
    """Absolute modules that an import statement names; ``from a import b`` is a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def test_what_the_pack_needs_is_in_it():
    assert sorted(NEEDED - set(FILES)) == []
    assert len(PYTHON) > 60 and len(SCRIPTS) > 3


def test_no_file_is_for_development_only():
    assert [name for name in FILES if PurePosixPath(name).parts[0] in DEVELOPMENT or name.startswith(".")] == []


def test_the_only_binary_files_are_the_demo_model_and_the_thumbnails():
    others = [name for name in FILES if not matches(name, BINARY)]
    unknown = [name for name in others if PurePosixPath(name).suffix not in TEXT_SUFFIXES and name != "LICENSE"]
    assert unknown == []
    assert [name for name in others if "\0" in text(name)] == []


def test_it_is_small():
    assert sum((ROOT / name).stat().st_size for name in FILES) < 13e6


@pytest.mark.parametrize("name", PYTHON)
def test_a_python_file_reaches_no_network_starts_no_program_and_runs_no_text(name):
    assert list(python_faults(name, text(name))) == []
    assert FORBIDDEN_WORDS.findall(text(name)) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_of_the_page_talks_to_nobody_but_through_comfyuis_api(name):
    assert FORBIDDEN_IN_SCRIPTS.findall(text(name)) == []


def test_what_the_publishing_action_checks():
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select=S102,S307", *PYTHON]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    "source",
    [
        "import socket",
        "def f():\n    from urllib import request",
        "import urllib.request as u",
        "from subprocess import run",
        "from aiohttp import ClientSession",
        "eval('1')",
        "exec('1')",
        "import os\nos.environ['A']",
        "import os\nos.spawnl(0, 'a')",
        "import torch\ntorch.load('a.pt')",
        "import torch\ntorch.load('a.pt', weights_only=False)",
        "import mixgrpo_core.training.loop",
        "from mixgrpo_core import train",
        "import comfy.sd",
        "Kind.from_pretrained(place)",
        "Kind.from_pretrained(place, local_files_only=False)",
    ],
)
def test_the_check_of_python_files_sees_it(source):
    assert len(list(python_faults("mixgrpo_core/x.py", source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "network.requires_grad_(False).eval()",
        "import os\nos.replace('a', 'b')",
        "from ..mixgrpo_core import train",
        "Kind.from_pretrained(place, local_files_only=True)",
        "import torch\ntorch.load('a.pt', weights_only=True)",
        "import re\nre.compile('a')",
    ],
)
def test_the_check_of_python_files_lets_it_pass(source):
    assert list(python_faults("mixgrpo_core/x.py", source)) == []


@pytest.mark.parametrize(
    "script", ["fetch('/a')", "new WebSocket(u)", "eval(a)", "import { a } from 'https://a'", "a.innerHTML = b"]
)
def test_the_check_of_scripts_sees_it(script):
    assert FORBIDDEN_IN_SCRIPTS.search(script)


def test_the_list_of_files_follows_comfyignore():
    assert "tests/pack/test_hygiene.py" not in FILES and "nodes/__init__.py" in FILES
    assert not any(name.startswith("nodes/") for name in published_files(more_patterns=["nodes"]))
