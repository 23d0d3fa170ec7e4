"""Groups to train on, cut into pieces that are small enough for one forward and backward.

A *column* is what one network input of each member is about: a recorded transition, or a forward draw, where the final
latents are noised again. A piece is some members of one column.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..models.port import FlowModel
from ..rewards.port import Scores
from ..sampling.kernels import Kernel
from ..sampling.schedule import noise_of_start
from ..sampling.trajectory import Trajectory, Transition
from ..support.queued import index_on, scalar_on
from ..support.seeds import derive_seed

KEPT_NO_START = "the rollout kept no states: name START in the objective's `needs`, or record steps of the plan"


class StepNumbers(NamedTuple):
    """What step weights are made of: ``kappa = |d mean / d v|``, ``std`` and ``h = sigma - sigma_next`` of a step."""

    kappa: float
    std: float
    h: float

    @classmethod
    def of(cls, kernel: Kernel, sigma: Tensor | float, sigma_next: Tensor | float) -> "StepNumbers":
        """Those of one step of ``kernel``."""
        return cls(*kernel.sensitivity(sigma, sigma_next), float(sigma) - float(sigma_next))


class Noise(Enum):
    """Where the noise of a forward draw comes from."""

    GROUP = "fresh, one for the whole group"
    MEMBER = "fresh, one for each member"
    START = "the noise that the member's rollout started from"
    STATE = "none is drawn: a kept state of the rollout is looked at"


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A point of the forward process: ``x = (1 - sigma) x0 + sigma eps`` with the final latents as ``x0``.

    Attributes:
        sigma: the level, 0 < sigma <= 1, shared by all members; of a state it is the state's own and not read here.
        noise: where ``eps`` comes from.
        state: which of the trajectory's states, for ``Noise.STATE``.
    """

    sigma: float = 1.0
    noise: Noise = Noise.GROUP
    state: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.sigma <= 1:
            raise ValueError(f"a forward draw needs 0 < sigma <= 1, found {self.sigma}: there is no noise at 0")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When an update happens: what all its randomness is a function of, with the place of the group.

    Attributes:
        seed: of the run.
        iteration: of the run, from 0.
        update: optimizer step of the iteration, from 0.
    """

    seed: int = 0
    iteration: int = 0
    update: int = 0


@dataclass(frozen=True, kw_only=True)
class Group:
    """One prompt's images, ready to train on. A selection of members is a group too.

    Attributes:
        cond: the conditioning, in the model's own form.
        trajectory: of its members.
        advantage: ``[G]``, ``[G, W]`` (a number per trained step) or ``[G, W, *latent]``.
        prompt: the prompt.
        place: of the group in its iteration.
        parts: advantages per reward, ``[G]`` each, before they were mixed.
        scores: per reward.
        members: ``[G]``, the members' numbers in the rollout; None is 0 .. G - 1.
        size: how many images the rollout had; None is G.
    """

    cond: Any
    trajectory: Trajectory
    advantage: Tensor
    prompt: str = ""
    place: int = 0
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    scores: Mapping[str, Scores] = field(default_factory=dict)
    members: Tensor | None = None
    size: int | None = None

    @cached_property
    def numbers(self) -> Tensor:
        """``[G]``, on the CPU: the members' numbers in the rollout."""
        return torch.arange(self.trajectory.group_size) if self.members is None else self.members

    @property
    def count(self) -> int:
        """G."""
        return self.trajectory.group_size

    @property
    def whole_size(self) -> int:
        """How many images the rollout had."""
        return self.trajectory.group_size if self.size is None else self.size

    def select(self, members: Tensor) -> "Group":
        """The group of some members (indices ``[g]`` on the CPU), as if the others had never been sampled."""
        return replace(
            self,
            trajectory=self.trajectory.select(members),
            advantage=self.advantage[index_on(self.advantage.device, members)],
            parts={name: part[members] for name, part in self.parts.items()},
            scores={
                name: replace(s, values=s.values[members], valid=s.valid[members]) for name, s in self.scores.items()
            },
            members=self.numbers[members],
            size=self.whole_size,
        )


