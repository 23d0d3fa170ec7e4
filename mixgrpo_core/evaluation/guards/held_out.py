"""Held-out figures that fall while the trained ones rise: the score is being gained by something else than quality."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar

from torch import Tensor

from ...support.setting import require_finite
from .port import Alarm, EvaluationView, Guard, Memory, level_of, require_thresholds

_TINY = 1e-9


@dataclass(frozen=True)
class HeldOutFall(Guard):
    """Counts evaluations in a row at which a held-out reward is below its best while what is trained on has risen.

    A reward that is only watched (weight 0) is compared with the trained rewards on held-out images; a trained reward
    on held-out prompts with itself on the trained prompts. Ours.

    Attributes:
        warn, stop: evaluations in a row at which there is an alarm; None for never.
        least: fall that counts, in units of the spread over the held-out images; with fewer than 128 scores a larger
            one is asked for, of two standard errors.
    """

    label: ClassVar[str] = "fall"

    warn: int | None = 2
    stop: int | None = None
    least: float = 0.25

    def __post_init__(self) -> None:
        require_finite(self)
        require_thresholds(self.warn, self.stop)

    def measure(self, images: Tensor) -> Mapping[str, Sequence[float]]:
        return {}

    def judge(self, seen: EvaluationView, memory: Memory) -> tuple[Alarm | None, Memory]:
        memory, alarms = dict(memory), []
        for name, stats in seen.rewards.items():
            if not isfinite(stats.mean):
                continue
            kept = memory.get(name)
            if kept is None or stats.mean >= kept["best"]:
                spread = stats.spread if isfinite(stats.spread) else 0.0
                memory[name] = {"best": stats.mean, "spread": spread, "levels": _levels(seen, name), "falls": 0}
                continue
            spread = max(kept["spread"], stats.spread if isfinite(stats.spread) else 0.0, _TINY)
            noise = 2 * (2 / stats.valid) ** 0.5  # two standard errors of a difference, in spreads
            falling = (kept["best"] - stats.mean) / spread > max(self.least, noise) and _rise(
                seen, name, kept["levels"]
            ) > 0
            memory[name] = {**kept, "falls": kept["falls"] + 1 if falling else 0}
            if not kept["levels"]:  # the best was the first evaluation, before any rollout
                memory[name]["levels"] = _levels(seen, name)
            alarms.append((memory[name]["falls"], name, kept["best"], stats.mean))
        return self._alarm(max(alarms, default=None), seen), memory

    def _alarm(self, worst: tuple[int, str, float, float] | None, seen: EvaluationView) -> Alarm | None:
        if worst is None:
            return None
        level = level_of(self.warn, self.stop, lambda patience: worst[0] >= patience)
        return level and Alarm(guard="HeldOutFall", level=level, sentence=_sentence(*worst, worst[1] in seen.weights))


def _levels(seen: EvaluationView, name: str) -> dict[str, list[float]]:
    """Mean and spread of the trained rewards that ``name`` is compared with."""
    if name in seen.weights:
        pairs = {name: seen.rollouts.get(name)}
    else:
        held_out = {other: (stats.mean, stats.spread) for other, stats in seen.rewards.items()}
        pairs = {other: held_out.get(other, seen.rollouts.get(other)) for other in seen.weights}
    return {other: list(pair) for other, pair in pairs.items() if pair is not None and all(map(isfinite, pair))}


def _rise(seen: EvaluationView, name: str, before: Mapping[str, Sequence[float]]) -> float:
    """Weighted rise of the trained rewards in units of their spreads; 0 where nothing is known."""
    now = _levels(seen, name)
    return sum(
        seen.weights[other] * (now[other][0] - before[other][0]) / max(now[other][1], before[other][1], _TINY)
        for other in now.keys() & before.keys()
    )


def _sentence(falls: int, name: str, best: float, mean: float, trained: bool) -> str:
    fall = f"{name} on held-out images has been below its best ({mean:.3g}, was {best:.3g}) in {falls} evaluations"
    if trained:
        return f"{fall} while it rises on trained prompts: give more prompts, or keep the best LoRA and stop"
    return f"{fall} while the trained rewards rise: keep the best LoRA, train on {name}, too, or stop earlier"
