"""Values of a tree's edges from those of its leaves: what BranchGRPO and TreeGRPO share.

A trained step's *edges* are its distinct outcomes (`Transition.edge`): the members of one descend from it.
"""

import torch
from torch import Tensor

from ..sampling.trajectory import Trajectory


def edges_of(trajectory: Trajectory) -> Tensor:
    """``[G, W]``: which edge of each trained step every member descends from. Raises ``ValueError`` without any."""
    if not trajectory.transitions:
        raise ValueError("credit of a tree is that of its trained steps, and this rollout has none: take the stage out")
    return torch.stack([step.edge for step in trajectory.transitions], 1).cpu()


def edge_means(values: Tensor, edges: Tensor, counted: Tensor) -> Tensor:
    """The mean over each edge's counted leaves, once for every leaf: ``[G, W]``.

    Args:
        values: ``[G]``.
        edges: ``[G, W]``.
        counted: bool ``[G]``; where an edge has no such leaf its value is 0.
    """
    found = torch.zeros(edges.shape, dtype=values.dtype)
    for step in range(edges.shape[1]):
        for edge in edges[:, step].unique():
            below = edges[:, step] == edge
            if bool((below & counted).any()):
                found[below, step] = values[below & counted].mean()
    return found


def back_up(
    values: Tensor, edges: Tensor, counted: Tensor, log_probs: Tensor | None = None, temperature: float = 1.0
) -> Tensor:
    """Leaves' values taken back to the root: an edge's is the weighted mean of the edges that follow it, ``[G, W]``.

    The weights are even, or ``softmax(log_prob / temperature)`` over the edges that follow. A single one passes its
    value on. The last edges have the mean of their leaves.

    Args:
        values: ``[G]``.
        edges: ``[G, W]``.
        counted: bool ``[G]``; edges without such a leaf have the value 0 and no weight.
        log_probs: ``[G, W]``, of each member's step; None weighs evenly.
        temperature: above 0.
    """
    steps = edges.shape[1]
    found = torch.zeros(edges.shape, dtype=values.dtype)
    found[:, -1] = edge_means(values, edges[:, -1:], counted)[:, 0]
    for step in range(steps - 2, -1, -1):
        for edge in edges[:, step].unique():
            below = ((edges[:, step] == edge) & counted).nonzero()[:, 0]
            if not len(below):
                continue
            following = [below[edges[below, step + 1] == child][0] for child in edges[below, step + 1].unique()]
            chosen = torch.stack(following)
            weights = torch.full((len(chosen),), 1 / len(chosen), dtype=values.dtype)
            if log_probs is not None:
                weights = (log_probs[chosen, step + 1].double() / temperature).softmax(0).to(values.dtype)
            found[edges[:, step] == edge, step] = (weights * found[chosen, step + 1]).sum()
    return found


def last_split(edges: Tensor) -> int:
    """The last step at which an edge before it parts into several; 0 where none does."""
    parted = [
        step for step in range(1, edges.shape[1]) if len(edges[:, step].unique()) > len(edges[:, step - 1].unique())
    ]
    return parted[-1] if parted else 0
