"""The presets on the demo model with the same levers: reward against CPU seconds and network evaluations.

    OMP_NUM_THREADS=1 python benchmarks/time_to_reward.py [--seconds 40] [--seeds 21 22 23]

Time is CPU seconds of training (evaluation is not counted): a shared machine takes less from them than from the clock
on the wall. DanceGRPO gets 60 of them, the others fewer. Every preset sets its own step, makes 8 updates of an
iteration and decodes in bfloat16 where the reward cannot tell; its own are steps, kernel, plan and loss. At a *fixed
rate* it has the best one of an earlier search (``time_to_reward.md``), and 4 updates as there. Runs are kept in
``results/``; a stopped benchmark goes on.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from demo_runs import RESULTS, DenseBudget, cpu_seconds, kept_run
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mixgrpo_core.sampling.planners import WindowPlanner
from mixgrpo_core.sampling.windows import SlidingWindow
from mixgrpo_core.settings import presets
from mixgrpo_core.settings.config import TrainConfig

PAGE = Path(__file__).with_name("time_to_reward_levers.md")
DANCE_SECONDS = 60.0
HOLD = 4  # the window moves as far in a run of 50 iterations as the published 25 does in 300
DANCE, FIXED = "DanceGRPO", ", fixed rate"
FAST: Mapping[str, Callable[[], TrainConfig]] = MappingProxyType(
    {
        "MixGRPO-Flash": presets.mixgrpo_flash,
        "MixGRPO": presets.mixgrpo,
        "MixGRPO-Flash*": presets.mixgrpo_flash_star,
        "Flow-GRPO-Fast": presets.flow_grpo_fast,
        "Flow-GRPO": presets.flow_grpo,
    }
)
BEST_RATES: Mapping[str, float] = MappingProxyType(
    {
        DANCE: 3e-3,
        "MixGRPO-Flash": 1e-3,
        "MixGRPO": 1e-3,
        "MixGRPO-Flash*": 1e-3,
        "Flow-GRPO-Fast": 1e-3,
        "Flow-GRPO": 3e-3,
    }
)
"""By ``time_to_reward.md``, with 4 updates of an iteration."""
PRESETS: Mapping[str, Callable[[], TrainConfig]] = MappingProxyType(
    {name + way: preset for name, preset in ((DANCE, presets.dance_grpo), *FAST.items()) for way in ("", FIXED)}
)
LEVERS: Mapping[str, Any] = MappingProxyType({"learning_rate": "auto", "updates": 8, "decode_dtype": "auto"})


HEAD = """`benchmarks/time_to_reward.py`. Seconds are CPU seconds of one thread in training, of a machine that did other
work, too. Levers: the step sets itself, 8 updates an iteration, rollouts decoded in bfloat16 where the reward cannot
tell; *fixed rate*: the best rate of an earlier search (`time_to_reward.md`) and 4 updates in their place. Held-out
figures of 64 images; final ones are those after 60 s of DanceGRPO and 40 s of the others. Numbers with slashes are one
a seed."""


def config_of(name: str, seed: int) -> TrainConfig:
    """A preset at the demo's size: 8 prompts x 12 images an iteration, no EMA."""
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
        ema=None,
        rollout_batch=96,
        decode_batch=96,
        update_batch=48,
        **LEVERS | _at(name),
    )


def _at(name: str) -> Mapping[str, Any]:
    """What a run at a fixed rate has in place of a step that sets itself."""
    preset, fixed, _ = name.partition(FIXED)
    return {"learning_rate": BEST_RATES[preset], "updates": 4} if fixed else {}


def path_of(name: str, seed: int) -> Path:
    words = name.replace("*", "-star").replace(", ", "-").replace(" ", "-").lower()
    return RESULTS / "time_to_reward" / f"{words}-{seed}.json"