@dataclass(frozen=True)
class Elsewhere:
    """A group that another rank trains on: only how many members it has matters here."""

    count: int

    def select(self, members: Tensor) -> "Elsewhere":
        """The group of some members."""
        return Elsewhere(len(members))


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a group's table.

    Attributes:
        index: its place.
        sigma: scalar on the CPU, the level at which the network is asked.
        step: the numbers of a transition; None for a forward draw.
    """

    index: int
    sigma: Tensor
    step: StepNumbers | None = None


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some members of one column.

    Attributes:
        column: which.
        members: ``[g]``, on the CPU, the members' indices in the group that was cut.
        x: ``[R, *L]``, the network's inputs.
        parent: ``[g]``, which row of ``x`` each member looks at.
        final: ``[g, *L]``, the members' images as latents.
        transition: the recorded step of these members, or None.
        noise: the noise of a forward draw, ``[g, *L]`` or ``[1, *L]``, or None.
    """

    column: Column
    members: Tensor
    x: Tensor
    parent: Tensor
    final: Tensor
    transition: Transition | None = None
    noise: Tensor | None = None

    @property
    def sigma(self) -> Tensor:
        """Scalar on the CPU: the level of ``x``."""
        return self.column.sigma

    @property
    def step(self) -> Transition:
        """The recorded step. Raises ``ValueError`` for a forward draw."""
        if self.transition is None:
            raise ValueError("a forward draw has no transition: name TRANSITIONS in the objective's `needs`")
        return self.transition

    @property
    def target(self) -> Tensor:
        """``u = eps - x0``, ``[g, *L]``: what the velocity of a forward draw regresses to."""
        if self.noise is None:
            raise ValueError("a recorded transition has no regression target: give the objective `draws`")
        return self.noise - self.final


def transition_columns(group: Group) -> list[Column]:
    """The recorded transitions as columns."""
    return [
        Column(index=index, sigma=t.sigma, step=StepNumbers.of(t.kernel, t.sigma, t.sigma_next))
        for index, t in enumerate(group.trajectory.transitions)
    ]


def transition_pieces(group: Group, batch: int) -> Iterator[Piece]:
    """One trained step after another, at most ``batch`` distinct rows at a time."""
    for column, transition in zip(transition_columns(group), group.trajectory.transitions, strict=True):
        for rows in torch.arange(len(transition.x)).split(batch):
            members = torch.isin(transition.parents, rows).nonzero()[:, 0]
            part = transition.select(members)
            final = group.trajectory.final[index_on(part.x.device, members)]
            yield Piece(column=column, members=members, x=part.x, parent=part.parent, final=final, transition=part)


def draw_columns(group: Group, draws: Sequence[Draw]) -> list[Column]:
    """Forward draws as columns."""
    dtype = torch.promote_types(group.trajectory.final.dtype, torch.float32)
    levels = [
        group.trajectory.states[draw.state].sigma if draw.noise is Noise.STATE else torch.tensor(draw.sigma)
        for draw in draws
    ]
    return [Column(index=index, sigma=level.to("cpu", dtype)) for index, level in enumerate(levels)]


def draw_pieces(group: Group, draws: Sequence[Draw], model: FlowModel[Any], seed: int, batch: int) -> Iterator[Piece]:
    """One forward draw after another, at most ``batch`` members at a time.

    The noise is a function of ``seed``, the draw's place and the member's number alone, whatever the batch is.
    """
    final = group.trajectory.final
    for column, draw in zip(draw_columns(group, draws), draws, strict=True):
        noise = _noise(group, draw, column, model, derive_seed(seed, "noise", column.index))
        level = scalar_on(final.device, column.sigma, final.dtype)
        for members in torch.arange(group.trajectory.group_size).split(batch):
            its = index_on(final.device, members)
            x0, eps = final[its], noise if len(noise) == 1 else noise[its]
            x = torch.lerp(x0, eps.expand_as(x0), level)
            rows = torch.arange(len(members), device=x0.device)
            yield Piece(column=column, members=members, x=x, parent=rows, final=x0, noise=eps)


def _noise(group: Group, draw: Draw, column: Column, model: FlowModel[Any], seed: int) -> Tensor:
    """``[1, *L]`` or ``[G, *L]``."""
    if draw.noise is Noise.GROUP:
        return model.noise(seed, 1)
    if draw.noise is Noise.MEMBER:
        return model.noise(seed, group.whole_size)[index_on(model.device, group.numbers)]
    if not group.trajectory.states:
        raise ValueError(KEPT_NO_START)
    if draw.noise is Noise.START:
        start = group.trajectory.states[0]
        if start.step != 0:
            raise ValueError(KEPT_NO_START)
        return noise_of_start(start.x, start.sigma)[start.parent]
    state, final = group.trajectory.states[draw.state], group.trajectory.final
    sigma = scalar_on(final.device, column.sigma, column.sigma.dtype)
    return (state.x[state.parent] - (1 - sigma) * final) / sigma
