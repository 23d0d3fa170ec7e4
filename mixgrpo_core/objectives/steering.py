"""How far an iteration's updates move the policy, how much of that is right, and a learning rate that is steered by it.

The move is the change of the velocity since the rollout, relative to the velocity itself:

    move = rms(v - v_old) / rms(v)

on members that no update of the iteration has used yet, over all trained steps. It is taken from numbers that an update
has anyway. A kernel's mean is linear in v with slope kappa, so the log-ratio of a member with rollout noise z is
``kappa (v - v_old) z / std`` per element but for a part that all members share, and its mean over D elements has the
variance ``(kappa / std)^2 mean((v - v_old)^2) / D``. Hence

    mean((v - v_old)^2) = D var(log_ratio) (std / kappa)^2

over an update's members of one prompt and step, two or more. D, window, noise and kernel cancel out; rank, optimizer
and batch do not enter. A second pass over the same members would be biased, for the policy has fitted their noise.

The signal is the correlation of these members' advantages with their log-ratios: how much of the reward the move gains.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..models.policy import Policy
from ..support.ranks import ALONE, Ranks
from .clipped import log_prob
from .own_step import steered
from .pieces import Elsewhere, Group, Piece

_SUMS = 6
"""Of an update's members: what `_Heard.sums` has."""


def tells(chunks: Sequence[Sequence[Group | Elsewhere]]) -> bool:
    """Whether an update hears of another's move: it has two members of a group, or more, whose noise can tell it."""
    return any(group.count > 1 for chunk in chunks[1:] for group in chunk)


class Steering:
    """The moves of one iteration's updates, and the learning rate where it is the trainer's own to set.

    Args:
        updates: of a pass over the members; later passes are neither measured nor steered.
        wanted: the move that they should end at; None where the rate is fixed.
        ranks: whose moves are one.
    """

    def __init__(self, optimizer: Optimizer, updates: int, wanted: float | None, ranks: Ranks = ALONE) -> None:
        self._ranks = ranks
        self._optimizer, self._updates, self._wanted = optimizer, updates, wanted
        self._done, self._noise = 0, 0.0
        self._heard: dict[tuple[int, int], _Heard] = {}
        self._sums = [0.0] * (_SUMS - 2)
        self.move: float | None = None

    @torch.no_grad()
    def hear(self, policy: Policy, piece: Piece, advantages: Tensor, place: int) -> None:
        """A piece of a recorded step, whose velocity has just been asked for and is remembered.

        Args:
            advantages: ``[g]``, ``[g, 1]`` or ``[g, 1, *latent]``, of the piece's members; an area counts as its mean.
            place: of the piece's group.
        """
        step = piece.step
        kappa, std = step.kernel.sensitivity(step.sigma, step.sigma_next)
        if self._done >= self._updates or not kappa or not std:
            return
        heard = self._heard.setdefault((place, piece.column.index), _Heard(unit=(std / kappa) ** 2))
        heard.velocities.append(policy(piece.x, piece.sigma).detach().float().square().flatten(1).mean(1)[piece.parent])
        heard.log_ratios.append((log_prob(policy, piece) - step.old_log_prob).float())
        heard.advantages.append(advantages.float().flatten(1).mean(1) if advantages.ndim > 1 else advantages.float())
        heard.edges.append(step.edge)
        heard.elements = piece.x[0].numel()

    @torch.no_grad()
    def before_step(self) -> None:
        """All pieces of an update have been heard, its gradient is there: measure, and set the rate of its step.

        The first update sees the policy of the rollout: what moves there is rounding, and is taken off later.
        """
        found = [heard.sums() for heard in self._heard.values() if heard.members > 1]
        self._heard = {}
        own = torch.stack(found).sum(0).tolist() if found else [0.0] * _SUMS
        size, change, *signal = self._ranks.sum_numbers(*own)
        if size > 0 and self._done == 0:
            self._noise = change / size
        elif size > 0:
            self._sums = [before + now for before, now in zip(self._sums, signal, strict=True)]
            self.move = sqrt(max(change / size - self._noise, 0.0))
            if self._wanted is not None:
                self._set(steered(self.rate, self.move, self._wanted * self._done / self._updates))
        self._done += 1

    def settle(self, size: float, change: float) -> None:
        """What a look back at all updates tells, squares of the velocity and of its change: for the next iteration."""
        size, change = self._ranks.sum_numbers(size, change)
        if size > 0:
            self.move = sqrt(change / size)
            if self._wanted is not None:
                self._set(steered(self.rate, self.move, self._wanted))

    def _set(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    @property
    def rate(self) -> float:
        """Of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    @property
    def figures(self) -> dict[str, float]:
        """For the report; no move and no signal where nothing could tell it."""
        told = {} if self.move is None else {"move": self.move}
        product, changes, advantages, cells = self._sums
        if changes > 0 and advantages > 0:
            told |= {"signal": product / sqrt(changes * advantages), "signal_cells": cells}
        return told if self._wanted is None else {**told, "move_target": self._wanted, "rate": self.rate}


@dataclass
class _Heard:
    """An update's members of one prompt and step, ``[g]`` a piece."""

    unit: float
    elements: int = 0
    velocities: list[Tensor] = field(default_factory=list)
    log_ratios: list[Tensor] = field(default_factory=list)
    advantages: list[Tensor] = field(default_factory=list)
    edges: list[Tensor] = field(default_factory=list)

    @property
    def members(self) -> int:
        return sum(map(len, self.log_ratios))

    def sums(self) -> Tensor:
        """Squares of velocities and of their changes; advantage times log-ratio, squares of both, and their number.

        The last four are of the distinct outcomes of the step, of which members of a tree share some. What all
        log-ratios have in common is no part of them, which takes an outcome's worth of spread away.
        """
        log_ratio, advantage = torch.cat(self.log_ratios), torch.cat(self.advantages)
        change, members = log_ratio - log_ratio.mean(), self.members
        outcomes = 1 + (torch.cat(self.edges).sort().values.diff() != 0).sum()
        spread = outcomes / (outcomes - 1).clamp(min=1)
        moved = log_ratio.var() * self.elements * self.unit * members
        products = torch.stack([(advantage * change).sum() * spread, change.square().sum() * spread])
        squares = torch.stack([advantage.square().sum(), torch.full_like(moved, members)])
        return torch.cat(
            [torch.cat(self.velocities).sum()[None], moved[None], torch.cat([products, squares]) * outcomes / members]
        )
