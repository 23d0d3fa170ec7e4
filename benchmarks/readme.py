"""The README's table and pictures: five demo runs, a control with shuffled rewards, and a longer run.

    python benchmarks/readme.py

Every run is ``mixgrpo demo`` as a user starts it (the control trains on rewards dealt to the wrong images). Runs stand
in ``results/readme/`` and are not done twice; the pictures are those of seed 0.
"""

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from demo_runs import RESULTS, Budget, Shuffled, kept_run

from mixgrpo_core.cli.plan import count_costs
from mixgrpo_core.demo import demo_config
from mixgrpo_core.rewards.shapes import ShapeReward
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.views.figures import plan_figure

ROOT = Path(__file__).resolve().parent.parent
RUNS = RESULTS / "readme"
SEEDS = range(5)
LONG = 120
MARKS = ("<!-- demo table -->", "<!-- /demo table -->")


def demo(seed: int, iterations: int | None = None) -> dict[str, Any]:
    """One ``mixgrpo demo``; returns wall seconds of the whole command and the held-out means before and after."""
    name = f"seed-{seed}" if iterations is None else f"seed-{seed}-{iterations}"
    folder, summary = RUNS / name, RUNS / f"{name}.json"
    if not summary.exists():
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-c", "import sys; from mixgrpo_core.cli import main; sys.exit(main())", "demo"]
        more = [] if iterations is None else ["--iterations", str(iterations)]
        begin = time.perf_counter()
        subprocess.run([*command, "--out", str(folder), "--seed", str(seed), *more], check=True)
        wall = time.perf_counter() - begin
        evaluations = [e for line in (folder / "metrics.jsonl").open() for e in json.loads(line)["evaluations"]]
        means = [{name: stats["mean"] for name, stats in e["rewards"].items()} for e in evaluations]
        curve = [{"iteration": e["iteration"], **m} for e, m in zip(evaluations, means, strict=True)]
        summary.write_text(json.dumps({"wall": wall, "curve": curve}))
    return json.loads(summary.read_text())


def control(seed: int) -> dict[str, Any]:
    """The demo with shuffled rewards."""
    config = demo_config(seed=seed)
    budget = Budget(seconds=1e9, every=1e9, images=config.eval_images)
    plain = replace(config, reward_weights={}, eval_every=0)
    return kept_run(RUNS / f"shuffled-{seed}.json", plain, budget, Shuffled(ShapeReward()))


def table(runs: Sequence[dict[str, Any]], shuffled: Sequence[dict[str, Any]], longer: dict[str, Any]) -> str:
    lines = ["| run | adherence before | after | clean before | after | time |", "|---|---|---|---|---|---|"]
    for seed, run in enumerate(runs):
        lines.append(_row(f"`make demo`, seed {seed}", run["curve"], f"{run['wall']:.0f} s"))
    gains = [run["curve"][-1]["adherence"] - run["curve"][0]["adherence"] for run in runs]
    for seed, run in enumerate(shuffled):
        lines.append(_row(f"control: shuffled rewards, seed {seed}", run["curve"], ""))
    lines.append(
        _row(f"longer: {longer['curve'][-1]['iteration']} iterations", longer["curve"], f"{longer['wall']:.0f} s")
    )
    mean, spread = statistics.mean(gains), statistics.stdev(gains)
    rise = f"{100 * mean:.0f} ± {100 * spread:.0f} points over five seeds (least {100 * min(gains):.0f})"
    return "\n".join([*lines, "", f"Adherence rises by {rise}. Two CPU cores; the time is of the whole command."])


def _row(name: str, curve: Sequence[dict[str, Any]], wall: str) -> str:
    first, last = curve[0], curve[-1]
    figures = (first["adherence"], last["adherence"], first["clean"], last["clean"])
    return f"| {name} | {' | '.join(f'{figure:.3f}' for figure in figures)} | {wall} |"


def put_into_readme(words: str) -> None:
    path = ROOT / "README.md"
    text = path.read_text()
    start, stop = text.index(MARKS[0]) + len(MARKS[0]), text.index(MARKS[1])
    path.write_text(f"{text[:start]}\n{words}\n{text[stop:]}")


def main() -> None:
    RUNS.mkdir(parents=True, exist_ok=True)
    runs = [demo(seed) for seed in SEEDS]
    longer = demo(0, LONG)
    shuffled = [control(seed) for seed in (0, 1)]
    put_into_readme(table(runs, shuffled, longer))
    pictures = ROOT / "docs"
    pictures.mkdir(exist_ok=True)
    shutil.copy(RUNS / "seed-0" / "before_after.png", pictures / "demo-before-after.png")
    shutil.copy(RUNS / "seed-0" / "report.png", pictures / "demo-report.png")
    plan_figure(TrainConfig(), pictures / "plan.png", caption=count_costs(TrainConfig()).caption)
    print(table(runs, shuffled, longer))


if __name__ == "__main__":
    main()
