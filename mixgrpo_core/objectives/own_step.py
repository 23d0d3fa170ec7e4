"""How far updates move the policy, and a learning rate that steers to it.

The move is the change of the velocity since the rollout, relative to the velocity itself:

    move = rms(v - v_old) / rms(v)

on members that no update of the iteration has used yet, over all trained steps. It is taken from numbers that an update
has anyway. A kernel's mean is linear in v with slope kappa, so the log-ratio of a member with rollout noise z is
``kappa (v - v_old) z / std`` per element but for a part that all members share, and its mean over D elements has the
variance ``(kappa / std)^2 mean((v - v_old)^2) / D``. Hence

    mean((v - v_old)^2) = D var(log_ratio) (std / kappa)^2

per piece of more than one member, which D, window, noise and kernel cancel out of, and rank, optimizer and batch do not
enter. A second pass over the same members would be biased, for the policy has fitted their noise.

The rule, ``k`` of ``n`` updates done in iteration t, asks for `TARGET` of the velocity per iteration, spread evenly
over the updates, and less as the run goes on, where noise is what is left to be learned from:

    rate *= clamp(sqrt(TARGET / sqrt(1 + t / FALL) * (k / n) / move), 1 / 2, 2)

Label: our own; found on the demo model (`benchmarks/`), not published.
"""

from math import sqrt
from typing import Final, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..models.policy import Policy
from ..support.ranks import ALONE, Ranks
from .clipped import log_prob
from .pieces import Piece

AUTO: Final = "auto"
Auto = Literal["auto"]
TARGET, FALL = 0.05, 6
"""Share of the velocity that the first iteration moves it by; iterations after which it is 1 / sqrt(2) of that."""
FIRST_RATE, LOWEST, HIGHEST = 1e-4, 1e-6, 3e-2
"""The rate of the very first update, and the limits of the rate."""
LEAST_UPDATES, MOST_UPDATES, MEMBERS = 4, 16, 6
"""Updates of an iteration below which nothing can be steered in time, above which none is added, and the least members
of each."""


def target(iteration: int, share: float = 1.0) -> float:
    """The move that iteration ``iteration`` (from 0) should end at; ``share`` is less than 1 where that did harm."""
    return share * TARGET / sqrt(1 + iteration / FALL)


def steered(rate: float, move: float, wanted: float) -> float:
    """The next learning rate after updates that moved the policy by ``move``, where ``wanted`` was asked.

    The square root and the bounds keep the noise of a measured move (28 % for 6 members and 2 steps) from the rate.
    """
    factor = sqrt(wanted / max(move, 1e-9))
    return min(max(rate * min(max(factor, 0.5), 2.0), LOWEST), HIGHEST)


def most_count(prompts: int, images: int) -> int:
    """Most updates of an iteration that have two images of a prompt each, out of ``images`` of each of ``prompts``."""
    return prompts * (images // 2)


def own_count(groups: int, images: int, *, whole: bool) -> int:
    """Updates of an iteration of ``groups`` prompts of ``images`` each, where the trainer chooses: as many as leave
    enough members for each; no more than groups where these are never taken apart (``whole``)."""
    return max(1, min(MOST_UPDATES, groups if whole else groups * images // MEMBERS))


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
        self._change: Tensor | float = 0.0
        self._size: Tensor | float = 0.0
        self.move: float | None = None

    @torch.no_grad()
    def hear(self, policy: Policy, piece: Piece) -> None:
        """A piece of a recorded step, whose velocity has just been asked for and is remembered."""
        step, members = piece.step, len(piece.members)
        kappa, std = step.kernel.sensitivity(step.sigma, step.sigma_next)
        if self._done >= self._updates or members < 2 or not kappa or not std:
            return
        velocity = policy(piece.x, piece.sigma).detach().float()
        log_ratio = (log_prob(policy, piece) - step.old_log_prob).float()
        self._change = self._change + log_ratio.var() * velocity[0].numel() * (std / kappa) ** 2 * members
        self._size = self._size + velocity.square().mean() * members

    def before_step(self) -> None:
        """All pieces of an update have been heard, its gradient is there: measure, and set the rate of its step.

        The first update sees the policy of the rollout: what moves there is rounding, and is taken off later.
        """
        size, change = self._ranks.sum_numbers(float(self._size), float(self._change))
        if size > 0 and self._done == 0:
            self._noise = change / size
        elif size > 0:
            self.move = sqrt(max(change / size - self._noise, 0.0))
            if self._wanted is not None:
                self._set(steered(self.rate, self.move, self._wanted * self._done / self._updates))
        self._done += 1
        self._change = self._size = 0.0

    def _set(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    @property
    def rate(self) -> float:
        """Of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    @property
    def figures(self) -> dict[str, float]:
        """For the report; no move where nothing could tell it."""
        moved = {} if self.move is None else {"move": self.move}
        return moved if self._wanted is None else {**moved, "move_target": self._wanted, "rate": self.rate}