def crossing(curve: Sequence[dict[str, Any]], target: float, axis: str, reward: str = "shape") -> float | None:
    """Where ``axis`` stands when the reward first reaches ``target``, interpolated; None if it never does."""
    for before, after in pairwise(curve):
        if after[reward] >= target > before[reward]:
            share = (target - before[reward]) / (after[reward] - before[reward])
            return before[axis] + share * (after[axis] - before[axis])
    return None


def table(runs: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """A Markdown table: mean and spread over the seeds, and each seed's way to DanceGRPO's reward."""
    finals = {
        name: statistics.mean(run["curve"][-1]["shape"] for run in runs[name])
        for name in (DANCE, DANCE + FIXED)
        if name in runs
    }
    best = max(finals, key=lambda name: finals[name])
    dance = finals[best]
    taken = statistics.mean(run["curve"][-1]["seconds"] for run in runs[best])
    base = runs[DANCE][0]["curve"][0]
    lines = [
        f"Base model: reward {base['shape']:.3f}, adherence {base['adherence']:.3f}, clean {base['clean']:.3f}, "
        f"diversity {base['diversity']:.3f}. DanceGRPO's final reward, the better of the two: {dance:.3f} after "
        f"{taken:.0f} CPU s.",
        "",
        "| preset | s / iteration | reward | adherence | clean | diversity "
        "| s to DanceGRPO's reward | of DanceGRPO's seconds | evaluations to it, thousands | clean there |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in runs.items():
        final = [run["curve"][-1] for run in found]
        columns = [spread([point[key] for point in final]) for key in ("shape", "adherence", "clean", "diversity")]
        pace = spread([run["seconds_per_iteration"] for run in found], 2)
        seconds = [crossing(run["curve"], dance, "seconds") for run in found]
        share = [None if one is None else one / taken for one in seconds]
        evaluations = reached([crossing(run["curve"], dance, "kilo_evaluations") for run in found])
        clean = reached([crossing(run["curve"], dance, "clean") for run in found], 3)
        lines.append(
            f"| {name} | {pace} | {' | '.join(columns)} | {reached(seconds, 1)} | {reached(share, 2)} "
            f"| {evaluations} | {clean} |"
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


def plot(runs: Mapping[str, Sequence[dict[str, Any]]], path: Path, clock: str = "CPU seconds of training") -> None:
    """Reward, cleanliness and diversity of all runs, a colour a preset; runs at a fixed rate are dashed."""
    figure = Figure(figsize=(12, 9), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2)
    colours = {preset: f"C{place}" for place, preset in enumerate(dict.fromkeys(n.partition(FIXED)[0] for n in runs))}
    for name in runs:
        preset, fixed, _ = name.partition(FIXED)
        for seed, run in enumerate(runs[name]):
            style = {"color": colours[preset], "linewidth": 1.0, "linestyle": "--" if fixed else "-"}
            style |= {"label": name if seed == 0 else None}
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
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=40.0, help="CPU seconds of training, but for DanceGRPO")
    parser.add_argument("--seeds", type=int, nargs="*", default=[21, 22, 23])
    options = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in PRESETS}
    for seed in options.seeds:
        for name in PRESETS:
            slow = name.startswith(DANCE)
            seconds, early = (DANCE_SECONDS, 0.0) if slow else (options.seconds, 20.0)
            budget = DenseBudget(seconds=seconds, every=10, early=early, early_every=2, images=2)
            runs[name].append(kept_run(path_of(name, seed), config_of(name, seed), budget, clock=cpu_seconds))
            show({one: found for one, found in runs.items() if found})


def show(runs: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """Page, curves and picture of the runs that there are."""
    if not runs.get(DANCE):
        return
    words = table(runs)
    PAGE.write_text(f"# Time to reward on the demo model, with the same levers\n\n{HEAD}\n\n{words}\n")
    PAGE.with_suffix(".json").write_text(json.dumps({name: [r["curve"] for r in runs[name]] for name in runs}))
    plot(runs, PAGE.with_suffix(".png"))
    print(words, flush=True)


if __name__ == "__main__":
    main()
