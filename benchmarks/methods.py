"""Every method on the toy, and ten on the demo model: does it learn, how fast, and what becomes of the images?

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/methods.py [--limit N] [--only NAME ...] [--world toy]

A queue: each finished run is a record in ``results/methods/``, runs with a record are not done again, and a stopped
queue goes on. ``--limit 0`` runs nothing. At the end methods.json, methods.md and docs/methods.png are made of the
records that there are; what was not run stands as not run. A record of other settings than today's counts as none.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from demo_runs import RESULTS, keep
from method_cases import ON_DEMO, Case, cases
from method_worlds import WORLDS, World, config_in
from methods_page import best_rate, write

from mixgrpo_core.settings.config import TrainConfig, to_dict

Record = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One run."""

    world: World
    case: Case
    rate: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.world.name}/{self.case.name}-{self.rate:g}-{self.seed}"

    @property
    def config(self) -> TrainConfig:
        return config_in(self.world, self.case.config, self.rate, self.seed)

    def asked(self) -> Record:
        """What must be the same for a record to be of this run."""
        return {"config": to_dict(self.config), "budget": asdict(self.world.budget)}

    def run(self) -> Record:
        """Train, and tell how it went. Raises ``ValueError`` for settings that cannot be."""
        start = time.perf_counter()
        found = self.world.train(self.config, self.case)
        told = {"world": self.world.name, "method": self.case.name, "rate": self.rate, "seed": self.seed}
        return {**told, **found, "wall": time.perf_counter() - start, **self.asked()}


class Queue:
    """The runs of some rows in some worlds, and the records of those that are done."""

    def __init__(self, folder: Path, rows: Mapping[str, Case], worlds: Mapping[str, World] = WORLDS) -> None:
        self.folder, self.rows, self.worlds = folder, rows, worlds

    def record(self, job: Job) -> Record | None:
        """What is kept of a run with these very settings."""
        path = self.folder / f"{job.name}.json"
        if not path.exists():
            return None
        found = json.loads(path.read_text())
        config = {**to_dict(TrainConfig()), **found["config"]}  # settings that are newer than it have their defaults
        return found if {**found, "config": config} == {**found, **json.loads(json.dumps(job.asked()))} else None

    def jobs(self) -> Iterator[Job]:
        """All runs that are wanted, the most telling first; which rate is best follows from records."""
        toy, demo = self.worlds["toy"], self.worlds["demo"]
        tried = [row for name in ON_DEMO if (row := self.rows.get(name))]
        known = [Job(toy, row, rate, toy.seeds[0]) for rate in toy.rates for row in self.rows.values()]
        again = [
            Job(toy, row, rate, seed) for seed in toy.seeds[1:] for rate in toy.rates for row in self.rows.values()
        ]
        search = [[Job(demo, row, rate, demo.seeds[0]) for row in tried] for rate in demo.rates]
        half = len(again) // 2
        baseline, others = search[1][:1], search[1][1:]  # every method's time is taken to the baseline's reward
        yield from (*known, *search[0], *baseline, *again[half:], *others, *again[:half], *chain(*search[2:]))
        for seed in demo.seeds[1:]:
            for row in tried:
                best = self.best(row)
                if best is not None:
                    yield Job(demo, row, best, seed)

    def best(self, row: Case) -> float | None:
        """The best rate of a row on the demo model, None before all were tried."""
        demo = self.worlds["demo"]
        runs = {rate: self.record(Job(demo, row, rate, demo.seeds[0])) for rate in demo.rates}
        there = {rate: run for rate, run in runs.items() if run is not None}
        return best_rate(there) if len(there) == len(runs) else None

    def work(self, limit: int | None = None, only: Sequence[str] = ()) -> int:
        """Do what is not done, at most ``limit`` runs; how many were done. A run that cannot be is told and left."""
        done, left = 0, set[str]()
        while limit is None or done < limit:
            missing = (job for job in self.jobs() if job.name not in left and self._asked_for(job, only))
            job = next((job for job in missing if self.record(job) is None), None)
            if job is None:
                break
            try:
                record = job.run()
            except ValueError as error:
                print(f"{job.name}: {error}", flush=True)
                left.add(job.name)
                continue
            keep(self.folder / f"{job.name}.json", record)
            done += 1
            print(f"{job.name}: {record['curve'][-1]}", flush=True)
        return done

    def _asked_for(self, job: Job, only: Sequence[str]) -> bool:
        return not only or job.case.name in only

    def records(self) -> list[Record]:
        """All records that there are of the runs that are wanted."""
        return [record for job in self.jobs() if (record := self.record(job)) is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, help="runs that are made at most")
    parser.add_argument("--only", nargs="*", default=(), help="names of methods")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    queue = Queue(RESULTS / "methods", cases())
    queue.work(asked.limit, asked.only)
    write(queue.records(), queue.rows)


if __name__ == "__main__":
    main()
