"""The README's table and pictures: the demo of five seeds, and controls with shuffled rewards.

    python benchmarks/readme.py

The runs of the table are those of ``own_step.py`` (`whole_demo.md`), a control trains on rewards dealt to the wrong
images, and the pictures are those of ``mixgrpo demo`` as a user starts it. Runs stand in ``results/`` and are not done
twice.
"""

import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from demo_runs import RESULTS, Budget, Shuffled, base_figures, cpu_seconds, kept_run
from own_step import END_IMAGES, kept_whole, make_whole

from mixgrpo_core.cli.plan import count_costs
from mixgrpo_core.demo import demo_config
from mixgrpo_core.rewards.shapes import ShapeReward
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.views.figures import plan_figure

ROOT = Path(__file__).resolve().parent.parent
RUNS = RESULTS / "readme"
DEMO, SEEDS, CONTROLS = "as it is", (11, 12, 13, 14, 15), (0,)
MARKS = ("<!-- demo table -->", "<!-- /demo table -->")


def demo(seed: int) -> Mapping[str, Any]:
    """The whole demo, in this process."""
    if kept_whole(DEMO, seed) is None:
        make_whole(DEMO, seed)
    found = kept_whole(DEMO, seed)
    assert found is not None
    return found


def pictured() -> Path:
    """The folder of ``mixgrpo demo``."""
    folder = RUNS / "seed-0"
    if not (folder / "report.png").exists():
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-c", "import sys; from mixgrpo_core.cli import main; sys.exit(main())", "demo"]
        subprocess.run([*command, "--out", str(folder), "--seed", "0"], check=True)
    return folder


def control(seed: int) -> dict[str, Any]:
    """The demo with shuffled rewards."""
    config = demo_config(seed=seed)
    budget = Budget(seconds=1e9, every=1e9, images=END_IMAGES)
    plain = replace(config, reward_weights={}, eval_every=0)
    path = RUNS / f"shuffled-{seed}.json"
    return kept_run(path, plain, budget, Shuffled(ShapeReward()), clock=cpu_seconds)


def table(runs: Mapping[int, Mapping[str, Any]], shuffled: Mapping[int, dict[str, Any]]) -> str:
    before = {name: stats.mean for name, stats in base_figures(END_IMAGES).items()}
    lines = ["| run | adherence before | after | clean before | after | CPU time |", "|---|---|---|---|---|---|"]
    for seed, run in runs.items():
        lines.append(_row(f"the demo, seed {seed}", before, run["points"][-1], f"{run['cpu_seconds']:.0f} s"))
    for seed, run in shuffled.items():
        lines.append(_row(f"control: shuffled rewards, seed {seed}", before, run["curve"][-1], ""))
    gains = [run["points"][-1]["adherence"] - before["adherence"] for run in runs.values()]
    mean, spread = statistics.mean(gains), statistics.stdev(gains)
    rise = f"{100 * mean:.0f} ± {100 * spread:.0f} points over five seeds (least {100 * min(gains):.0f})"
    return "\n".join(
        [
            *lines,
            "",
            f"Adherence rises by {rise}, measured on {32 * END_IMAGES} images. The time is that of training and the "
            "demo's own evaluations, one thread; a fixed rate takes almost three times as long "
            "([whole_demo.md](benchmarks/whole_demo.md)).",
        ]
    )


def _row(name: str, first: Mapping[str, float], last: Mapping[str, float], time: str) -> str:
    figures = (first["adherence"], last["adherence"], first["clean"], last["clean"])
    return f"| {name} | {' | '.join(f'{figure:.3f}' for figure in figures)} | {time} |"


def put_into_readme(words: str) -> None:
    path = ROOT / "README.md"
    text = path.read_text()
    start, stop = text.index(MARKS[0]) + len(MARKS[0]), text.index(MARKS[1])
    path.write_text(f"{text[:start]}\n{words}\n{text[stop:]}")


def main() -> None:
    RUNS.mkdir(parents=True, exist_ok=True)
    folder, pictures = pictured(), ROOT / "docs"
    words = table({seed: demo(seed) for seed in SEEDS}, {seed: control(seed) for seed in CONTROLS})
    put_into_readme(words)
    shutil.copy(folder / "before_after.png", pictures / "demo-before-after.png")
    shutil.copy(folder / "report.png", pictures / "demo-report.png")
    plan_figure(TrainConfig(), pictures / "plan.png", caption=count_costs(TrainConfig()).caption)
    print(words)


if __name__ == "__main__":
    main()
