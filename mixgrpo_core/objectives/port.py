"""The objective port: a trajectory and its advantages become a loss.

Transition objectives (GRPO) re-evaluate the recorded steps; forward-process objectives (NFT, AWM) look at the final
latents and fresh noise only. Both are one method.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from ..models.port import Policy
from ..sampling.trajectory import Trajectory

TRANSITIONS = "transitions"
"""Works on the recorded steps; it is called with one of them at a time. Without it: on final latents."""
MEAN_OLD = "mean_old"
"""The rollout keeps the mean of each recorded transition."""
REFERENCE = "reference"
"""Evaluates the base model (``policy.reference``)."""
OLD = "old"
"""Evaluates the policy of the rollout (``policy.old``)."""
NEEDS = frozenset({TRANSITIONS, MEAN_OLD, REFERENCE, OLD})


@dataclass(frozen=True, kw_only=True)
class LossReport:
    """What an objective made of one piece.

    Attributes:
        loss: scalar with gradient, a mean over the piece's members.
        means: detached scalars that are averaged over the pieces of an update (clip fractions, KL).
        maxima: detached scalars of which the largest counts (``ratio_deviation``).
    """

    loss: Tensor
    means: Mapping[str, Tensor] = field(default_factory=dict)
    maxima: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """``needs`` says what it asks of the rollout and of the policies: words of this module."""

    @property
    def needs(self) -> frozenset[str]: ...

    def clip_range(self, latent_elements: int) -> tuple[float, float] | None:
        """(low, high) of its ratio; ``None`` when it has none. Rollout noise above a tenth of it is recomputed."""
        ...

    def loss(self, velocity: Policy, trajectory: Trajectory, advantage: Tensor) -> LossReport:
        """Loss of one piece.

        Args:
            velocity: the policy being trained, callable ``(x, sigma) -> v``.
            trajectory: the piece's members ``g``; for transition objectives it holds exactly one transition.
            advantage: ``[g]``, or ``[g, *latent]`` (broadcastable) for per-position credit.
        """
        ...
