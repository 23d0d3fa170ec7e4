"""All presets on the demo model: reward against time and against network evaluations.

    OMP_NUM_THREADS=1 python benchmarks/time_to_reward.py [--workers 2] [--seconds 60]

Every run gets the same seconds of training (evaluation is not counted). The learning rate of each preset is chosen on
seed 0 by the held-out reward at the end among runs whose cleanliness is at least the base model's minus 0.05; then
three seeds run at it. Runs are interleaved over the presets and kept in ``results/``; a stopped benchmark goes on.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from demo_runs import RESULTS, Budget, kept_run
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mixgrpo_core.sampling.planners import WindowPlanner
from mixgrpo_core.sampling.windows import SlidingWindow
from mixgrpo_core.settings import presets
from mixgrpo_core.settings.config import TrainConfig

HERE = Path(__file__).parent
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
SEEDS = (0, 1, 2)
HOLD = 4  # the window moves as far in a run of 50 iterations as the published 25 does in 300
PRESETS: dict[str, Callable[[], TrainConfig]] = {
    "Flow-GRPO": presets.flow_grpo,
    "DanceGRPO": presets.dance_grpo,
    "Flow-GRPO-Fast": presets.flow_grpo_fast,
    "MixGRPO": presets.mixgrpo,
    "MixGRPO-Flash": presets.mixgrpo_flash,
    "MixGRPO-Flash*": presets.mixgrpo_flash_star,
}


def config_of(name: str, rate: float, seed: int) -> TrainConfig:
    """A preset at the demo's size: 8 prompts x 12 images an iteration, 4 updates, no EMA."""
    preset = PRESETS[name]()
    planner = preset.planner
    if isinstance(planner, WindowPlanner) and isinstance(planner.window, SlidingWindow):
        planner = replace(planner, window=replace(planner.window, hold=HOLD))
    return replace(
        preset,
        iterations=10_000,
        seed=seed,
        images_per_prompt=12,
        prompts_per_iteration=8,
        planner=planner,
        learning_rate=rate,
        updates=4,
        ema=None,
        rollout_batch=96,
        decode_batch=96,
        update_batch=48,
    )


def path_of(name: str, rate: float, seed: int) -> Path:
    return RESULTS / "time_to_reward" / f"{name.replace('*', '-star').lower()}-{rate:g}-{seed}.json"


def work(job: tuple[str, float, int, Budget]) -> dict[str, Any]:
    name, rate, seed, budget = job
    return kept_run(path_of(name, rate, seed), config_of(name, rate, seed), budget)


def best_rate(runs: dict[float, dict[str, Any]]) -> float:
    """The rate with the highest final reward among runs that kept the images clean (all, if none did)."""
    base = next(iter(runs.values()))["curve"][0]["clean"]
    clean = {rate: run for rate, run in runs.items() if run["curve"][-1]["clean"] >= base - 0.05} or runs
    return max(clean, key=lambda rate: clean[rate]["curve"][-1]["shape"])


def crossing(curve: Sequence[dict[str, Any]], target: float, axis: str, reward: str = "shape") -> float | None:
    """Where ``axis`` stands when the reward first reaches ``target``, interpolated; None if it never does."""
    for before, after in pairwise(curve):
        if after[reward] >= target > before[reward]:
            share = (target - before[reward]) / (after[reward] - before[reward])
            return before[axis] + share * (after[axis] - before[axis])
    return None


def table(chosen: dict[str, float], runs: dict[str, list[dict[str, Any]]]) -> str:
    """A Markdown table: mean and spread over the seeds."""
    dance = statistics.mean(run["curve"][-1]["shape"] for run in runs["DanceGRPO"])
    base = runs["DanceGRPO"][0]["curve"][0]
    lines = [
        f"Base model: reward {base['shape']:.3f}, adherence {base['adherence']:.3f}, clean {base['clean']:.3f}, "
        f"diversity {base['diversity']:.3f}. DanceGRPO's final reward: {dance:.3f}.",
        "",
        "| preset | learning rate | s / iteration | reward | adherence | clean | diversity "
        "| s to DanceGRPO's reward | evaluations to it, thousands | clean there |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in PRESETS:
        final = [run["curve"][-1] for run in runs[name]]
        columns = [spread([point[key] for point in final]) for key in ("shape", "adherence", "clean", "diversity")]
        pace = spread([run["seconds_per_iteration"] for run in runs[name]], 2)
        seconds = reached([crossing(run["curve"], dance, "seconds") for run in runs[name]])
        evaluations = reached([crossing(run["curve"], dance, "kilo_evaluations") for run in runs[name]])
        clean = reached([crossing(run["curve"], dance, "clean") for run in runs[name]], 3)
        lines.append(
            f"| {name} | {chosen[name]:g} | {pace} | {' | '.join(columns)} | {seconds} | {evaluations} | {clean} |"
        )
    return "\n".join(lines)


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation; of one value the value."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def reached(values: Sequence[float | None], digits: int = 0) -> str:
    """Where each seed gets to a reward, and how many do not."""
    there = [value for value in values if value is not None]
    words = " / ".join(f"{value:.{digits}f}" for value in there)
    return words if len(there) == len(values) else f"{words or '-'} ({len(there)} of {len(values)} seeds)"


def plot(runs: dict[str, list[dict[str, Any]]], path: Path, clock: str = "seconds of training") -> None:
    """Reward, cleanliness and diversity of all runs, a colour a name."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2)
    for colour, name in enumerate(runs):
        for seed, run in enumerate(runs[name]):
            style = {"color": f"C{colour}", "linewidth": 1.2, "label": name if seed == 0 else None}
            xs = [point["seconds"] for point in run["curve"]]
            panels[0, 0].plot(xs, [point["shape"] for point in run["curve"]], **style)
            panels[1, 0].plot(xs, [point["clean"] for point in run["curve"]], **style)
            panels[1, 1].plot(xs, [point["diversity"] for point in run["curve"]], **style)
            panels[0, 1].plot(
                [p["kilo_evaluations"] for p in run["curve"]], [p["shape"] for p in run["curve"]], **style
            )
    labels = ((clock, "held-out reward"), ("network evaluations, thousands", "held-out reward"))
    labels += ((clock, "held-out cleanliness"), (clock, "held-out diversity"))
    for axes, (x, y) in zip(panels.flat, labels, strict=True):
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(alpha=0.25)
    panels[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1, help="runs at a time; each takes one thread")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of training per run")
    options = parser.parse_args()
    budget = Budget(seconds=options.seconds, every=options.seconds / 6, images=3)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        search = [(name, rate, 0, budget) for rate in RATES for name in PRESETS]
        found = dict(zip([job[:2] for job in search], pool.map(work, search), strict=True))
        chosen = {name: best_rate({rate: found[name, rate] for rate in RATES}) for name in PRESETS}
        jobs = [(name, chosen[name], seed, budget) for seed in SEEDS for name in PRESETS]
        done = list(pool.map(work, jobs))
    runs = {name: [run for job, run in zip(jobs, done, strict=True) if job[0] == name] for name in PRESETS}
    words = table(chosen, runs)
    (HERE / "time_to_reward.md").write_text(f"# Time to reward on the demo model\n\n{words}\n")
    (HERE / "time_to_reward.json").write_text(json.dumps({name: [r["curve"] for r in runs[name]] for name in runs}))
    plot(runs, HERE / "time_to_reward.png")
    print(words)


if __name__ == "__main__":
    main()
