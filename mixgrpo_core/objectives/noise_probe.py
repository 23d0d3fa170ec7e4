"""Rounding between rollout and update: where it moves ratios by over a tenth of the clip, old log-probs are retaken.

Both compute the same numbers in other batches. The first ratio should be 1; what it is off by is measured before the
first optimizer step.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import torch

from ..models.policy import Policy
from ..models.port import FlowModel, Velocity, alike
from .packs import Asked, calls, waves
from .pieces import Group, Piece, transition_pieces
from .port import MEAN_OLD, TRANSITIONS, Objective, RatioObjective


def noise_allowed(objective: Objective, latent_shape: Sequence[int]) -> float | None:
    """How far first ratios may be from 1; None without a ratio of recorded steps."""
    if not isinstance(objective, RatioObjective) or TRANSITIONS not in objective.needs:
        return None
    return min(objective.clip_range(prod(latent_shape), latent_shape[0])) / 10


@dataclass(frozen=True)
class NoiseProbe:
    """Compares rollout and update, the update in the calls that it will make.

    Args:
        batch: rows of such a call.
        policy: makes the policies of a velocity field.
    """

    model: FlowModel
    objective: Objective
    batch: int
    policy: Callable[[Velocity], Policy]

    @torch.no_grad()
    def deviation(self, groups: Sequence[Group]) -> float:
        """How far first ratios of one update's groups are from 1; 0 without a ratio.

        Of the last trained step a full call is looked at, and what is left over; of the first one, whose rows groups
        share, a call where it is another size.
        """
        objective = self.objective
        if not isinstance(objective, RatioObjective):
            return 0.0
        wave = next(waves(groups, self.batch))

        def of(call: Sequence[Asked]) -> float:
            return max(float((objective.log_ratio(policy, piece).exp() - 1).abs().max()) for _, policy, piece in call)

        def deviation(velocity: Velocity) -> float:
            first, last = (list(self._calls(wave, self._outer(wave, last), velocity)) for last in (False, True))
            looked_at = last[:1] + last[1:][-1:]
            others = [call for call in first[:1] if _size(call) not in map(_size, looked_at)]
            return max(map(of, looked_at + others))

        return self.model.run([group.cond for group in wave], deviation)

    @torch.no_grad()
    def rescored(self, groups: Sequence[Group]) -> list[Group]:
        """One update's groups with old log-probs, and old means where the objective needs them, as it computes them."""
        found: list[Group] = []
        for wave in waves(groups, self.batch):
            found += self.model.run([group.cond for group in wave], partial(self._anew, wave))
        return found

    def _anew(self, groups: Sequence[Group], velocity: Velocity) -> list[Group]:
        transitions = [list(group.trajectory.transitions) for group in groups]
        pieces = [transition_pieces(group, self.batch) for group in groups]
        for call in self._calls(groups, pieces, velocity):
            for number, policy, piece in call:
                transition, column = piece.step, piece.column.index
                rows = transition.gaussian(policy(piece.x, piece.sigma))
                log_prob = transition.per_member(rows).log_prob(transition.x_next)
                mean = rows.mean if MEAN_OLD in self.objective.needs else None
                its = transitions[number]
                its[column] = its[column].rescored(piece.members, log_prob, mean)
        return [
            replace(group, trajectory=replace(group.trajectory, transitions=tuple(its)))
            for group, its in zip(groups, transitions, strict=True)
        ]

    def _outer(self, groups: Sequence[Group], last: bool) -> list[list[Piece]]:
        """The pieces of each group's first or last trained step."""
        steps = [len(group.trajectory.transitions) - 1 if last else 0 for group in groups]
        return [
            [piece for piece in transition_pieces(group, self.batch) if piece.column.index == step]
            for group, step in zip(groups, steps, strict=True)
        ]

    def _calls(
        self, groups: Sequence[Group], pieces: Sequence[Iterable[Piece]], velocity: Velocity
    ) -> Iterator[list[Asked]]:
        kinds = [alike(self.model, group.cond) for group in groups]
        return calls(pieces, kinds, self.batch, velocity, self.policy)


def _size(call: Sequence[Asked]) -> int:
    return sum(len(piece.x) for _, _, piece in call)
