"""What a run trains and what it costs, in words. The core counts: its real rollout and update on a counting network."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from ...mixgrpo_core import DecayingWindow, SlidingWindow, StepPlan, TrainConfig, WindowPlanner
from ...mixgrpo_core.training.cost import IterationCost, dance_iteration_cost, iteration_cost

MOST = 10_000
"""Iterations of a plan that are counted."""


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


def plans_of(config: TrainConfig) -> list[StepPlan]:
    """The plan of every iteration's first prompt, of the first ``MOST`` iterations."""
    sigmas = config.sigmas()
    return [config.plan(iteration, 0, sigmas) for iteration in range(min(config.foreseen, MOST))]


def run_cost(
    config: TrainConfig, plans: Sequence[StepPlan], guided: bool, on_part: Callable[[int, int], None]
) -> RunCost:
    """Count one iteration of each kind, and one of DanceGRPO with the same steps, images and updates.

    Args:
        config: the run's settings.
        plans: those of its iterations (`plans_of`).
        guided: guidance makes two evaluations of each.
        on_part: hears (done, all) after each count; raising from it cancels.
    """
    per_call = 2 if guided else 1
    kinds: dict[tuple, list[int]] = {}
    for iteration, plan in enumerate(plans):
        kinds.setdefault(_kind(plan), []).append(iteration)
    with torch.inference_mode(False), torch.enable_grad():
        dance = dance_iteration_cost(config, evaluations_per_call=per_call).units
        parts: list[tuple[int, IterationCost]] = []
        for iterations in kinds.values():
            on_part(len(parts) + 1, len(kinds) + 1)
            parts.append((len(iterations), iteration_cost(config, iterations[0], evaluations_per_call=per_call)))
        on_part(len(kinds) + 1, len(kinds) + 1)
    return RunCost(parts=parts, dance=dance)


def _kind(plan: StepPlan) -> tuple:
    """Iterations with the same of this cost the same: how many steps, which are noisy, how many of them are trained,
    and whether that starts with the step whose input the group shares."""
    return len(plan.steps), plan.stochastic, len(plan.trained), plan.trained[:1] == plan.stochastic[:1]


def coverage_words(config: TrainConfig, plans: Sequence[StepPlan]) -> str:
    """Which step is trained in how many iterations."""
    counts = Counter(step for plan in plans for step in plan.trained)
    prompts = "one prompt" if config.prompts_per_iteration == 1 else f"each of {config.prompts_per_iteration} prompts"
    lines = [
        f"{_iterations_words(config, len(plans))} of {config.steps} steps; each makes "
        f"{config.images_per_prompt} images for {prompts}.",
    ]
    if not counts:
        return (
            f"{lines[0]}\nNo step is trained: {type(config.objective).__name__} learns from the images that come out."
        )
    lines += [
        f"The first iteration trains {steps_words(plans[0].trained)}, the last {steps_words(plans[-1].trained)}.",
        "Trained, in so many of the iterations: "
        + ", ".join(f"{steps_words(steps)} in {count}" for count, steps in _runs(counts) if count)
        + ".",
    ]
    missed = [step for step in range(config.steps - 1) if not counts[step]]
    if missed:
        lines.append(f"Never trained: {steps_words(missed)}.{_advice(config)}")
    lines.append(f"Step {config.steps - 1}, the last, ends at the clean image and is never trained.")
    return "\n".join(lines)


def _iterations_words(config: TrainConfig, counted: int) -> str:
    """How many there are, and how many are counted below where those are fewer."""
    whole = "Iterations until it is stopped" if config.endless else f"{config.iterations} iterations"
    return whole if counted == config.iterations else f"{whole}, the first {counted} counted here,"


def steps_words(steps: Sequence[int]) -> str:
    """ "no step", "step 3", "steps 0 to 3", or "steps 1, 4 and 7"; ascending."""
    if not steps:
        return "no step"
    if len(steps) == 1:
        return f"step {steps[0]}"
    if steps[-1] - steps[0] == len(steps) - 1:
        return f"steps {steps[0]} to {steps[-1]}"
    return f"steps {', '.join(map(str, steps[:-1]))} and {steps[-1]}"


def _runs(counts: Counter[int]) -> list[tuple[int, list[int]]]:
    """Neighbouring steps of equal count: (count, steps)."""
    every = range(max(counts) + 1)
    return [(count, list(steps)) for count, steps in groupby(every, key=lambda step: counts[step])]


def _advice(config: TrainConfig) -> str:
    """What lets a sliding window come further, if it is the run's end that stops it."""
    window = config.planner.window if isinstance(config.planner, WindowPlanner) else None
    if not isinstance(window, SlidingWindow | DecayingWindow) or window.last is not None:
        return ""
    return " The run ends before the window comes there: a smaller hold, a larger stride or more iterations reach them."
