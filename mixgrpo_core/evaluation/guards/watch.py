"""The guards of one run at work: what they measure, judge and remember."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, TypedDict

from torch import Tensor

from ...rewards.stats import RewardStats
from ..held_out import Evaluation
from .port import Alarm, Guard, Seen


class GuardNotes(TypedDict, total=False):
    """What the guards leave among a run's notes.

    Attributes:
        guards: their memories, by name.
        rollouts: mean and spread of the trained rewards, for every iteration since the last evaluation.
        overruled: guards that may only warn.
    """

    guards: dict[str, dict[str, Any]]
    rollouts: list[dict[str, list[float]]]
    overruled: list[str]


def names(guards: Sequence[Guard]) -> list[str]:
    """By which each is known in notes: its class, numbered where there are more."""
    classes = [type(guard).__name__ for guard in guards]
    return [
        name if not (number := classes[:place].count(name)) else f"{name} {number + 1}"
        for place, name in enumerate(classes)
    ]


class Watch:
    """Guards over one run. What must survive a resume is in the run's notes, which are never changed in place.

    Args:
        weights: of the trained rewards.
    """

    def __init__(self, guards: Sequence[Guard], weights: Mapping[str, float]) -> None:
        self.guards, self.weights = dict(zip(names(guards), guards, strict=True)), weights
        self._measured: dict[str, dict[str, list[float]]] = {}
        self._failed: dict[str, str] = {}

    def see(self, images: Tensor) -> None:
        """Measure the images ``[n, H, W, 3]`` of the next held-out prompt."""
        for name, guard in self.guards.items():
            try:
                measured = guard.measure(images.clone())
            except Exception as error:  # a guard that fails costs its own word and not the run
                self._failed[name] = f"{type(error).__name__}: {error}"
                continue
            for key, values in measured.items():
                self._measured.setdefault(name, {}).setdefault(key, []).extend(values)

    def hear(self, rollouts: Mapping[str, RewardStats], notes: GuardNotes) -> None:
        """Note the trained rewards of one iteration's rollouts."""
        figures = {name: [stats.mean, stats.spread] for name, stats in rollouts.items() if stats.valid > 1}
        if self.guards and figures:
            notes["rollouts"] = [*notes.get("rollouts", ()), figures]

    def judge(self, evaluation: Evaluation, notes: GuardNotes) -> list[Alarm]:
        """What the guards say of an evaluation whose images they have seen."""
        memories, alarms = dict(notes.get("guards", {})), []
        rollouts = _average(notes.get("rollouts", ()))
        for name, guard in self.guards.items():
            seen = Seen(
                iteration=evaluation.iteration,
                rewards=evaluation.rewards,
                weights=self.weights,
                rollouts=rollouts,
                measured=self._measured.get(name, {}),
            )
            try:
                alarm, memory = self._judged(name, guard, seen, memories.get(name, {}))
            except Exception as error:
                alarm, memory = _failure(name, f"{type(error).__name__}: {error}"), memories.get(name, {})
            if alarm is not None:
                overruled = alarm.level == "stop" and name in notes.get("overruled", ())
                alarms.append(replace(alarm, guard=name, level="warn" if overruled else alarm.level))
            memories[name] = dict(memory)
        self._measured, self._failed = {}, {}
        notes["guards"], notes["rollouts"] = memories, []
        return alarms

    def _judged(self, name: str, guard: Guard, seen: Seen, memory: Mapping[str, Any]) -> tuple[Alarm | None, Any]:
        return (_failure(name, self._failed[name]), memory) if name in self._failed else guard.judge(seen, memory)


def _failure(name: str, reason: str) -> Alarm:
    return Alarm(guard=name, level="warn", sentence=f"cannot judge this evaluation ({reason}): mend or remove it")


def _average(rollouts: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, tuple[float, float]]:
    def average(name: str, place: int) -> float:
        return fmean(figures[name][place] for figures in rollouts if name in figures)

    heard = {name for figures in rollouts for name in figures}
    return {name: (average(name, 0), average(name, 1)) for name in sorted(heard)}
