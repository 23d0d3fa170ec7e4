"""The record of one group's rollout: only what training needs.

``parent`` is what carries sharing: members of a group that come out of the same latent refer to the same row of ``x``.
A row that serves the whole group (the shared first step), a chain (one row each) and a tree differ in nothing else.

Latents may lie on a GPU. What a selection is made of, ``parents`` and the indices of members, is on the CPU: to cut a
group waits for no device.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ..support.queued import index_on, sent
from .kernels import Gaussian, Kernel


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One recorded SDE step of a group.

    Attributes:
        step: index of the step in the plan.
        kernel: the kernel that made it, noise strength included: ``gaussian`` is the only place of the formula.
        x: ``[R, *L]``, the distinct latents before the step.
        parents: ``[G]``, on the CPU, the row of ``x`` that each member came from.
        edge: ``[G]``, which distinct outcome of the step each member descends from; members of one share ``x_next``.
        x_next: ``[G, *L]``, the latents after the step, in the dtype in which their log-prob was taken.
        sigma, sigma_next: scalars.
        old_log_prob: ``[G]``, mean over the latent elements, under the policy of the rollout.
        old_mean: ``[R, *L]``, kept only when the objective needs it.
    """

    step: int
    kernel: Kernel
    x: Tensor
    parents: Tensor
    edge: Tensor
    x_next: Tensor
    sigma: Tensor
    sigma_next: Tensor
    old_log_prob: Tensor
    old_mean: Tensor | None = None

    def gaussian(self, v: Tensor) -> Gaussian:
        """The transition's distribution per row ``[R, *L]`` under the velocity ``v [R, *L]``."""
        return self.kernel(self.x, v, self.sigma, self.sigma_next)

    def per_member(self, gaussian: Gaussian) -> Gaussian:
        """The same distribution per member ``[G, *L]``."""
        return replace(gaussian, mean=gaussian.mean[self.parent])

    @cached_property
    def parent(self) -> Tensor:
        """``parents`` where ``x`` is: the index of what is known per row."""
        return sent(self.parents, self.x.device)

    def select(self, members: Tensor) -> "Transition":
        """The transition of some members (indices on the CPU); rows nobody refers to any more are dropped."""
        rows, parents = torch.unique(self.parents[members], return_inverse=True)
        kept, chosen = index_on(self.x.device, rows), index_on(self.x.device, members)
        return replace(
            self,
            x=self.x[kept],
            parents=parents,
            edge=self.edge[chosen],
            x_next=self.x_next[chosen],
            old_log_prob=self.old_log_prob[chosen],
            old_mean=None if self.old_mean is None else self.old_mean[kept],
        )

    def rescored(self, members: Tensor, log_prob: Tensor, mean: Tensor | None) -> "Transition":
        """With the old log-probs ``[g]`` of some members, and the old means of their rows, taken anew."""
        old_log_prob = self.old_log_prob.clone()
        old_log_prob[index_on(log_prob.device, members)] = log_prob
        if mean is None:
            return replace(self, old_log_prob=old_log_prob)
        old_mean = mean.new_empty(self.x.shape) if self.old_mean is None else self.old_mean.clone()
        old_mean[index_on(mean.device, torch.unique(self.parents[members]))] = mean
        return replace(self, old_log_prob=old_log_prob, old_mean=old_mean)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What is kept of latents and their probabilities."""
        kept = (self.x, self.parents, self.x_next, self.sigma, self.sigma_next, self.old_log_prob)
        return kept if self.old_mean is None else (*kept, self.old_mean)


@dataclass(frozen=True, kw_only=True)
class State:
    """Latents that were kept without a probability: those before the steps that a plan records.

    Attributes:
        step: index of the step in the plan; of step 0 it is the start noise.
        x: ``[R, *L]``, the distinct latents before the step.
        parents: ``[G]``, on the CPU, the row of ``x`` that each member descends from.
        sigma: scalar, the level of ``x``.
    """

    step: int
    x: Tensor
    parents: Tensor
    sigma: Tensor

    @cached_property
    def parent(self) -> Tensor:
        """``parents`` where ``x`` is: the index of what is known per row."""
        return sent(self.parents, self.x.device)

    def select(self, members: Tensor) -> "State":
        """The state of some members (indices on the CPU); rows nobody refers to any more are dropped."""
        rows, parents = torch.unique(self.parents[members], return_inverse=True)
        return replace(self, x=self.x[index_on(self.x.device, rows)], parents=parents)


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """What a rollout keeps of a group of G images.

    Attributes:
        transitions: the trained steps only, in order.
        states: the recorded states, in order.
        final: ``[G, *L]``, the latents at sigma 0.
        sigmas: ``[T + 1]``, the grid that was used.
        nfe: network evaluations of the whole group by part: ``prefix``, ``window``, ``suffix``.
    """

    transitions: tuple[Transition, ...]
    final: Tensor
    sigmas: Tensor
    nfe: Mapping[str, int]
    states: tuple[State, ...] = ()

    @property
    def group_size(self) -> int:
        """Images of the group: rows of ``final``."""
        return len(self.final)

    @property
    def nbytes(self) -> int:
        """Bytes kept; a latent that ends one step and begins the next counts once."""
        tensors = [self.final, self.sigmas, *(t for transition in self.transitions for t in transition.tensors)]
        storages = [t.untyped_storage() for t in (*tensors, *(state.x for state in self.states))]
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    def select(self, members: Tensor) -> "Trajectory":
        """The trajectory of some members (indices ``[g]`` on the CPU), as if the others had never been sampled."""
        if members.tolist() == list(range(self.group_size)):
            return self  # a selection is a copy, and would keep apart what steps share
        return replace(
            self,
            transitions=tuple(transition.select(members) for transition in self.transitions),
            states=tuple(state.select(members) for state in self.states),
            final=self.final[index_on(self.final.device, members)],
        )
