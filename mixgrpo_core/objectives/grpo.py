"""GRPO on the recorded SDE transitions (MixGRPO, arXiv 2507.21802, eq. 8-9; Flow-GRPO, arXiv 2505.05470)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..models.policy import Policy
from ..support.facts import RunFacts
from .clipped import ClippedObjective, log_prob_terms, old_log_prob_terms, policy_report
from .pieces import Piece
from .port import Cells, LossReport
from .ratio import clipped_policy_loss
from .step_weights import Even, StepWeight, require_use


@dataclass(frozen=True)
class GRPO(ClippedObjective):
    """Clipped policy ratio times group advantage, averaged over members and trained steps.

    Where steps count differently its figure is ``step_weight``, the mean factor on the gradients of trained steps.

    Attributes:
        clip: clip range of the ratio, one number or (low, high). The log-prob is the full Gaussian density, *mean*
            over the latent elements, so ranges are small; ``None`` takes ``default_clip``: 0.036 / sqrt(elements).
        adv_clip: advantages are clamped to +-adv_clip.
        kl: weight of the KL to the base model (LoRA off) in velocity space; 0 never evaluates the base model.
        step_weight: how much each trained step counts.
    """

    label: ClassVar[str] = "GRPO"

    step_weight: StepWeight = Even()

    def check(self, facts: RunFacts) -> None:
        """Raise ``ValueError`` for a weighting of a single step."""
        require_use(self.step_weight, facts)

    def fixed_terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The log-prob of the rollout."""
        return old_log_prob_terms(piece)

    def terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The log-prob."""
        return log_prob_terms(policy, piece)

    def loss(self, table: Mapping[str, Tensor], cells: Cells) -> LossReport:
        """``mean(-min(A r, A clip(r)))`` times the step's factor."""
        step = cells.columns[0].step
        assert step is not None  # its columns are transitions
        on_ratio = self.step_weight.log_ratio_factor(step, cells.candidates)
        new, old = table["log_prob"], table["old_log_prob"]
        if on_ratio != 1.0:
            new, old = new * on_ratio, old * on_ratio
        clip = self.clip_range(cells.latent_elements)
        policy = clipped_policy_loss(new, old, cells.advantages, clip, self.adv_clip)
        on_loss = self.step_weight.loss_factor(step, cells.candidates)
        report = policy_report(policy, on_loss)
        if isinstance(self.step_weight, Even):
            return report
        return report.with_means(step_weight=torch.tensor(on_ratio * on_loss))
