"""A learning rate that sets itself against fixed ones, on the demo model.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/own_step.py [--seeds 11 12 13] [--whole 11 12 13 14 15]

The first table: held-out figures after 8, 16, 24 iterations. Iterations and not seconds are what is equal, so the load
of the machine does not enter. The second: the whole demo as it is and as it was with a fixed rate, in CPU seconds, its
own evaluations among them. The rule's numbers, and the demo's, were found on seeds 0 to 2; these are others. Runs are
kept in ``results/``; a stopped benchmark goes on, and what was not run is told.
"""

import argparse
import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from time import process_time
from types import MappingProxyType
from typing import Any

import torch
from demo_runs import RESULTS, WATCHED, figures, fixed_rate_demo, keep

from mixgrpo_core.demo import demo_config, held_out_prompts, train_prompts
from mixgrpo_core.models.families.demo import load_demo
from mixgrpo_core.objectives.own_step import AUTO
from mixgrpo_core.settings.config import TrainConfig, to_dict
from mixgrpo_core.training.loop import train

TABLE = Path(__file__).with_suffix(".md")
WHOLE_TABLE = TABLE.with_name("whole_demo.md")
LENGTH, EVERY = 24, 8
WHOLE: Mapping[str, Callable[..., TrainConfig]] = MappingProxyType(
    {"as it is": demo_config, "at a fixed rate, decoded in float32": fixed_rate_demo}
)
END_IMAGES = 6
"""Images per prompt by which both are compared at the end, outside of the clock where the demo itself takes fewer."""
ADHERENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to choose the steps."""

    name: str
    rate: Any
    updates: Any
    rank: int = 8
    prompts: int = 8
    length: int = LENGTH

    def config(self, seed: int) -> TrainConfig:
        return replace(
            fixed_rate_demo(),
            iterations=self.length,
            seed=seed,
            steps=10,
            learning_rate=self.rate,
            updates=self.updates,
            prompts_per_iteration=self.prompts,
            eval_every=EVERY,
            eval_images=2,
            eval_steps=25,
            guards=(),
            reward_weights={"shape": 1.0, **{name: 0.0 for name in WATCHED if name != "shape"}},
        )


CASES = (
    Case(name="auto", rate=AUTO, updates=AUTO),
    Case(name="5e-4, 4 updates", rate=5e-4, updates=4),
    Case(name="1e-3, 16 updates", rate=1e-3, updates=16),
    Case(name="auto, rank 32", rate=AUTO, updates=AUTO, rank=32, length=16),
    Case(name="1e-3, 16 updates, rank 32", rate=1e-3, updates=16, rank=32, length=16),
    Case(name="auto, 4 prompts", rate=AUTO, updates=AUTO, prompts=4, length=16),
    Case(name="1e-3, 16 updates, 4 prompts", rate=1e-3, updates=16, prompts=4, length=16),
)


def kept(case: Case, seed: int) -> Mapping[str, Any] | None:
    """The run that is there."""
    path = _path(case, seed)
    return json.loads(path.read_text()) if path.exists() else None


def make(case: Case, seed: int) -> None:
    """Train, and keep the held-out figures and the moves."""
    torch.manual_seed(seed)
    evaluations, moves = [], []
    for report in train(
        load_demo(rank=case.rank, seed=seed), train_prompts(), WATCHED, case.config(seed), held_out=held_out_prompts()
    ):
        figures = report.update.figures
        moves.append({name: figures.get(name) for name in ("move", "move_target", "rate")})
        evaluations += [
            {"iteration": found.iteration, **{name: stats.mean for name, stats in found.rewards.items()}}
            for found in report.evaluations
        ]
    keep(_path(case, seed), {"evaluations": evaluations, "moves": moves})


def _path(case: Case, seed: int) -> Path:
    words = "".join(letter if letter.isalnum() else "_" for letter in case.name)
    return RESULTS / "own_step" / f"{words}-{seed}.json"


def kept_whole(name: str, seed: int) -> Mapping[str, Any] | None:
    """The run that is there."""
    path = _whole_path(name, seed)
    found = json.loads(path.read_text()) if path.exists() else None
    return found if found and found["config"] == to_dict(WHOLE[name](seed=seed)) else None


def make_whole(name: str, seed: int) -> None:
    """The demo as a user has it: figures by the CPU seconds of its training and its own evaluations."""
    config, model = WHOLE[name](seed=seed), load_demo(seed=seed)
    torch.manual_seed(seed)
    rewards = {reward: WATCHED[reward] for reward in config.reward_weights}
    reports = train(model, train_prompts(), rewards, config, held_out=held_out_prompts())
    cpu, moves, begun = 0.0, [], process_time()
    points: list[dict[str, Any]] = []
    for report in reports:
        cpu += process_time() - begun
        moves.append(report.update.figures.get("move"))
        points += [
            _point(found.iteration, cpu if found.iteration else 0.0, found.rewards) for found in report.evaluations
        ]
        if report.iteration + 1 == config.iterations and config.eval_images != END_IMAGES:
            points.append(_point(config.iterations, cpu, figures(model, END_IMAGES)))
        begun = process_time()
    found = {"config": to_dict(config), "points": points, "cpu_seconds": cpu, "iterations": len(moves), "moves": moves}
    keep(_whole_path(name, seed), found)


def _point(iteration: int, cpu: float, rewards: Mapping[str, Any]) -> dict[str, Any]:
    return {"iteration": iteration, "cpu": cpu, **{name: stats.mean for name, stats in rewards.items()}}


def _whole_path(name: str, seed: int) -> Path:
    return RESULTS / "own_step" / f"whole {name.partition(',')[0]}-{seed}.json".replace(" ", "_")


def table(seeds: list[int]) -> str:
    lines = [
        "# A learning rate that sets itself",
        "",
        f"`benchmarks/own_step.py` on the demo model, 10 steps, {LENGTH} iterations at most. Held-out reward, a number "
        "a seed, in the order in which they are named; clean: the least share of clean images at any evaluation of "
        "any seed; move: the largest of any iteration after the first, as a share of the velocity.",
        "",
        "| step | seeds | start | 8 | 16 | 24 | adherence at the end | clean | move |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        ran = {seed: found for seed in seeds if (found := kept(case, seed))}
        if not ran:
            lines.append(f"| {case.name} | not run | | | | | | | |")
            continue
        runs, missing = list(ran.values()), [str(seed) for seed in seeds if seed not in ran]
        named = ", ".join(map(str, ran)) + (f" (not run: {', '.join(missing)})" if missing else "")
        points = [{point["iteration"]: point for point in run["evaluations"]} for run in runs]
        cells = [
            ", ".join(f"{point[at]['shape']:.3f}" for point in points if at in point)
            for at in (0, EVERY, 2 * EVERY, LENGTH)
        ]
        end = ", ".join(f"{run['evaluations'][-1]['adherence']:.2f}" for run in runs)
        clean = min(point["clean"] for run in runs for point in run["evaluations"])
        most = max(move["move"] or 0.0 for run in runs for move in run["moves"][1:])
        lines.append(f"| {case.name} | {named} | {' | '.join(cells)} | {end} | {clean:.2f} | {most:.0%} |")
    return "\n".join(lines) + "\n"


def whole_table(seeds: Sequence[int]) -> str:
    lines = [
        "# The whole demo",
        "",
        "`benchmarks/own_step.py`: `mixgrpo demo` as it is, and with a fixed rate of 5e-4, 4 updates, 55 iterations of "
        "25 steps and everything decoded in float32: CPU seconds of one thread for training and its own evaluations, "
        "start-up and report not counted; "
        f"held-out figures of {32 * END_IMAGES} images at the end. Other work ran on the machine. Adherence "
        f"{ADHERENCE:g}: CPU seconds to it, between the demo's own evaluations.",
        "",
        f"| demo | seed | iterations | CPU s | reward | adherence | clean | adherence {ADHERENCE:g} | largest move |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    ends: dict[str, list[Mapping[str, Any]]] = {name: [] for name in WHOLE}
    for name in WHOLE:
        for seed in seeds:
            run = kept_whole(name, seed)
            if run is None:
                lines.append(f"| {name} | {seed} | not run | | | | | | |")
                continue
            ends[name].append(run)
            end, most = run["points"][-1], max(move or 0.0 for move in run["moves"][1:])
            figures_of = " | ".join(f"{end[key]:.3f}" for key in ("shape", "adherence", "clean"))
            at = _reached(run["points"])
            lines.append(
                f"| {name} | {seed} | {run['iterations']} | {run['cpu_seconds']:.0f} | {figures_of} "
                f"| {'not reached' if at is None else f'{at:.0f} s'} | {most:.0%} |"
            )
    lines += ["", *(_means(name, runs) for name, runs in ends.items() if len(runs) > 1)]
    return "\n".join(lines) + "\n"


def _means(name: str, runs: Sequence[Mapping[str, Any]]) -> str:
    words = []
    for key in ("shape", "adherence", "clean"):
        values = [run["points"][-1][key] for run in runs]
        words.append(
            f"{'reward' if key == 'shape' else key} {statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"
        )
    seconds = statistics.mean(run["cpu_seconds"] for run in runs)
    return f"* {name}, {len(runs)} seeds: {seconds:.0f} CPU s, {', '.join(words)}"


def _reached(points: Sequence[Mapping[str, Any]]) -> float | None:
    """CPU seconds at which adherence first reaches `ADHERENCE`, between two points."""
    for before, after in pairwise(points):
        if after["adherence"] >= ADHERENCE > before["adherence"]:
            share = (ADHERENCE - before["adherence"]) / (after["adherence"] - before["adherence"])
            return before["cpu"] + share * (after["cpu"] - before["cpu"])
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[11, 12, 13], help="of the first table")
    parser.add_argument("--whole", type=int, nargs="*", default=[11, 12, 13, 14, 15], help="of the whole demo")
    asked = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    for name in WHOLE:
        for seed in asked.whole:
            if kept_whole(name, seed) is None:
                make_whole(name, seed)
            WHOLE_TABLE.write_text(whole_table(asked.whole), encoding="utf-8")
    for seed in asked.seeds:
        for case in CASES:
            if kept(case, seed) is None:
                make(case, seed)
            TABLE.write_text(table(asked.seeds), encoding="utf-8")


if __name__ == "__main__":
    main()
