"""A part of the fuzz: its cases one after another, each failing one kept with its input."""

import json
import shutil
import statistics
import time
from pathlib import Path

from campaigns.progress import FOLDER, Progress
from campaigns.workers import FAULT, Worker, as_case

SHARES = {
    "fuzz-run-files": 0.20,
    "fuzz-prompts": 0.15,
    "fuzz-loras": 0.10,
    "fuzz-conversions": 0.05,
    "fuzz-checkpoints": 0.15,
    "fuzz-rewards": 0.15,
    "fuzz-endpoints": 0.10,
    "fuzz-judges": 0.10,
}
"""Of all mutated inputs."""


def wanted(config, part):
    return round(config.getoption("--fuzz") * SHARES[part])


def fuzz(part, target, count, folder, tell, progress=None):
    """Run the cases that are not done yet; returns the failed ones by number, and leaves figures."""
    progress = progress or Progress(part, count)
    worker = Worker(target, Path(folder))
    try:
        for case in range(count):
            if case in progress.cases:
                continue
            start = time.monotonic()
            outcome = worker.run(case)
            progress.add(**as_case(outcome, time.monotonic() - start))
            if outcome.outcome == FAULT:
                _keep(part, outcome, worker.folder, progress.folder)
            tell.now_and_then(f"{part}: {len(progress.cases)} of {count} {progress.counted()}")
    finally:
        worker.stop()
    failed = {case["case"]: case["words"] for case in progress.cases.values() if case["outcome"] == FAULT}
    seconds = [case["cpu"] for case in progress.cases.values()]
    progress.finish(
        tell,
        **{name: progress.counted().get(name, 0) for name in ("accepted", "sentence", "fault")},
        median_ms=round(1000 * statistics.median(seconds), 2),
        longest_s=round(max(seconds), 2),
        most_mib=max(case["memory"] for case in progress.cases.values()) >> 20,
    )
    return failed


def _keep(part, outcome, folder, kept=FOLDER):
    place = kept / "failed" / f"{part}-{outcome.case}"
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    if (folder / "cases" / f"{outcome.case}").is_dir():
        shutil.copytree(folder / "cases" / f"{outcome.case}", place, symlinks=True)
    place.mkdir(exist_ok=True)
    (place / "OUTCOME.json").write_text(json.dumps(as_case(outcome), indent=1))


def told(failed, part):
    """For the assertion: which cases failed, and the first of them."""
    first = next(iter(failed.items()), None)
    return f"{len(failed)} failed: {sorted(failed)}; inputs in .long/failed/{part}-*; the first: {first}"
