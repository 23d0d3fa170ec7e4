"""How long a run will take, before it begins: from earlier runs on this machine, else from one timed step."""

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..models.port import Cond, FlowModel
from ..rewards.port import Reward, about
from ..runs.errors import RunError
from ..runs.folder import RunFolder
from ..settings.config import TrainConfig
from ..support.durations import duration
from .decoding import may_be_lower
from .timed_step import rates_of_a_step
from .workload import Rates, Timed, Workload

UNKNOWN = (
    "How long it will take is not known before it begins: there is no earlier run of this model here. With --timed one "
    "step is timed now."
)
_MOST_RUNS = 100
"""Run folders that are looked into, the newest first."""
_NO_MATTER = frozenset({"prompts", "negative", "start", "text encoder", "alpha", "rewards"})
"""What of a run's setup takes no time of an iteration, or is looked at apart."""


@dataclass(frozen=True)
class Forecast:
    """Counted work and the seconds of each kind of it.

    Attributes:
        source: where the seconds are from, in words.
        lacks: what takes time and is not in it, or less than is, in words; empty where everything is.
        done: iterations that are done already.
    """

    work: Workload
    rates: Rates
    source: str
    lacks: str = ""
    done: int = 0

    @property
    def seconds(self) -> float | None:
        """What is left of the run; None where it goes on until it is stopped."""
        if self.work.iterations < 0:
            return None
        return self.work.seconds(self.done, self.work.iterations, self.rates) + self.work.end(self.rates)

    @property
    def words(self) -> str:
        """In a sentence."""
        seconds, one = self.seconds, duration(self._iteration)
        if seconds is None:
            text = f"An iteration will take about {one}"
        else:
            first, stop = self.done, self.work.iterations
            parts = [f"{stop - first} iterations of {one}"]
            looks = self.work.evaluations(first, stop)
            parts += [f"{looks} held-out evaluations of {duration(self.work.evaluation(self.rates))}"] if looks else []
            what = "The rest of this run" if self.done else "This run"
            text = f"{what} will take about {duration(seconds)} ({', '.join(parts)})"
        return f"{text}, {self.source}" + (f"; {self.lacks}." if self.lacks else ".")

    @property
    def _iteration(self) -> float:
        """Seconds of an iteration alone, on average."""
        first, stop = self.done, max(self.work.config.foreseen, self.done + 1)
        return self.work.alone(first, stop, self.rates) / (stop - first)


def foretold(
    work: Workload,
    model: FlowModel[Cond],
    prompt: str,
    earlier: Iterable[Path],
    setup: Mapping[str, Any],
    *,
    rewards: Mapping[str, Reward] = MappingProxyType({}),
    done: int = 0,
) -> Forecast:
    """The forecast of a run of ``model``: from the runs at ``earlier``, else from one step that is timed now.

    ``setup`` is that of the run; ``prompt`` one that the model has encoded; ``rewards`` are ready; those that may be
    asked outside of a run are timed; ``done`` iterations are done already.
    """
    known = from_earlier(work, earlier, setup, done=done)
    if known is not None:
        return known
    low = may_be_lower(work.config, model, rewards)
    rates = rates_of_a_step(model, prompt, work.config, rewards, low=low)
    asked = sum(about(reward).held_out for reward in rewards.values())
    lacks = [] if asked == len(rewards) > 0 else [f"the {'other ' if asked else ''}rewards' time is not in it"]
    if low:
        lacks.append("rollouts are counted as decoded in bfloat16, which their first group has to allow")
    if work.config.decode_beside:
        lacks.append("decoding is counted as if it were in turn")
    return Forecast(work, rates, "by one timed step", ", and ".join(lacks), done=done)


def from_earlier(
    work: Workload, earlier: Iterable[Path], setup: Mapping[str, Any], *, done: int = 0
) -> Forecast | None:
    """By the seconds that a run of the same model at the same size took; None where there is none.

    One with the same rewards and batches is preferred, and the newest of these.
    """
    setup, found = json.loads(json.dumps(setup)), []
    for path in sorted(earlier, key=_age)[:_MOST_RUNS]:
        one = _alike(path, work.config, setup)
        if one is not None:
            found.append((one.likeness, one))
            if one.likeness == (True, True):
                break
    if not found:
        return None
    best = max(found, key=lambda pair: pair[0])[1]  # the first of equals: the newest
    lacks = "" if best.same_rewards else "its rewards were others, so their time is not known"
    return Forecast(work, best.rates, f"as the run {best.path.name} took on this machine", lacks, done=done)


@dataclass(frozen=True, kw_only=True)
class _Earlier:
    """An earlier run of the same model."""

    path: Path
    rates: Rates
    same_rewards: bool
    same_batches: bool

    @property
    def likeness(self) -> tuple[bool, bool]:
        return self.same_rewards, self.same_batches


def _alike(path: Path, config: TrainConfig, setup: Mapping[str, Any]) -> _Earlier | None:
    """The run at ``path``, if it is one of the same model that has done an iteration."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those are for who goes on with it
            run = RunFolder.open(path)
            if _machine_work(run.config["setup"]) != _machine_work(setup):
                return None
            theirs, reports = run.settings, run.metrics()
        timed = _usual([Timed.told(report) for report in reports[1:] or reports])  # the first one warms up
        looked = [Timed.told(report) for report in reports if report["evaluations"]]
        if not timed:
            return None
        work = Workload(theirs, ranks=max(1, len(reports[-1].get("by_rank") or ())))
        same_looks = (theirs.eval_steps or theirs.steps) == (config.eval_steps or config.steps)
        known = work.rates(looked[-1:]).evaluated if looked and same_looks else None
        rates = replace(work.rates(timed), evaluated=known)
    except (RunError, OSError, KeyError, TypeError, ValueError, AttributeError):
        return None
    batches = [(one.rollout_batch, one.decode_batch, one.update_batch, one.decode_beside) for one in (theirs, config)]
    same = run.config["setup"].get("rewards") == setup.get("rewards")
    return _Earlier(path=path, rates=rates, same_rewards=same, same_batches=batches[0] == batches[1])


def _usual(timed: Sequence[Timed]) -> Sequence[Timed]:
    """The half in the middle: without iterations during which the machine had other work, or none."""
    ordered = sorted(timed, key=lambda one: sum(one.seconds.values()) - one.seconds.get("evaluation", 0.0))
    aside = len(ordered) // 4
    return ordered[aside : len(ordered) - aside]


def _machine_work(setup: Mapping[str, Any]) -> dict[str, Any]:
    """What of a setup the time of a network call depends on."""
    kept = {name: value for name, value in setup.items() if name not in _NO_MATTER}
    if isinstance(kept.get("model"), dict):
        kept["model"] = {name: value for name, value in kept["model"].items() if name != "seed"}
    return kept


def _age(path: Path) -> float:
    """Sorts the newest first."""
    try:
        return -(path / "metrics.jsonl").stat().st_mtime
    except OSError:
        return 0.0
