"""The guards of one run at work: what they measure, judge and remember."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, TypedDict

from torch import Tensor

from ...rewards.stats import RewardStats
from ...support.ranks import ALONE, Ranks
from ..held_out import Evaluation
from .port import Alarm, EvaluationView, Guard, IterationView, Memory

_Asked = Callable[[str, Guard, Memory], tuple[Alarm | None, Memory]]


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
        ranks: who measure images by turns; all of them judge.
    """

    def __init__(self, guards: Sequence[Guard], weights: Mapping[str, float], ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self.guards, self.weights = dict(zip(names(guards), guards, strict=True)), weights
        self._held_out, self._rolled_out = _Measured(), _Measured()

    def see(self, images: Tensor) -> None:
        """Measure the images ``[n, H, W, 3]`` of this rank's next held-out prompt."""
        self._held_out.add({name: guard.measure for name, guard in self.guards.items()}, images)

    def look(self, images: Tensor) -> None:
        """Measure the rolled out images ``[G, H, W, 3]`` of this rank's next prompt."""
        self._rolled_out.add({name: guard.look for name, guard in self.guards.items()}, images)

    def note(self, rollouts: Mapping[str, RewardStats], notes: GuardNotes) -> None:
        """Note the trained rewards of one iteration's rollouts for the next evaluation."""
        figures = {name: [stats.mean, stats.spread] for name, stats in rollouts.items() if stats.valid > 1}
        if self.guards and figures:
            notes["rollouts"] = [*notes.get("rollouts", ()), figures]

    def judge(self, evaluation: Evaluation, notes: GuardNotes) -> list[Alarm]:
        """What the guards say of an evaluation whose images they have seen."""
        seen = EvaluationView(
            iteration=evaluation.iteration,
            rewards=evaluation.rewards,
            weights=self.weights,
            rollouts=_average(notes.get("rollouts", ())),
        )
        measured = self._held_out.joined(self.ranks)

        def asked(name: str, guard: Guard, memory: Memory) -> tuple[Alarm | None, Memory]:
            return guard.judge(replace(seen, measured=measured.of(name)), memory)

        alarms = self._ask(asked, "this evaluation", measured, notes)
        self._held_out, notes["rollouts"] = _Measured(), []
        return alarms

    def hear(self, heard: IterationView, notes: GuardNotes) -> list[Alarm]:
        """What the guards say of an iteration at whose images they have looked."""
        measured = self._rolled_out.joined(self.ranks)

        def asked(name: str, guard: Guard, memory: Memory) -> tuple[Alarm | None, Memory]:
            return guard.hear(replace(heard, measured=measured.of(name)), memory)

        alarms = self._ask(asked, "this iteration", measured, notes)
        self._rolled_out = _Measured()
        return alarms

    def _ask(self, asked: _Asked, what: str, measured: "_Measured", notes: GuardNotes) -> list[Alarm]:
        """Alarms of all guards; what they remember is among the notes afterwards."""
        memories, alarms = dict(notes.get("guards", {})), []
        for name, guard in self.guards.items():
            kept = memories.get(name, {})
            try:
                if name in measured.failed:
                    raise RuntimeError(measured.failed[name])
                alarm, memory = asked(name, guard, kept)
            except Exception as error:  # a guard that fails costs its own word and not the run
                reason = measured.failed.get(name) or f"{type(error).__name__}: {error}"
                sentence = f"cannot judge {what} ({reason}): mend or remove it"
                alarm, memory = Alarm(guard=name, level="warn", sentence=sentence), kept
            if alarm is not None:
                overruled = alarm.level == "stop" and name in notes.get("overruled", ())
                alarms.append(replace(alarm, guard=name, level="warn" if overruled else alarm.level))
            memories[name] = dict(memory)
        notes["guards"] = memories
        return alarms


_Measures = Mapping[str, Callable[[Tensor], Mapping[str, Sequence[float]]]]


class _Measured:
    """What guards, by name, measured of the images of prompts, and why some of them failed."""

    def __init__(self, prompts: Sequence[Mapping[str, Mapping[str, Sequence[float]] | str]] = ()) -> None:
        self._prompts = list(prompts)
        self.failed = {name: found for one in prompts for name, found in one.items() if isinstance(found, str)}

    def add(self, measures: _Measures, images: Tensor) -> None:
        """The next prompt's images."""
        found: dict[str, Mapping[str, Sequence[float]] | str] = {}
        for name, measure in measures.items():
            try:
                found[name] = measure(images.clone())  # others look at them, too
            except Exception as error:  # told when the guard is asked
                found[name] = f"{type(error).__name__}: {error}"
        self._prompts.append(found)

    def joined(self, ranks: Ranks) -> "_Measured":
        """Of the prompts of all ranks, in their order."""
        return _Measured(ranks.joined(self._prompts))

    def of(self, name: str) -> Mapping[str, Sequence[float]]:
        """A guard's numbers, joined over the prompts."""
        values: dict[str, list[float]] = {}
        for one in self._prompts:
            measured = one.get(name, {})
            if not isinstance(measured, str):
                for key, numbers in measured.items():
                    values.setdefault(key, []).extend(numbers)
        return values


def _average(rollouts: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, tuple[float, float]]:
    def average(name: str, place: int) -> float:
        return fmean(figures[name][place] for figures in rollouts if name in figures)

    heard = {name for figures in rollouts for name in figures}
    return {name: (average(name, 0), average(name, 1)) for name in sorted(heard)}
