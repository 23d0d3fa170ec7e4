"""A published planner, objective or prompt source for other steps, images and iterations than the published ones."""

from dataclasses import replace
from itertools import accumulate, pairwise

from ..objectives import GCPO
from ..objectives.clipped import ClippedObjective
from ..objectives.port import Objective
from ..sampling import BranchPlanner, BranchStepPlanner, TreePlanner, WanderingTreePlanner
from ..sampling.kernels import FlowCPS, Kernel
from ..sampling.planners import Planner, WindowPlanner
from ..sampling.schedule import flow_sigmas
from ..sampling.windows import SlidingWindow
from ..support.setting import changed
from .prompt_sources import PocaCurriculum, PromptSource


def fitted_objective(objective: Objective, trained: int) -> Objective:
    """The objective where a published clip, which is of one latent size, or chunks of other steps would not fit."""
    if isinstance(objective, GCPO) and objective.chunks:
        ends = [round(end * trained / sum(objective.chunks)) for end in accumulate(objective.chunks)]
        chunks = tuple(end - start for start, end in pairwise([0, *ends]))
        return replace(objective, chunks=chunks if all(chunks) else None)
    return replace(objective, clip=None) if isinstance(objective, ClippedObjective) else objective


def fitted_tree(planner: Planner, steps: int, images: int) -> Planner:
    """A planner whose tree has at most ``images`` leaves, at places in proportion to those of its published steps."""
    if isinstance(planner, BranchStepPlanner):
        return replace(planner, children=max(2, min(planner.children, images // 2)))
    if isinstance(planner, TreePlanner):
        return replace(planner, window=changed(planner.window, {"size": _depth(planner.window.size, planner, images)}))
    if isinstance(planner, BranchPlanner):
        depth = min(_depth(len(planner.splits), planner, images), steps - 2)
        return replace(planner, splits=_spread(planner.splits[:depth], steps / _BRANCH_STEPS))
    if isinstance(planner, WanderingTreePlanner):
        depth = min(_depth(len(planner.early), planner, images), steps - 3)
        early, late = (_spread(places[:depth], steps / _TMPO_STEPS) for places in (planner.early, planner.late))
        return replace(planner, early=early, late=late)
    return planner


_BRANCH_STEPS, _TMPO_STEPS = 20, 6
"""Steps of the rollouts that the planners' default places belong to."""


def _depth(published: int, planner: TreePlanner | BranchPlanner | WanderingTreePlanner, images: int) -> int:
    """The most splits that ``images`` have leaves for, at least one."""
    return max(depth for depth in range(1, published + 1) if depth == 1 or planner.children**depth <= images)


def _spread(places: tuple[int, ...], factor: float) -> tuple[int, ...]:
    """The places times a factor, ascending and apart."""
    found: list[int] = []
    for place in places:
        found.append(max(round(place * factor), found[-1] + 1 if found else place))
    return tuple(found)


def fitted_window(planner: Planner, size: int, pace: float, last: int | None, flash: bool) -> Planner:
    """The planner's window with at most ``size`` steps, and not beyond start ``last`` if it has no end of its own.

    With few steps there is no tail to shorten.
    """
    if not isinstance(planner, WindowPlanner):
        return planner
    window = changed(planner.window, {"size": min(planner.window.size, size)})
    if isinstance(window, SlidingWindow):
        window = replace(
            window, hold=max(1, round(window.hold * pace)), last=last if window.last is None else window.last
        )
    return replace(planner, window=window, tail_ratio=planner.tail_ratio if flash else 1.0)


def fitted_course(planner: Planner, source: PromptSource, share: float) -> tuple[Planner, PromptSource]:
    """The planner and the prompt source where what changes over a run changes over ``share`` of its iterations."""
    if isinstance(planner, WanderingTreePlanner):
        planner = replace(planner, over=max(1, round(planner.over * share)))
    if isinstance(source, PocaCurriculum):
        second, third = (round(iteration * share) for iteration in source.until)
        source = replace(source, until=(second, third))
    return planner, source


def without_left_noise(kernel: Kernel, planner: Planner, steps: int) -> Kernel:
    """Flow-CPS, which leaves no noise in few steps, as strong as its range and the planner's own factors allow."""
    strongest = max(step.strength for step in planner.trainable(flow_sigmas(steps, 3.0)))
    return FlowCPS(eta=min(kernel.eta, 1 / strongest))


def images_of(planner: Planner, steps: int, most: int) -> int:
    """The largest number of images up to ``most`` that the planner's leaves divide."""
    leaves = planner.plan(0, 0, flow_sigmas(steps, 3.0)).leaves_per_row
    return max(leaves, most // leaves * leaves)
