"""What a run tells: one report per iteration, events inside it, and their form in ``metrics.jsonl``."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from ..evaluation.guards import Alarm
from ..evaluation.held_out import Evaluation
from ..objectives.figures import UpdateStats
from ..rewards.port import Scores
from ..rewards.scoring import Failure
from ..rewards.stats import RewardStats


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One iteration of training.

    Attributes:
        iteration: its number, from 0.
        rewards: per trained reward, over this iteration's rollouts.
        evaluations: held-out evaluations made with it: before the first, and then of the policy after it.
        update: figures of its optimizer steps.
        flat_groups: share of groups without spread (skipped: they teach nothing).
        window: trained steps (first, stop) of the first prompt's plan; for scattered steps the hull.
        sigmas: the base grid of the rollouts, ``[T + 1]`` numbers.
        nfe: network evaluations per image by phase (``rollout``, ``train``, ``probe``, ``reference``,
            ``evaluation``), counted.
        seconds: by phase (``rollout``, ``decode``, ``reward``, ``train``, ``probe``, ``reference``,
            ``evaluation``); of what goes on beside a rollout, the seconds that were waited for it.
        peak_memory: bytes.
        trajectory_bytes: bytes that the iteration's rollouts kept.
        decoded: how its rollouts were decoded: ``dtype``, and by how much of a group's spread a lower one ``moved``
            scores where both were tried; with a tiny autoencoder what tells it from others (``tiny``), and the rank
            correlation of scores with those of the model's own (``agreement``, by reward); empty where the model's own
            in float32 was asked for.
        by_rank: of each of several ranks; ``seconds`` and ``peak_memory`` are those of the first, and the largest.
        failures: what rewards failed on.
        warnings: what guards found in it and in its held-out evaluations.
        stopped: why the run ends with it before its time, from the guards that stop it; else empty.
    """

    iteration: int
    rewards: Mapping[str, RewardStats]
    evaluations: Sequence[Evaluation]
    update: UpdateStats
    flat_groups: float
    window: tuple[int, int]
    sigmas: Sequence[float]
    nfe: Mapping[str, float]
    seconds: Mapping[str, float]
    peak_memory: int
    trajectory_bytes: int
    decoded: Mapping[str, Any] = field(default_factory=dict)
    by_rank: Sequence["RankReport"] = ()
    failures: Sequence[Failure] = ()
    warnings: Sequence[Alarm] = ()
    stopped: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values for a line of ``metrics.jsonl``; NaN becomes null."""
        evaluations = [
            {"iteration": e.iteration, "rewards": {name: stats.to_json() for name, stats in e.rewards.items()}}
            for e in self.evaluations
        ]
        ranks = {"by_rank": [asdict(rank) for rank in self.by_rank]} if self.by_rank else {}
        return _plain(
            {
                **{name: value for name, value in vars(self).items() if name != "by_rank"},
                **ranks,
                "decoded": dict(self.decoded),
                "rewards": {name: stats.to_json() for name, stats in self.rewards.items()},
                "update": self.update.to_json(),
                "evaluations": evaluations,
                "failures": [str(failure) for failure in self.failures],
                "warnings": [asdict(alarm) for alarm in self.warnings],
            }
        )


@dataclass(frozen=True, kw_only=True)
class RankReport:
    """One of several processes in an iteration: the seconds that were counted, those that it waited for others among
    them, and its most memory in bytes."""

    seconds: float
    waited: float
    peak_memory: int


def is_report(found: object) -> bool:
    """Whether a line of ``metrics.jsonl`` is a report, of this version or an older one."""
    if not isinstance(found, dict) or type(found.get("iteration")) is not int or found["iteration"] < 0:
        return False
    if not all(isinstance(found.get(name), kind) for name, kind in _PARTS.items()):
        return False
    window, seconds, evaluations = found["window"], found["seconds"].values(), found["evaluations"]
    if [type(step) for step in window] != [int, int] or not all(type(value) in (int, float) for value in seconds):
        return False
    evaluated = all(
        isinstance(one, dict) and type(one.get("iteration")) is int and _are_stats(one.get("rewards"))
        for one in evaluations
    )
    alarms = found.get("warnings", [])  # runs of older versions have none
    return (
        evaluated
        and _are_stats(found["rewards"])
        and isinstance(alarms, list)
        and all(isinstance(one, dict) and one.keys() >= _ALARM for one in alarms)
    )


_PARTS = {"rewards": dict, "update": dict, "evaluations": list, "window": list, "seconds": dict}
_ALARM = {"guard", "sentence"}


def _are_stats(found: object) -> bool:
    """Whether these are figures of rewards by name."""
    return isinstance(found, dict) and all(
        isinstance(stats, dict) and all(isinstance(stats.get(name), int | float | None) for name in ("mean", "spread"))
        for stats in found.values()
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where an iteration is: ``done`` of ``total`` in ``phase``.

    The phases are ``rollout``, ``train``, ``evaluation``, and ``gallery`` before it: pictures of the policy.
    """

    iteration: int
    phase: str
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class GroupScored:
    """A group has been scored: its images ``[G, H, W, 3]``, scores per reward and advantages ``[G]``.

    Stages of credit that look at all groups of the iteration change the advantages later.
    """

    iteration: int
    prompt: str
    images: Tensor
    scores: Mapping[str, Scores]
    advantage: Tensor


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """So many groups are rolled out and wait for rewards that score beside the rollouts, that which is scored too."""

    iteration: int
    groups: int


@dataclass(frozen=True, kw_only=True)
class Pictured:
    """The gallery has been given an entry of the policy after ``iteration`` iterations.

    Attributes:
        seconds: that it took.
        problem: why there is none, where it could not be written; else empty.
    """

    iteration: int
    seconds: float
    problem: str = ""


Event = Progress | GroupScored | Waiting | Pictured
Observer = Callable[[Event], None]
"""Hears what happens inside an iteration. Raising from it cancels the run at once, with its state kept."""


def ignore(event: Event) -> None:
    """An observer that does nothing."""
