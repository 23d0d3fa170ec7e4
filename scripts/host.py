"""A ComfyUI with this pack, for development and tests.

    python scripts/host.py install                 ComfyUI and its virtual environment in .host
    python scripts/host.py serve                   the same, started; prints its address; Ctrl-C stops it
    python scripts/host.py serve --comfyui FOLDER  a ComfyUI of your own, with its own Python

All that the started ComfyUI reads and writes lies in .host/base, where this checkout is its only custom node; of a
ComfyUI of your own it uses the models and changes nothing. The Makefile calls this (``make host``).
"""

import argparse
import os
import shlex
import signal
import sys
from pathlib import Path

from comfyui_host.environment import create
from comfyui_host.process import ROOT, Host, HostDied, base_folder
from comfyui_host.source import SOURCES, fetch


def main() -> None:
    options = parse()
    if options.comfyui is None:
        folder = options.folder.resolve()
        comfyui = fetch(options.version, folder, shlex.split(options.pip_args))
        python = create(folder, options.torch, shlex.split(options.pip_args))
        models, arguments = None, ["--cpu"]
    else:
        comfyui = options.comfyui.resolve()
        python = options.python or python_of(comfyui)
        models, arguments = comfyui / "models", []
    if options.action == "install":
        print(f"ComfyUI in {comfyui}, its Python {python}")
        return
    if options.arguments is not None:
        arguments = shlex.split(options.arguments)
    base = base_folder(options.folder / "base", models=models)
    serve(Host(comfyui, base, python=python, port=options.port, arguments=arguments))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["install", "serve"])
    parser.add_argument("--version", default=next(iter(SOURCES)), help=f"of ComfyUI: {' or '.join(SOURCES)}")
    parser.add_argument("--folder", type=Path, default=ROOT / ".host", help="where all of this goes")
    parser.add_argument("--torch", default=pinned_torch(), help="what pip is to install as torch")
    parser.add_argument("--pip-args", default="", help="anything else for pip")
    parser.add_argument("--comfyui", type=Path, help="folder of a ComfyUI of your own, which is used as it is")
    parser.add_argument("--python", type=Path, help="the Python of that ComfyUI, if it is not in its venv or .venv")
    parser.add_argument("--port", type=int, default=8188, help="0 takes a free one")
    parser.add_argument("--arguments", help="for ComfyUI; --arguments=--cpu unless it is your own")
    return parser.parse_args()


def pinned_torch() -> str:
    lines = (ROOT / "requirements-dev.txt").read_text().splitlines()
    return next(line for line in lines if line.startswith("torch=="))


def python_of(comfyui: Path) -> Path:
    """The Python of a ComfyUI that somebody installed."""
    places = ("venv/bin/python", ".venv/bin/python", "venv/Scripts/python.exe", "../python_embeded/python.exe")
    return next((comfyui / place for place in places if (comfyui / place).exists()), Path(sys.executable))


def serve(host: Host) -> None:
    """Run it until it ends or Ctrl-C comes."""
    for number in (signal.SIGINT, signal.SIGTERM):  # also where the shell had them ignored
        signal.signal(number, signal.default_int_handler)
    try:
        with host:
            print(f"ComfyUI with this pack is at {host.address}    (its log: {os.path.relpath(host.log)})", flush=True)
            host.process.wait()
        print(f"ComfyUI ended:\n{host.last_lines()}")
    except KeyboardInterrupt:
        print("stopped")
    except HostDied as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
