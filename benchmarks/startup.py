"""What has to be waited for: imports, the help, the demo's first picture and first iteration, and its peak memory.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/startup.py [--before TREE]

CPU seconds of fresh processes, medians of rounds in turns; the machine may be shared. ``TREE`` is another checkout of
this package, which is measured beside this one. Writes ``startup.md``.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_suffix(".md")
ROUNDS = 5
COMMAND = "import sys; from mixgrpo_core.cli import main; sys.exit(main())"
IMPORTS = {
    "`import torch`": "import torch",
    "`import mixgrpo_core`": "import mixgrpo_core",
    "`from mixgrpo_core import train`": "from mixgrpo_core import train",
    "`load_demo()`": "from mixgrpo_core.models import load_demo; load_demo()",
}
HELPS = {"`mixgrpo --help`": ["--help"], "`mixgrpo train --help`": ["train", "--help"]}
HEAD = """# Start-up

`benchmarks/startup.py`: CPU seconds of fresh processes on one thread, medians of {rounds} rounds in turns on a machine
that may be shared, from the start of Python on. *First picture*: the first file of the run's gallery is there. *First
iteration*: its line is in `metrics.jsonl`; before it all held-out prompts are evaluated, as in every run that has some.

The garbage collector waits while much is imported (`support/collector.py`), the pictures of an entry of the gallery
share calls of the network, and the step that is timed before a run decodes a few images only. What is left until the
first picture is nearly all imports: of torch, and of diffusers with peft and transformers.
"""


@dataclass(frozen=True)
class Spent:
    """CPU seconds, and the most bytes of memory."""

    seconds: float
    peak: int = 0


def whole(tree: Path, code: str, arguments: Sequence[str] = ()) -> Spent:
    """A process from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=tree, env=_env(tree), check=True, **_QUIET)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Spent(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def demo(tree: Path) -> list[Spent]:
    """A demo of two iterations: its first picture, its first line of metrics, its end."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-c", COMMAND, "demo", "--out", str(out), "--iterations", "2"]
        process = subprocess.Popen(command, cwd=tree, env=_env(tree), **_QUIET)
        found = []
        for ready in (_there(out / "gallery/000000/1.png"), _there(out / "metrics.jsonl")):
            while not ready():
                if process.poll() is not None:
                    raise RuntimeError(f"the demo of {tree} ended before it was to")
                time.sleep(0.005)
            found.append(Spent(_cpu(process.pid)))
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0
        shutil.rmtree(out, ignore_errors=True)
    return [*found, Spent(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)]


def _there(path: Path) -> Callable[[], bool]:
    return lambda: path.exists() and path.stat().st_size > 0


def _cpu(process: int) -> float:
    """Seconds that a process has computed."""
    told = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


_QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def _env(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{tree / 'judge'}", "OMP_NUM_THREADS": "1"}


def measured(tree: Path) -> dict[str, Spent]:
    """One round."""
    found = {name: whole(tree, code) for name, code in IMPORTS.items()}
    found |= {name: whole(tree, COMMAND, arguments) for name, arguments in HELPS.items()}
    marks = ("`mixgrpo demo`: first picture", "first iteration", "all of a demo of two iterations")
    return found | dict(zip(marks, demo(tree), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    trees = {**({"before": options.before.resolve()} if options.before else {}), "now": ROOT}
    rounds = [{name: measured(tree) for name, tree in trees.items()} for _ in range(options.rounds)]
    lines = [f"| | {' | '.join(f'{name}, s' for name in trees)} |", "|---" * (1 + len(trees)) + "|"]
    for row in rounds[0]["now"]:
        cells = [statistics.median(one[name][row].seconds for one in rounds) for name in trees]
        lines.append(f"| {row} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")
    peaks = [max(one[name][row].peak for one in rounds) for name in trees]
    lines.append(f"| peak memory of that demo, MB | {' | '.join(f'{peak / 1e6:.0f}' for peak in peaks)} |")
    text = "\n".join([HEAD.format(rounds=options.rounds), *lines, ""])
    PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
