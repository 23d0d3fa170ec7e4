"""methods.json, methods.md and the docs' methods.png, from the records of `methods.py` and nothing else."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from method_cases import BASELINE, ON_DEMO, Case
from method_worlds import RISE, WORLDS
from time_to_reward import crossing, plot, reached, spread

HERE = Path(__file__).resolve().parent
JSON, PAGE, PICTURE = HERE / "methods.json", HERE / "methods.md", HERE.parent / "docs" / "methods.png"
NOT_RUN = "not run"
Record = dict[str, Any]


def best_rate(runs: dict[float, dict[str, Any]]) -> float:
    """The rate with the highest final reward among runs that kept the images clean (all, if none did)."""
    base = next(iter(runs.values()))["curve"][0]["clean"]
    clean = {rate: run for rate, run in runs.items() if run["curve"][-1]["clean"] >= base - 0.05} or runs
    return max(clean, key=lambda rate: clean[rate]["curve"][-1]["shape"])


def write(records: Iterable[Record], rows: Mapping[str, Case]) -> None:
    """The three files."""
    kept = [compact(record) for record in records]
    JSON.write_text("[\n" + ",\n".join(json.dumps(record) for record in kept) + "\n]\n", encoding="utf-8")
    found = load()
    PAGE.write_text(page(found, rows), encoding="utf-8")
    chosen = {rows[name].label: chosen_runs(found, name) for name in ON_DEMO if name in rows}
    if any(chosen.values()):
        plot({label: runs for label, runs in chosen.items() if runs}, PICTURE, "seconds of counted work")


def compact(record: Record) -> Record:
    """A record with the images of an iteration in the place of its settings, its curve as columns."""
    names = ("world", "method", "rate", "seed", "failed", "seconds_per_iteration")
    told = {name: record[name] for name in names if name in record}
    told["images"] = record["config"]["images_per_prompt"] * record["config"]["prompts_per_iteration"]
    curve = {key: [round(point[key], 4) for point in record["curve"]] for key in record["curve"][0]}
    return {**told, "curve": curve}


def points(record: Record) -> Record:
    """A compact record with its curve as points again."""
    columns = record["curve"]
    return {
        **record,
        "curve": [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)],
    }


def load() -> list[Record]:
    """The records of methods.json."""
    return [points(record) for record in json.loads(JSON.read_text(encoding="utf-8"))]


def page(records: Sequence[Record], rows: Mapping[str, Case]) -> str:
    """The tables of both worlds. ``rows`` are all methods; what has no record stands as not run."""
    return "\n".join(
        [
            "# The methods on the toy and on the demo model",
            "",
            "Written by `methods.py` from `methods.json`. How it is measured and what was found: "
            "[README](README.md#methods).",
            "",
            *toy_table(records, rows),
            "",
            *demo_table(records, rows),
            "",
        ]
    )


def toy_table(records: Sequence[Record], rows: Mapping[str, Case]) -> list[str]:
    """A row per method: in how many runs the reward rose, and when."""
    world = WORLDS["toy"]
    runs = {(r["method"], r["rate"], r["seed"]): r for r in records if r["world"] == world.name}
    seconds = " | ".join(f"s to it, rate {rate:g}" for rate in world.rates)
    lines = [
        "## The toy",
        "",
        f"CPU seconds of training until the held-out reward has risen by {RISE:g} (one number a seed), within "
        f"{world.budget.seconds:g}; in brackets the rise at the end of a run that does not get there.",
        "",
        f"| method | runs that get there | {seconds} | s / iteration | evaluations / image | diversity there |",
        "|---|---|" + "---|" * len(world.rates) + "---|---|---|",
    ]
    for name, row in rows.items():
        tried = [[runs.get((name, rate, seed)) for seed in world.seeds] for rate in world.rates]
        there = [run for by_seed in tried for run in by_seed if run is not None]
        if not there:
            lines.append(f"| {row.label} |" + f" {NOT_RUN} |" * (len(world.rates) + 4))
            continue
        arrived = [run for run in there if arrival(run) is not None]
        cells = [
            f"{len(arrived)} of {len(there)}",
            *(" / ".join(told(run) for run in by_seed) for by_seed in tried),
            f"{statistics.mean(run['seconds_per_iteration'] for run in there):.3f}",
            f"{statistics.mean(evaluations_per_image(run) for run in there):.1f}",
            f"{statistics.mean(run['curve'][-1]['diversity'] for run in arrived):.2f}" if arrived else "-",
        ]
        lines.append(f"| {row.label} | {' | '.join(cells)} |")
    return lines


def arrival(run: Record) -> float | None:
    """CPU seconds to the rise, None where the run does not get there."""
    return crossing(run["curve"], run["curve"][0]["reward"] + RISE, "seconds", "reward")


def told(run: Record | None) -> str:
    """When a run on the toy gets there."""
    if run is None:
        return NOT_RUN
    rise, when = run["curve"][-1]["reward"] - run["curve"][0]["reward"], arrival(run)
    return f"{when:.1f}" if when is not None else f"({rise:+.2f}{', breaks' if run.get('failed') else ''})"


def evaluations_per_image(run: Record) -> float:
    """Rows through the network for one image of the rollout, training included."""
    end = run["curve"][-1]
    return 1000 * end["kilo_evaluations"] / (end["iteration"] * run["images"]) if end["iteration"] else 0.0


def chosen_runs(records: Sequence[Record], name: str) -> list[Record]:
    """The runs of a method on the demo model at its best rate, or those that there are of a search not done."""
    world = WORLDS["demo"]
    own = [run for run in records if run["world"] == world.name and run["method"] == name]
    searched = {run["rate"]: run for run in own if run["seed"] == world.seeds[0]}
    if not searched:
        return []
    best = best_rate(searched)
    return [run for run in own if run["rate"] == best]


def demo_table(records: Sequence[Record], rows: Mapping[str, Case]) -> list[str]:
    """A row per method that was tried: means and spreads over the seeds at the best rate."""
    world = WORLDS["demo"]
    own = [run for run in records if run["world"] == world.name]
    baseline = chosen_runs(own, BASELINE)
    target = statistics.mean(run["curve"][-1]["shape"] for run in baseline) if baseline else None
    rates = " | ".join(f"{rate:g}" for rate in sorted(world.rates))
    lines = [
        "## The demo model",
        "",
        f"{world.budget.seconds:g} s of counted work a run; of each method the best of the rates that were tried.",
        "",
    ]
    if baseline:
        base = baseline[0]["curve"][0]
        lines += [
            f"Base model: reward {base['shape']:.3f}, adherence {base['adherence']:.3f}, clean {base['clean']:.3f}, "
            f"diversity {base['diversity']:.3f}. DanceGRPO's after {world.budget.seconds:g} s: {target:.3f}.",
            "",
        ]
    lines += [
        "| method | learning rate | seeds | reward | adherence | clean | diversity | s / iteration "
        "| s to DanceGRPO's reward | evaluations to it, thousands |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in ON_DEMO:
        if name in rows:
            lines.append(f"| {rows[name].label} | {' | '.join(_demo_cells(chosen_runs(own, name), target))} |")
    lines += [
        "",
        "The search of the learning rate: held-out reward (and share of clean images) after seed "
        f"{world.seeds[0]}, by rate.",
        "",
        f"| method | {rates} |",
        "|---|" + "---|" * len(world.rates),
    ]
    ends = {(run["method"], run["rate"]): run for run in own if run["seed"] == world.seeds[0]}
    for name in ON_DEMO:
        if name in rows:
            cells = (_searched(ends.get((name, rate))) for rate in sorted(world.rates))
            lines.append(f"| {rows[name].label} | {' | '.join(cells)} |")
    return lines


def _searched(run: Record | None) -> str:
    if run is None:
        return NOT_RUN
    end = run["curve"][-1]
    return f"{end['shape']:.3f} ({end['clean']:.2f}){' breaks' if run.get('failed') else ''}"


def _demo_cells(runs: Sequence[Record], target: float | None) -> list[str]:
    if not runs or target is None:
        return [NOT_RUN] * 9
    ends = [run["curve"][-1] for run in runs]
    return [
        f"{runs[0]['rate']:g}",
        str(len(runs)),
        *(spread([end[key] for end in ends]) for key in ("shape", "adherence", "clean", "diversity")),
        spread([run["seconds_per_iteration"] for run in runs], 2),
        *(reached([crossing(run["curve"], target, axis) for run in runs]) for axis in ("seconds", "kilo_evaluations")),
    ]
