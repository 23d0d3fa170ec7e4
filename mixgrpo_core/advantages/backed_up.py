"""Credit of a tree, normalised once and taken back to the root, after TreeGRPO (arXiv 2512.08153)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from ..support.setting import require_finite
from .port import Advantages, Credit, Looked, ScoredGroup, Width
from .tree import back_up, edges_of

EdgeWeights = Literal["even", "log_prob"]


@dataclass(frozen=True)
class BackedUp(Credit):
    """A tree's leaves are normalised once in their group; an edge has the mean of what follows it, back to the root.

    ``V_e = sum_c w_c V_c`` over the edges that follow, ``V`` of the last ones the mean of their leaves' advantages;
    ``A [G] -> [G, W]``. After TreeGRPO (arXiv 2512.08153), for the rollouts of `TreePlanner`. Its published code (a
    copy in github.com/MAIR-Lab-HUST/TMPO) takes even weights and the biased standard deviation; the paper's text, by a
    reading note, takes ``softmax`` of the log-probs. Differences: our groups are normalised by the unbiased one; the
    update is a mean over members where theirs sums over all edges, which weighs a step by its number of edges.

    With even weights it changes nothing but the figures: an edge's ratio is the same for all leaves under it, so the
    mean of the leaves' losses is the edge's, and ``GRPO`` on a plan that branches is TreeGRPO already.

    Traps: a step's log-prob is a mean over the latent's D elements here, so those of children differ by about
    ``1 / sqrt(2 D)`` and the softmax is nearly even at image size; with sums it would be one-hot. ``temperature`` is
    what makes it count. Values shrink towards the root, where opposite leaves cancel.

    Attributes:
        weights: of the edges that follow one: even, or by the softmax of their log-probs.
        temperature: of the softmax, above 0.
    """

    label: ClassVar[str] = "backed up (after TreeGRPO)"
    widens: ClassVar[Width | None] = "step"
    narrow: ClassVar[bool] = True

    weights: EdgeWeights = "even"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        require_finite(self)
        if self.weights not in ("even", "log_prob"):
            raise ValueError(f"weights must be 'even' or 'log_prob', found {self.weights!r}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, found {self.temperature}")

    def of_group(self, group: ScoredGroup, advantages: Advantages | None, looked: Looked) -> Advantages:
        """``[G, W]``: the values of each member's edges."""
        assert advantages is not None  # it is never the first stage
        edges, counted = edges_of(group.trajectory), advantages.counted.cpu()
        log_probs = None
        if self.weights == "log_prob":
            log_probs = torch.stack([step.old_log_prob for step in group.trajectory.transitions], 1).cpu()
        found = back_up(advantages.values.cpu(), edges, counted, log_probs, self.temperature)
        found = torch.where(counted[:, None], found, torch.zeros_like(found))
        leaves = advantages.values.abs().mean().clamp(min=torch.finfo(torch.float32).tiny)
        return advantages.changed(found.to(advantages.values), root_share=found[:, 0].abs().mean() / leaves)
