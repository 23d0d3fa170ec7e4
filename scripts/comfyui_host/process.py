"""Running ComfyUI with this checkout as its only custom node."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class HostDied(RuntimeError):
    """ComfyUI did not start, or ended by itself; the message ends with the last lines of its log."""


class Host:
    """One ComfyUI process on 127.0.0.1; a context manager that stops it however the block ends.

    ``comfyui`` is its folder, ``base`` the folder that holds all it reads and writes (made by :func:`base_folder`),
    ``python`` the Python of its environment. ``port`` 0 takes a free one. What it prints goes to ``log``.
    """

    def __init__(self, comfyui, base, *, python, port=0, arguments=("--cpu",), environment=None):
        self.comfyui, self.base = Path(comfyui).resolve(), Path(base).resolve()
        if not (self.comfyui / "main.py").is_file():
            raise FileNotFoundError(f"expected a ComfyUI in {self.comfyui}, found no main.py there")
        self.port = port or free_port()
        self.log = self.base / "comfyui.log"
        self._command = [
            *(str(python), "main.py", *arguments),
            *("--listen", "127.0.0.1", "--port", str(self.port), "--disable-api-nodes"),
            *("--base-directory", str(self.base), "--database-url", "sqlite:///:memory:"),
        ]
        self._environment = {**os.environ, **(environment or {})}
        self.process = None

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self, timeout=180):
        """Start the process and wait until it answers; seconds. Returns self."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=self.comfyui, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise HostDied(f"ComfyUI ended with {self.process.returncode} while starting:\n{self.last_lines()}")
            if self.answers():
                return self
            time.sleep(0.2)
        self.stop()
        raise HostDied(f"ComfyUI did not answer within {timeout} s:\n{self.last_lines()}")

    def answers(self):
        try:
            with urllib.request.urlopen(f"{self.address}/system_stats", timeout=5) as reply:
                return "system" in json.load(reply)
        except (urllib.error.URLError, OSError, ValueError):
            return False

    def stop(self, timeout=20):
        """End the process; after ``timeout`` seconds, by force."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self):
        """What ``kill -9`` does: the process gets no chance to tidy up. ``start`` runs it again on the same folders."""
        self.process.kill()
        self.process.wait()

    def last_lines(self, count=40):
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])

    def __enter__(self):
        running = self.process is not None and self.process.poll() is None
        return self if running else self.start()

    def __exit__(self, *error):
        self.stop()


def base_folder(folder, pack=ROOT, models=None):
    """Make the folder that a ComfyUI works in: ``pack`` is its one custom node, ``models`` its models if given."""
    folder = Path(folder).resolve()
    for name in ("input", "output", "temp", "user", "custom_nodes"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    link(folder / "custom_nodes" / "mixgrpo", Path(pack).resolve())
    if models is None:
        (folder / "models").mkdir(exist_ok=True)
    else:
        link(folder / "models", Path(models).resolve())
    return folder


def link(place, target):
    """Make ``place`` a link to ``target``; an older link is replaced, a folder of its own is left alone."""
    if place.is_symlink():
        place.unlink()
    if not place.exists():
        place.symlink_to(target, target_is_directory=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
