"""Credit per step by what the step did for the image, after OTCA (arXiv 2604.19234)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..support.facts import RunFacts
from .port import Advantages, Credit, Looked, ScoredGroup, Width


def likeness(x: Tensor, final: Tensor) -> Tensor:
    """Cosine ``[G]`` between latents ``[G, *L]``, each flattened; 0 beside a latent of zeros. In at least float32."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return F.cosine_similarity(x.flatten(1).to(dtype), final.flatten(1).to(dtype), dim=1)


def time_weights(before: Tensor, after: Tensor, eps: float) -> Tensor:
    """``relu(after - before) + eps``, divided by its mean over the steps.

    Args:
        before: ``[G, W]``, likeness to the final latents before each trained step.
        after: ``[G, W]``, the same after it.
        eps: >= 0, what a step gets that brought nothing.

    Returns:
        ``[G, W]``, >= 0, of mean 1 over the steps of each member; 1 throughout where no step has any.
    """
    gain = (after - before).clamp(min=0) + eps
    mean = gain.mean(1, keepdim=True)
    return torch.where(mean > 0, gain / mean.clamp(min=torch.finfo(mean.dtype).tiny), 1.0)


@dataclass(frozen=True)
class TimeCredit(Credit):
    """A step counts by how much nearer it brought the latents to the final image, in direction.

    ``w_t = relu(cos(x_s, x_final) - cos(x_t, x_final)) + eps`` for the step from ``x_t`` to ``x_s``, per image over the
    flattened latent, divided by the mean over the image's trained steps; ``A[G] -> A w [G, W]``.

    After OTCA (arXiv 2604.19234), its time credit, from notes on the paper. Differences: the weights have mean 1 over
    the trained steps (the paper's scale is not known), eps is ours, and the credit of several rewards is that of the
    stage before.

    Traps: in an early window it does almost nothing (on a straight path with orthogonal ends, 25 steps and shift 3,
    the weights of steps 0..3 are .88 .95 1.04 1.13); it tells steps apart where all or late steps are trained. A step
    whose noise lowers the cosine keeps eps alone, and the normalisation hands its credit to its neighbours.

    Attributes:
        eps: what a step gets that brought nothing; a whole path brings at most about 1, shared by its steps.
    """

    label: ClassVar[str] = "time credit (after OTCA)"
    widens: ClassVar[Width | None] = "step"

    eps: float = 1e-3

    def __post_init__(self) -> None:
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise ValueError(f"eps must be a finite number of 0 or more, found {self.eps}")

    def check(self, facts: RunFacts) -> None:
        """Raise ``ValueError`` where there is one step only, whose weight is always 1."""
        if max(facts.trained_steps) == 1:
            raise ValueError(
                f"TimeCredit weighs the trained steps of an image against each other, and {facts.planner} trains one: "
                "take the stage out, or train several steps"
            )

    def of_group(self, group: ScoredGroup, advantages: Advantages | None, looked: Looked) -> Advantages:
        """``[G, W]``: the values times the weights of each image's steps.

        Raises:
            ValueError: the rollout has no trained step.
        """
        assert advantages is not None  # it is never the first stage
        final, steps = group.trajectory.final, group.trajectory.transitions
        if not steps:
            raise ValueError("TimeCredit weighs the trained steps, and this rollout has none: take the stage out")
        before = torch.stack([likeness(step.x[step.parent], final) for step in steps], 1)
        after = torch.stack([likeness(step.x_next, final) for step in steps], 1)
        values = advantages.values if advantages.values.ndim > 1 else advantages.values[:, None]
        idle = (after <= before).double().mean()
        return advantages.changed(values * time_weights(before, after, self.eps).to(values), idle_steps=idle)
