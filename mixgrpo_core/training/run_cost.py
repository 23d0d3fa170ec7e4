"""What a run costs: each kind of iteration counted once, by running it (`cost`), times how many there are of it."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch

from ..sampling.planners import StepPlan
from ..settings.config import TrainConfig
from ..settings.course import course
from .cost import IterationCost, dance_iteration_cost, iteration_cost


@dataclass(frozen=True, kw_only=True)
class RunCost:
    """The cost of each kind of iteration with the number of iterations of it; ``dance`` is one of DanceGRPO's, in the
    same units."""

    parts: Sequence[tuple[int, IterationCost]]
    dance: float

    @property
    def share(self) -> float:
        """The run's network cost; DanceGRPO's is 1."""
        units = sum(count * cost.units for count, cost in self.parts)
        return units / (self.dance * sum(count for count, _ in self.parts))

    def span(self, phase: str) -> str:
        """Least and most evaluations per image of a phase: "3.1", or "14.0 to 24.1"."""
        found = [cost.nfe.get(phase, 0) for _, cost in self.parts]
        low, high = f"{min(found):.1f}", f"{max(found):.1f}"
        return low if low == high else f"{low} to {high}"

    @property
    def words(self) -> str:
        """The figures in two lines."""
        return (
            f"Network evaluations per image and iteration: {self.span('rollout')} for sampling, {self.span('train')} "
            f"for training.\nThe run costs {self.share:.0%} of DanceGRPO's."
        )


def run_cost(
    config: TrainConfig,
    guided: bool = False,
    on_part: Callable[[int, int], None] = lambda done, total: None,
) -> RunCost:
    """Count one iteration of each kind, and one of DanceGRPO with the same steps, images and updates.

    Args:
        config: the run's settings.
        guided: guidance makes two evaluations of each.
        on_part: hears (done, all) after each count; raising from it cancels.
    """
    per_call = 2 if guided else 1
    sigmas, counts = config.sigmas(), Counter[Hashable]()
    first: dict[Hashable, int] = {}
    changes = course(lambda iteration: _kind(config.plan(iteration, 0, sigmas)), config.foreseen)
    for (iteration, kind), end in zip(changes, [*(at for at, _ in changes[1:]), config.foreseen], strict=True):
        counts[kind] += end - iteration
        first.setdefault(kind, iteration)
    with torch.inference_mode(False), torch.enable_grad():
        dance = dance_iteration_cost(config, evaluations_per_call=per_call).units
        parts: list[tuple[int, IterationCost]] = []
        for kind, iteration in first.items():
            on_part(len(parts) + 1, len(first) + 1)
            parts.append((counts[kind], iteration_cost(config, iteration, evaluations_per_call=per_call)))
        on_part(len(first) + 1, len(first) + 1)
    return RunCost(parts=parts, dance=dance)


def _kind(plan: StepPlan) -> Hashable:
    """Iterations with the same of this cost the same: how many steps, which are noisy, how many of them are trained,
    and whether that starts with the step whose input the group shares."""
    return len(plan.steps), plan.stochastic, len(plan.trained), plan.trained[:1] == plan.stochastic[:1]
