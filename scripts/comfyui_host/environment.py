"""A virtual environment that runs ComfyUI and the tests of this pack."""

import hashlib
import os
import subprocess
import venv
from pathlib import Path

HERE = Path(__file__).parent
JUDGE = HERE.parents[1] / "judge"  # the client of judges, which the tests of its node need
# The releases that belong to a torch. Beside another torch, name them with it: TORCH="torch torchvision torchaudio".
COMPANIONS = {"torch==2.13.0": ["torchvision==0.28.0", "torchaudio==2.11.0"]}


def create(folder: Path, torch: str, pip_arguments: list[str]) -> Path:
    """Make the environment ``folder``/venv, unless it is there and complete; returns its Python.

    ``torch`` is what pip is to install as torch, options such as an index included.
    """
    place = folder / "venv"
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    recipe = b"".join((HERE / name).read_bytes() for name in ("requirements.txt", "alone.txt", "environment.py"))
    recipe = hashlib.sha256(recipe + torch.encode()).hexdigest()
    stamp = place / "complete.sha256"
    if stamp.exists() and stamp.read_text() == recipe:
        return python
    venv.EnvBuilder(with_pip=True, clear=False).create(place)
    pip = [str(python), "-m", "pip", "install", *pip_arguments]
    rest = ["--requirement", str(HERE / "requirements.txt")]
    alone = ["--requirement", str(HERE / "alone.txt"), *COMPANIONS.get(torch, ["torchvision", "torchaudio"])]
    if torch in COMPANIONS:
        subprocess.run([*pip, torch, *rest], check=True)
    else:  # an index named in ``torch`` is for torch only
        subprocess.run([*pip, *torch.split()], check=True)
        subprocess.run([*pip, *rest], check=True)
    subprocess.run([*pip, "--no-deps", *alone], check=True)
    subprocess.run([*pip, "--editable", str(JUDGE)], check=True)
    subprocess.run([str(python), "-c", MEND], check=True)
    stamp.write_text(recipe)
    return python


# ComfyUI imports torchvision and torchaudio. Their CUDA builds, which a package index may offer as the only ones,
# cannot be imported beside a CPU build of torch: torchvision's modules name two operators of a library that does not
# load, and torchaudio insists on its own. Python alone is enough for what ComfyUI does with them on a CPU.
MEND = '''
import importlib.util, pathlib, subprocess, sys, torch

def broken(name):
    return subprocess.run([sys.executable, "-c", "import " + name], capture_output=True).returncode != 0

def folder(name):
    return pathlib.Path(importlib.util.find_spec(name).origin).parent

if torch.version.cuda is None and broken("torchvision"):
    with (folder("torchvision") / "extension.py").open("a") as file:
        file.write("""
if not _has_ops():  # added: a CUDA build beside a CPU torch
    _named_at_import = torch.library.Library("torchvision", "FRAGMENT")
    _named_at_import.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _named_at_import.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
""")
if torch.version.cuda is None and broken("torchaudio"):
    for library in (folder("torchaudio") / "lib").glob("*.so"):
        library.unlink()
for name in ("torchvision", "torchaudio"):
    if broken(name):
        sys.exit("the installed " + name + " does not fit torch " + torch.__version__ + ": name it in TORCH too")
'''
