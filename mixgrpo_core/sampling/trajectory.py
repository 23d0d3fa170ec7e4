"""The record of one group's rollout: only what training needs.

``parent`` is what carries sharing: members of a group that come out of the same latent refer to the same row of ``x``.
A row that serves the whole group (the shared first step), a chain (one row each) and a tree differ in nothing else.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .kernels import Gaussian, Kernel


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One recorded SDE step of a group.

    Attributes:
        step: index of the step in the plan.
        kernel: the kernel that made it, noise strength included: ``gaussian`` is the only place of the formula.
        x: ``[R, *L]``, the distinct latents before the step.
        parent: ``[G]``, the row of ``x`` that each member came from.
        x_next: ``[G, *L]``, the latents after the step, in the dtype in which their log-prob was taken.
        sigma, sigma_next: scalars.
        log_prob_old: ``[G]``, mean over the latent elements, under the policy of the rollout.
        mean_old: ``[R, *L]``, kept only when the objective needs it.
    """

    step: int
    kernel: Kernel
    x: Tensor
    parent: Tensor
    x_next: Tensor
    sigma: Tensor
    sigma_next: Tensor
    log_prob_old: Tensor
    mean_old: Tensor | None = None

    def gaussian(self, v: Tensor) -> Gaussian:
        """The transition's distribution per row ``[R, *L]`` under the velocity ``v [R, *L]``."""
        return self.kernel(self.x, v, self.sigma, self.sigma_next)

    def per_member(self, gaussian: Gaussian) -> Gaussian:
        """The same distribution per member ``[G, *L]``."""
        return Gaussian(gaussian.mean[self.parent], gaussian.std)

    def select(self, members: Tensor) -> "Transition":
        """The transition of some members; rows nobody refers to any more are dropped."""
        rows, parent = torch.unique(self.parent[members], return_inverse=True)
        return replace(
            self,
            x=self.x[rows],
            parent=parent,
            x_next=self.x_next[members],
            log_prob_old=self.log_prob_old[members],
            mean_old=None if self.mean_old is None else self.mean_old[rows],
        )

    def rescored(self, members: Tensor, log_prob: Tensor, mean: Tensor | None) -> "Transition":
        """With the old log-probs ``[g]`` of some members, and the old means of their rows, taken anew."""
        log_prob_old = self.log_prob_old.clone()
        log_prob_old[members] = log_prob
        if mean is None:
            return replace(self, log_prob_old=log_prob_old)
        mean_old = mean.new_empty(self.x.shape) if self.mean_old is None else self.mean_old.clone()
        mean_old[torch.unique(self.parent[members])] = mean
        return replace(self, log_prob_old=log_prob_old, mean_old=mean_old)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        kept = (self.x, self.parent, self.x_next, self.sigma, self.sigma_next, self.log_prob_old)
        return kept if self.mean_old is None else (*kept, self.mean_old)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of a trajectory small enough for one forward and backward.

    Attributes:
        trajectory: the members of this piece and, for transition objectives, one transition.
        members: ``[g]``, which members of the whole trajectory they are.
        column: which trained step it is, ``None`` when the piece holds no single one.
    """

    trajectory: "Trajectory"
    members: Tensor
    column: int | None

    def advantage(self, advantage: Tensor) -> Tensor:
        """This piece's part of ``[G]``, ``[G, W]`` or ``[G, W, *latent]``: ``[g]``, or ``[g, *latent]``."""
        part = advantage[self.members]
        if part.ndim == 1:
            return part
        if self.column is None:
            raise ValueError(
                f"an advantage per step, {list(advantage.shape)}, needs an objective that trains on transitions"
            )
        return part[:, self.column]


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """What a rollout keeps of a group of G images.

    Attributes:
        transitions: the trained steps only, in order.
        final: ``[G, *L]``, the latents at sigma 0.
        sigmas: ``[T + 1]``, the grid that was used.
        nfe: network evaluations of the whole group by part: ``prefix``, ``window``, ``suffix``.
    """

    transitions: tuple[Transition, ...]
    final: Tensor
    sigmas: Tensor
    nfe: Mapping[str, int]

    @property
    def group_size(self) -> int:
        return len(self.final)

    @property
    def nbytes(self) -> int:
        """Bytes kept; a latent that ends one step and begins the next counts once."""
        tensors = [self.final, self.sigmas, *(t for transition in self.transitions for t in transition.tensors)]
        storages = [t.untyped_storage() for t in tensors]
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    def select(self, members: Tensor) -> "Trajectory":
        """The trajectory of some members (indices ``[g]``), as if the others had never been sampled."""
        if members.tolist() == list(range(self.group_size)):
            return self  # a selection is a copy, and would keep apart what steps share
        return replace(self, transitions=tuple(t.select(members) for t in self.transitions), final=self.final[members])

    def step_pieces(self, batch: int) -> Iterator[Piece]:
        """One trained step after another, at most ``batch`` distinct rows at a time."""
        for column, transition in enumerate(self.transitions):
            for rows in torch.arange(len(transition.x)).split(batch):
                members = torch.isin(transition.parent.cpu(), rows).nonzero()[:, 0]
                part = replace(self, transitions=(transition.select(members),), final=self.final[members])
                yield Piece(trajectory=part, members=members, column=column)

    def member_pieces(self, batch: int) -> Iterator[Piece]:
        """All trained steps of at most ``batch`` members at a time."""
        for members in torch.arange(self.group_size).split(batch):
            yield Piece(trajectory=self.select(members), members=members, column=None)
