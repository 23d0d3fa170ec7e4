"""Rounding between rollout and update: where it moves ratios by over a tenth of the clip, old log-probs are retaken.

Both compute the same numbers in other batches. The first ratio should be 1; what it is off by is measured before the
first optimizer step.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import torch

from ..models.policy import Policy
from ..models.port import FlowModel, Velocity
from .pieces import Group, transition_pieces
from .port import MEAN_OLD, TRANSITIONS, Objective, RatioObjective

MakePolicy = Callable[[Velocity], Policy]


def noise_allowed(objective: Objective, latent_shape: Sequence[int]) -> float | None:
    """How far first ratios may be from 1; None without a ratio of recorded steps."""
    if not isinstance(objective, RatioObjective) or TRANSITIONS not in objective.needs:
        return None
    return min(objective.clip_range(prod(latent_shape), latent_shape[0])) / 10


@torch.no_grad()
def rollout_noise(model: FlowModel, objective: Objective, group: Group, batch: int, policy: MakePolicy) -> float:
    """How far first ratios of the last trained step are from 1; 0 without a ratio."""
    if not isinstance(objective, RatioObjective):
        return 0.0
    last = len(group.trajectory.transitions) - 1
    pieces = [piece for piece in transition_pieces(group, batch) if piece.column.index == last]
    probes = pieces[:1] + pieces[1:][-1:]  # a full batch, and what is left over

    def deviation(velocity: Velocity) -> float:
        return max(float((objective.log_ratio(policy(velocity), probe).exp() - 1).abs().max()) for probe in probes)

    return model.run((group.cond,), deviation)


@torch.no_grad()
def rescored(model: FlowModel, objective: Objective, group: Group, batch: int, policy: MakePolicy) -> Group:
    """The group with old log-probs, and old means where the objective needs them, in the update's own batches."""
    transitions = list(group.trajectory.transitions)

    def rescore(velocity: Velocity) -> None:
        for piece in transition_pieces(group, batch):
            transition = piece.step
            rows = transition.gaussian(policy(velocity)(piece.x, piece.sigma))
            log_prob = transition.per_member(rows).log_prob(transition.x_next)
            mean = rows.mean if MEAN_OLD in objective.needs else None
            column = piece.column.index
            transitions[column] = transitions[column].rescored(piece.members, log_prob, mean)

    model.run((group.cond,), rescore)
    return replace(group, trajectory=replace(group.trajectory, transitions=tuple(transitions)))
