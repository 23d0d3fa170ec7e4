"""The pages of the site as programs: their code blocks, run in order in an empty folder.

A fenced block is run as it stands: Python in the namespace of its page, ``mixgrpo`` commands by the command line's
own entry. One whose first line is ``# name.ext`` is written into that file instead. What is only shown is indented.
"""

import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
KILLED = "<!-- killed after its first iteration -->"
_BLOCK = re.compile(rf"({re.escape(KILLED)}\n)?^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# ([\w/]+\.\w+)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and whether its program is killed on the way."""

    language: str
    text: str
    killed: bool

    @property
    def file(self) -> str | None:
        """The file that it is the content of."""
        found = _FILE.match(self.text)
        return found[1] if found else None


def pages() -> list[Path]:
    return sorted(DOCS.rglob("*.md"))


def blocks(page: Path) -> list[Block]:
    return [Block(language, text, bool(killed)) for killed, language, text in _BLOCK.findall(page.read_text("utf-8"))]


def parts(page: Path) -> tuple[list[Block], list[Block]]:
    """The blocks of a page up to the kill, and those after it."""
    found = blocks(page)
    cut = next((place + 1 for place, block in enumerate(found) if block.killed), len(found))
    return found[:cut], found[cut:]


def run(part: list[Block], smaller: Mapping[str, str], mixgrpo: Callable[[list[str]], int]) -> None:
    """Run blocks in the working folder, with numbers made ``smaller``."""
    names: dict[str, object] = {}
    for block in part:
        text = block.text
        for number, less in smaller.items():
            text = text.replace(number, less)
        if block.file:
            place = Path(block.file)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, "utf-8")
        elif block.language == "python":
            exec(compile(text, "a page", "exec"), names)
        elif block.language == "sh":
            _commands(text, block.killed, mixgrpo)


def _commands(text: str, killed: bool, mixgrpo: Callable[[list[str]], int]) -> None:
    for line in text.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "mixgrpo", f"only mixgrpo is run, found {line}: indent what is only shown"
        if killed:
            _kill(arguments)
        else:
            assert mixgrpo(arguments) == 0, line


def _kill(arguments: list[str]) -> None:
    """A process of its own, killed as soon as the checkpoint of its first iteration stands."""
    code = f"from mixgrpo_core.cli import main; main({arguments!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not list(Path("runs").glob("*/checkpoints/000001.*")):
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
