"""Images per second of one and of two processes on this machine, and how long ranks wait: ``benchmarks/ranks.md``.

    python benchmarks/ranks.py

Real launches of ``mixgrpo train`` with the demo model, one after the other. A machine that has other work makes them
slower, so the load before each is written down, and the processor's seconds beside those of the clock.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mixgrpo_core.runs.folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
PROMPTS, IMAGES, ITERATIONS, STEPS = 4, 8, 3, 12
RUN = f"""
[prompts]
train = [
  "a small red circle on the left", "a large blue cross in the middle",
  "a small green circle at the top", "a large red square on the right",
]
held_out = ["a small green square at the top"]
[rewards]
shape = "ShapeReward()"
[train]
iterations = {ITERATIONS}
steps = {STEPS}
images_per_prompt = {IMAGES}
prompts_per_iteration = {PROMPTS}
updates = 2
eval_every = 0
"""
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node")


def measured(ranks: int, folder: Path, name: str) -> tuple[str, ...]:
    """A row: what a run of so many processes took."""
    path = folder / name
    launcher = ("-m", *TORCHRUN, str(ranks)) if ranks > 1 else ()
    load, before, start = os.getloadavg()[0], spent(), time.monotonic()
    subprocess.run(
        [sys.executable, *launcher, "-m", "mixgrpo_core.cli", "train", str(folder / "run.toml"), "--out", str(path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    whole, processor = time.monotonic() - start, spent() - before
    reports = RunFolder.open(path).metrics()
    by_rank = [
        report.get("by_rank") or [{"seconds": sum(report["seconds"].values()), "waited": 0}] for report in reports
    ]
    seconds = sum(max(rank["seconds"] for rank in ranked) for ranked in by_rank)
    waited = [
        sum(ranked[rank]["waited"] for ranked in by_rank) / sum(ranked[rank]["seconds"] for ranked in by_rank)
        for rank in range(ranks)
    ]
    images = ITERATIONS * PROMPTS * IMAGES / seconds
    shares = ", ".join(f"{share:.0%}" for share in waited)
    return (str(ranks), f"{images:.1f}", shares, f"{seconds:.1f}", f"{whole:.1f}", f"{processor:.1f}", f"{load:.1f}")


def spent() -> float:
    """Processor seconds of the processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure, and write the page."""
    with tempfile.TemporaryDirectory() as there:
        folder = Path(there)
        (folder / "run.toml").write_text(RUN)
        rows = [measured(ranks, folder, f"run{number}") for number, ranks in enumerate((1, 2, 1, 2))]
    head = (
        "processes",
        "images/s",
        "waited, by rank",
        "s in iterations",
        "s in all",
        "processor s in all",
        "load before",
    )
    table = "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))
    about = (
        f"{ITERATIONS} iterations of {PROMPTS} prompts of {IMAGES} images, {STEPS} steps, two updates, demo model, one",
        f"thread a process, on {os.cpu_count()} cores. Images per second are those of the iterations alone; in all",
        "there are also the start, the report and its pictures. Under a load above the number of cores two processes",
        "also get twice the share of the machine that one gets, so the rates tell nothing of what a second GPU",
        "would bring; the seconds of the processor and the shares of waiting do. Written by `benchmarks/ranks.py`.",
    )
    words = "\n".join(about)
    (ROOT / "benchmarks/ranks.md").write_text(f"# One and two processes\n\n{words}\n\n{table}\n")


if __name__ == "__main__":
    main()
