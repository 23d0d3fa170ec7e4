"""Pieces of several groups that go through the network in one call.

Groups are trained on side by side, column by column: what is left over of one, and the single row that a group shares
in its first step, fill up a call with those of others. A piece stays whole, so that what is measured of it does not
depend on its company.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import accumulate, groupby, zip_longest
from typing import NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor

from ..models.policy import Policy
from ..models.port import Velocity
from ..support.sized import size_of
from ..support.together import collected
from .pieces import Piece

T = TypeVar("T")
_Part: TypeAlias = tuple[int, Piece]


class Asked(NamedTuple):
    """A piece of a call, with the policies that answer for it.

    Attributes:
        number: of its group among those that are trained on side by side.
    """

    number: int
    policy: Policy
    piece: Piece


def waves(groups: Sequence[T], batch: int, prompt: Callable[[T], str] = lambda group: "") -> Iterator[Sequence[T]]:
    """Groups that go side by side: as many as fill a call with one row each, of prompts of one size."""
    return collected(groups, batch, lambda group: size_of(prompt(group)))


def side_by_side(batch: int, images: int, *, whole: bool) -> int:
    """Prompts of a wave whose calls have ``batch`` rows: one row of each while its group is one, or, ``whole``, no more
    than the groups of ``images`` that fill a call, so that there are several waves for what goes on meanwhile."""
    return max(1, batch // images) if whole else batch


def calls(
    pieces: Sequence[Iterable[Piece]],
    kinds: Sequence[Hashable],
    batch: int,
    velocity: Velocity,
    make: Callable[[Velocity], Policy],
) -> Iterator[list[Asked]]:
    """The pieces of groups in calls of up to ``batch`` rows, each group's in the order of its columns.

    Args:
        pieces: of each group.
        kinds: of the groups' conditionings; those of different kinds share no call, nor do different levels.
        velocity: the field of these conditionings, in their order.
        make: the policies of a field.
    """
    for pack in _packs(pieces, kinds, batch):
        policies = _policies(pack, velocity, make, several=len(kinds) > 1)
        yield [Asked(number, policy, piece) for (number, piece), policy in zip(pack, policies, strict=True)]


def _packs(groups: Sequence[Iterable[Piece]], kinds: Sequence[Hashable], batch: int) -> Iterator[list[_Part]]:
    columns = [groupby(pieces, key=lambda piece: piece.column.index) for pieces in groups]
    for runs in zip_longest(*columns):
        started: dict[Hashable, list[_Part]] = {}
        for number, run in enumerate(runs):
            for piece in () if run is None else run[1]:
                kind = (float(piece.sigma), piece.x.shape[1:], piece.x.dtype, kinds[number])
                if len(piece.x) >= batch:
                    yield [(number, piece)]
                    continue
                if len(piece.x) + sum(len(other.x) for _, other in started.get(kind, ())) > batch:
                    yield started.pop(kind)
                started.setdefault(kind, []).append((number, piece))
        yield from started.values()


def _policies(
    pack: Sequence[_Part], velocity: Velocity, make: Callable[[Velocity], Policy], *, several: bool
) -> list[Policy]:
    """Of each part: asked about the piece's own input, it answers for all of them in one call."""
    if not several:
        return [make(velocity) for _ in pack]
    alone = [make(_of_one(velocity, number)) for number, _ in pack]
    if len(pack) == 1:
        return alone
    sizes = [len(piece.x) for _, piece in pack]
    own = torch.tensor([number for number, _ in pack]).repeat_interleave(torch.tensor(sizes))
    x, sigma, joint = torch.cat([piece.x for _, piece in pack]), pack[0][1].sigma, make(_of_rows(velocity, own))
    return [
        _PartOfCall(joint, x, sigma, piece, slice(end - len(piece.x), end), one)
        for (_, piece), end, one in zip(pack, accumulate(sizes), alone, strict=True)
    ]


def _of_rows(velocity: Velocity, own: Tensor) -> Velocity:
    """The field whose rows have the conditionings ``own [B]``."""
    return lambda x, sigma, rows=None: velocity(x, sigma, own)


def _of_one(velocity: Velocity, number: int) -> Velocity:
    """The field of one conditioning."""
    return lambda x, sigma, rows=None: velocity(x, sigma, torch.full((len(x),), number))


class _PartOfCall(Policy):
    """The policies of one piece, which are computed for its whole call.

    Args:
        joint: the policies of the call, of the input ``x`` at ``sigma``; ``its`` rows are the piece's.
        alone: the piece's own, for what else it is asked about.
    """

    def __init__(self, joint: Policy, x: Tensor, sigma: Tensor, piece: Piece, its: slice, alone: Policy) -> None:
        self._joint, self._all, self._level, self._piece, self._its, self._alone = joint, x, sigma, piece, its, alone

    def asked(self, name: str | None, x: Tensor, sigma: Tensor) -> Tensor:
        if x is self._piece.x and sigma is self._piece.sigma:
            return self._joint.asked(name, self._all, self._level)[self._its]
        return self._alone.asked(name, x, sigma)
