"""The best policy of a run that has no held-out prompts: by the rewards of its own rollouts."""

from math import isfinite
from statistics import fmean

from ..models.port import LoraState
from ..runs.checkpoint import TrainState
from ..runs.reports import StepReport
from ..settings.config import TrainConfig

_MEAN_OF = 3  # iterations: each has prompts of its own, and one lucky draw is no better policy


class TrainingBest:
    """Keeps the weights that made the best rollouts until they are written.

    An iteration's rollouts are the work of the policy before its updates: these weights are held while it runs.

    Attributes:
        weights: of the best policy, where it has not been written yet; the untrained LoRA is never kept.
    """

    def __init__(self, state: TrainState, config: TrainConfig) -> None:
        self._state, self._config = state, config
        self._rolled_out: LoraState | None = None
        self.weights: LoraState | None = None

    def begin(self) -> None:
        """Hold the weights that the iteration rolls out with."""
        self._rolled_out = None
        if not self._state.notes.get("before") and self._state.iteration:  # no evaluation tells the best
            state = self._state.model.lora_state()
            self._rolled_out = {name: tensor.clone() for name, tensor in state.items()}

    def finish(self, report: StepReport) -> None:
        """Note what the iteration's rollouts were worth."""
        notes, value = self._state.notes, self._value(report)
        if notes.get("before") or value is None:
            return
        known = notes.get("best_training")
        recent = [*(known["recent"] if known else ()), value][-_MEAN_OF:]
        mean = fmean(recent)
        if known is None or mean > known["reward"]:
            notes["best_training"] = {"iteration": report.iteration, "reward": mean, "recent": recent}
            self.weights = self._rolled_out
        else:
            notes["best_training"] = {**known, "recent": recent}
        self._rolled_out = None

    def _value(self, report: StepReport) -> float | None:
        """Weighted mean of the trained rewards."""
        weights = {name: self._config.reward_weights.get(name, 1.0) for name in report.rewards}
        total = sum(weight * report.rewards[name].mean for name, weight in weights.items() if weight > 0)
        return total / sum(weights.values()) if isfinite(total) and sum(weights.values()) > 0 else None
