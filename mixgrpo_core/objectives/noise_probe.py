"""Rounding between rollout and update: where it moves ratios by over a tenth of the clip, old log-probs are retaken.

Both compute the same numbers in other batches. The first ratio should be 1; what it is off by is measured before the
first optimizer step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import torch

from ..models.policy import Policy
from ..models.port import FlowModel, Velocity, alike
from ..models.sizes import sized
from ..support.ranks import Ranks
from .packs import calls, waves
from .pieces import Elsewhere, Group, transition_pieces
from .port import OLD_MEAN, TRANSITIONS, Objective, RatioObjective


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

    model: FlowModel[Any]
    objective: Objective
    batch: int
    policy: Callable[[Velocity], Policy]

    @torch.no_grad()
    def deviation(self, group: Group) -> float:
        """How far first ratios of a group are from 1; 0 without a ratio.

        Of the last trained step a full call is looked at, and what is left over; of the first one, whose rows groups
        share, a call where it is of another size.
        """
        objective = self.objective
        if not isinstance(objective, RatioObjective):
            return 0.0
        last = len(group.trajectory.transitions) - 1
        pieces = list(transition_pieces(group, self.batch))
        ends, starts = ([piece for piece in pieces if piece.column.index == column] for column in (last, 0))
        looked_at = ends[:1] + ends[1:][-1:]
        looked_at += [piece for piece in starts[:1] if len(piece.x) not in [len(other.x) for other in looked_at]]

        def deviation(velocity: Velocity) -> float:
            ratios = [objective.log_ratio(self.policy(velocity), piece).exp() for piece in looked_at]
            return float(torch.stack([(ratio - 1).abs().max() for ratio in ratios]).max())

        return sized(self.model, group.prompt).run((group.cond,), deviation)

    @torch.no_grad()
    def rescored(self, groups: Sequence[Group]) -> list[Group]:
        """One update's groups with old log-probs, and old means where the objective needs them, as it computes them."""
        found: dict[int, Group] = {}
        for places in waves(range(len(groups)), self.batch, lambda place: groups[place].prompt):
            wave = [groups[place] for place in places]
            model = sized(self.model, wave[0].prompt)
            found.update(zip(places, model.run([group.cond for group in wave], partial(self._anew, wave)), strict=True))
        return [found[place] for place in range(len(groups))]

    def _anew(self, groups: Sequence[Group], velocity: Velocity) -> list[Group]:
        transitions = [list(group.trajectory.transitions) for group in groups]
        pieces = [transition_pieces(group, self.batch) for group in groups]
        kinds = [alike(self.model, group.cond) for group in groups]
        for call in calls(pieces, kinds, self.batch, velocity, self.policy):
            for number, policy, piece in call:
                transition, column = piece.step, piece.column.index
                rows = transition.gaussian(policy(piece.x, piece.sigma))
                log_prob = transition.per_member(rows).log_prob(transition.x_next)
                mean = rows.mean if OLD_MEAN in self.objective.needs else None
                its = transitions[number]
                its[column] = its[column].rescored(piece.members, log_prob, mean)
        return [
            replace(group, trajectory=replace(group.trajectory, transitions=tuple(its)))
            for group, its in zip(groups, transitions, strict=True)
        ]


def without_noise(
    probe: NoiseProbe | None, chunks: Sequence[Sequence[Group | Elsewhere]], ranks: Ranks
) -> tuple[float | None, bool, Sequence[Sequence[Group]]]:
    """The noise between rollout and update, whether it is too much, and this rank's groups, then without it.

    Args:
        probe: None where it is not looked at.
        chunks: the updates' groups.
    """
    own = [[group for group in chunk if isinstance(group, Group)] for chunk in chunks]
    most = None if probe is None else noise_allowed(probe.objective, probe.model.latent_shape)
    if probe is None or most is None:
        return None, False, own
    first = chunks[0][0]
    (noise,) = ranks.sum_numbers(probe.deviation(first) if isinstance(first, Group) else 0.0)
    return noise, noise > most, own if noise <= most else [probe.rescored(chunk) for chunk in own]
