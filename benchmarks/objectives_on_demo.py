"""Every objective on the demo model at a few learning rates: held-out reward after so many iterations.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/objectives_on_demo.py [--only GuardGRPO] [--iterations 8]

One rollout of 8 prompts x 12 images and 4 updates an iteration, window of 4 at the start, 25 steps; forward objectives
sample by the plain ODE from independent noise. Runs are kept in ``results/``; a stopped benchmark goes on.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from demo_runs import RESULTS, Budget, kept_run

from mixgrpo_core import FrozenWindow, WindowPlanner, mixgrpo
from mixgrpo_core.objectives import AWM, DGPO, GCPO, GRPO, DiffusionNFT, FlowDPPO, GuardGRPO, Objective, PositionalGRPO
from mixgrpo_core.objectives.port import TRANSITIONS
from mixgrpo_core.settings.config import TrainConfig

TABLE = Path(__file__).parent / "objectives_on_demo.md"
RATES: Mapping[str, Sequence[float]] = {"transitions": (5e-4, 1e-3, 2e-3, 4e-3), "forward": (3e-4, 1e-3, 3e-3)}


@dataclass(frozen=True)
class Case:
    """An objective as it is tried on the demo model."""

    objective: Objective
    changes: str = ""

    @property
    def name(self) -> str:
        return type(self.objective).__name__

    @property
    def rates(self) -> Sequence[float]:
        return RATES["transitions" if TRANSITIONS in self.objective.needs else "forward"]


CASES = (
    Case(GRPO()),
    Case(GuardGRPO()),
    Case(GCPO()),
    Case(FlowDPPO()),
    Case(PositionalGRPO()),
    Case(AWM()),
    Case(DGPO(beta=1.0), "beta 1: the demo's errors are of order 1"),
    Case(DiffusionNFT()),
)


def config_of(case: Case, rate: float, seed: int, iterations: int) -> TrainConfig:
    """The case at the demo's size."""
    by_step = TRANSITIONS in case.objective.needs
    return replace(
        mixgrpo(),
        iterations=iterations,
        seed=seed,
        images_per_prompt=12,
        prompts_per_iteration=8,
        shared_noise=by_step,
        planner=WindowPlanner(window=FrozenWindow(size=4)),
        objective=case.objective,
        learning_rate=rate,
        eval_every=0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[case.name for case in CASES])
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    budget = Budget(seconds=1e9, every=1e9)
    lines = [
        f"# Objectives on the demo model, {asked.iterations} iterations",
        "",
        "Held-out reward (and share of clean images), one number a seed; the base model has the first.",
        "",
    ]
    for case in (case for case in CASES if case.name in asked.only):
        lines += [f"## {case.name} {f'({case.changes})' if case.changes else ''}".rstrip(), ""]
        lines += ["| learning rate | reward | clean | s / iteration |", "|---|---|---|---|"]
        for rate in case.rates:
            runs = [
                kept_run(
                    RESULTS / "objectives" / f"{case.name}-{asked.iterations}-{rate:g}-{seed}.json",
                    config_of(case, rate, seed, asked.iterations),
                    budget,
                )
                for seed in range(asked.seeds)
            ]
            ends = [run["curve"][-1] for run in runs]
            start = runs[0]["curve"][0]
            cells = (
                f"{start['shape']:.3f} -> " + ", ".join(f"{end['shape']:.3f}" for end in ends),
                f"{start['clean']:.3f} -> " + ", ".join(f"{end['clean']:.3f}" for end in ends),
                ", ".join(f"{run['seconds_per_iteration']:.2f}" for run in runs),
            )
            lines.append(f"| {rate:g} | {' | '.join(cells)} |")
            print(case.name, lines[-1], flush=True)
        lines.append("")
    TABLE.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
