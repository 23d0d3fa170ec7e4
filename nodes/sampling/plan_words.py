"""What a run trains, in words."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from ...mixgrpo_core import DecayingWindow, SlidingWindow, StepPlan, TrainConfig, WindowPlanner

MOST = 10_000
"""Iterations of a plan that are counted."""


def plans_of(config: TrainConfig) -> list[StepPlan]:
    """The plan of every iteration's first prompt, of the first ``MOST`` iterations."""
    sigmas = config.sigmas()
    return [config.plan(iteration, 0, sigmas) for iteration in range(min(config.foreseen, MOST))]


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
