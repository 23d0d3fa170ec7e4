"""Credit of a tree by depth: BranchGRPO."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..rewards.stats import is_flat
from ..support.setting import require_finite
from .group import group_advantages
from .port import Advantages, Credit, Looked, ScoredGroup, Width
from .tree import edge_means, edges_of, last_split


def depth_advantages(values: Tensor, edges: Tensor, counted: Tensor) -> Tensor:
    """The means of each edge's leaves, normalised among the edges of their step: ``[G, W]``.

    ``(V - mean) / (std + 1e-8)`` with the unbiased standard deviation; each edge counts once. A step with one edge, or
    whose edges are alike, gives 0.

    Args:
        values: rewards or advantages ``[G]``: any rising affine map of them gives the same.
        edges: ``[G, W]``.
        counted: bool ``[G]``; edges without such a leaf are no part of their step.
    """
    means, found = edge_means(values, edges, counted), torch.zeros(edges.shape, dtype=values.dtype)
    for step in range(edges.shape[1]):
        own = edges[:, step]
        present = own[counted].unique()
        firsts = (
            torch.stack([((own == edge) & counted).nonzero()[0, 0] for edge in present]) if len(present) else own[:0]
        )
        normalised = group_advantages(means[firsts, step])
        for edge, value in zip(present, normalised, strict=True):
            found[own == edge, step] = value.to(found)
    return found


def width_pruned(advantages: Tensor, edges: Tensor, values: Tensor, share: float) -> Tensor:
    """Advantages ``[G, W]`` of which, after the last split, only the best and the worst leaves keep theirs.

    ``max(2, int(share G))`` leaves keep them, half of them the best by their ``values [G]``; equal ones by their order.
    """
    keep = max(2, int(share * len(values)))
    order = values.argsort(descending=True, stable=True)
    kept = torch.zeros(len(values), dtype=torch.bool)
    kept[torch.cat([order[: keep // 2], order[len(order) - (keep - keep // 2) :]])] = True
    late = torch.arange(edges.shape[1]) > last_split(edges)
    return torch.where(kept[:, None] | ~late, advantages, torch.zeros_like(advantages))


@dataclass(frozen=True)
class DepthCredit(Credit):
    """A tree's steps are compared on their own: the outcomes of one step among each other, by the mean of their leaves.

    ``A_e = (V_e - mean V) / (std V + 1e-8)`` over the edges of a step, ``V_e`` the mean over the counted leaves of the
    edge; ``A [G] -> [G, W]``. BranchGRPO (arXiv 2509.06040), as read in github.com/Fredreic1849/BranchGRPO, for the
    rollouts of `BranchPlanner`. It is the same from advantages as from rewards. In a uniform tree the update's mean
    over members is the mean over each step's edges; where members failed, edges count by the leaves that are left.

    Its pruning by depth is the planner's (`BranchPlanner.pruned`), where it saves rows. Its pruning by width is
    ``width`` here, its mode 2: after the last split only the best and the worst half of that share learn; the others'
    rows are still computed. Its mode 1 ("best per branch") sorts the steps of one leaf, which all have one advantage,
    and so drops the later half of every leaf: that is pruning by depth. Option left out: a parent's value weighted by
    its children's log-probs (off in the published script; `BackedUp` has it).

    Traps: two edges always get +-0.71, whatever their difference: normalising per step blows up noise at the first
    split. On a chain it gives every step the group's own advantages.

    Attributes:
        width: share of the leaves that learn after the last split, 0.5 published; None is off, as in the script.
    """

    label: ClassVar[str] = "depth credit (BranchGRPO)"
    widens: ClassVar[Width | None] = "step"
    narrow: ClassVar[bool] = True

    width: float | None = None

    def __post_init__(self) -> None:
        require_finite(self)
        if self.width is not None and not 0 < self.width <= 1:
            raise ValueError(f"width must be above 0 and at most 1, or None, found {self.width}")

    def of_group(self, group: ScoredGroup, advantages: Advantages | None, looked: Looked) -> Advantages:
        """``[G, W]``: the advantages of each member's edges."""
        assert advantages is not None  # it is never the first stage
        edges, counted = edges_of(group.trajectory), advantages.counted.cpu()
        values = advantages.values.cpu()
        found = depth_advantages(values, edges, counted)
        if self.width is not None:
            found = width_pruned(found, edges, values, self.width)
        found = torch.where(counted[:, None], found, torch.zeros_like(found))
        flat = [len(column) < 2 or is_flat(column) for column in found[counted].T] if bool(counted.any()) else [True]
        return advantages.changed(found.to(advantages.values), flat_depths=sum(flat) / len(flat))
