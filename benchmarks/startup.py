"""What has to be waited for: imports, the help, the demo's first picture and first iteration, and its peak memory.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/startup.py [--before TREE]

CPU seconds of fresh processes, medians of rounds in turns; the machine may be shared. ``TREE`` is another checkout of
this package, which is measured beside this one. Writes ``startup.md``.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
iteration*: its line is in `metrics.jsonl`. In it all held-out prompts are evaluated once its pictures are there, as in
every run that has some, and again after the last iteration: a demo of one iteration evaluates twice in it.

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


FIRST_PICTURE = "`mixgrpo demo`: first picture"
FIRST_TRAINING = "first iteration of two, which the last evaluation is not in"
FIRST_AND_LAST = "first iteration of one, which the last evaluation is in, too"
WHOLE = "all of a demo of one iteration"
PEAK = "peak memory of that demo, MB"
ROWS = (*IMPORTS, *HELPS, FIRST_PICTURE, FIRST_TRAINING, FIRST_AND_LAST, WHOLE, PEAK)


def one_iteration(tree: Path) -> dict[str, Spent]:
    """A demo of one iteration: its first picture, its line of metrics, its end."""
    with tempfile.TemporaryDirectory() as folder, _demo(tree, Path(folder), 1) as process:
        found = {
            FIRST_PICTURE: _until(process, Path(folder) / "run/gallery/000000/1.png"),
            FIRST_AND_LAST: _until(process, Path(folder) / "run/metrics.jsonl"),
        }
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"the demo of {tree} ended with status {process.returncode}")
    return {**found, WHOLE: Spent(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)}


def first_training(tree: Path) -> dict[str, Spent]:
    """A demo of two iterations up to its first line of metrics, where it is killed."""
    with tempfile.TemporaryDirectory() as folder, _demo(tree, Path(folder), 2) as process:
        return {FIRST_TRAINING: _until(process, Path(folder) / "run/metrics.jsonl")}


@contextmanager
def _demo(tree: Path, folder: Path, iterations: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A demo in the folder ``run``, which is over behind it."""
    command = [sys.executable, "-c", COMMAND, "demo", "--out", str(folder / "run"), "--iterations", str(iterations)]
    process = subprocess.Popen(command, cwd=tree, env=_env(tree), **_QUIET)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _until(process: "subprocess.Popen[bytes]", path: Path) -> Spent:
    """What a process has computed when there is something in a file."""
    while not (path.exists() and path.stat().st_size):
        if process.poll() is not None:
            raise RuntimeError(f"the demo ended before {path.name} was there")
        time.sleep(0.005)
    return Spent(_cpu(process.pid))


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
    return found | first_training(tree) | one_iteration(tree)


def page(rounds: int, rows: Mapping[str, Sequence[str]], trees: Sequence[str]) -> str:
    """The page, of cells by row."""
    lines = [f"| | {' | '.join(f'{name}, s' for name in trees)} |", "|---" * (1 + len(trees)) + "|"]
    lines += [f"| {name} | {' | '.join(rows[name])} |" for name in ROWS]
    return "\n".join([HEAD.format(rounds=rounds), *lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    trees = {**({"before": options.before.resolve()} if options.before else {}), "now": ROOT}
    rounds = [{name: measured(tree) for name, tree in trees.items()} for _ in range(options.rounds)]
    rows = {
        row: [f"{statistics.median(one[name][row].seconds for one in rounds):.2f}" for name in trees]
        for row in rounds[0]["now"]
    }
    rows[PEAK] = [f"{max(one[name][WHOLE].peak for one in rounds) / 1e6:.0f}" for name in trees]
    text = page(options.rounds, rows, list(trees))
    PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
