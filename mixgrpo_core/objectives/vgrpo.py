"""V-GRPO: the self-normalised error of the predicted image as a log-probability, on policy."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ..models.policy import OLD, Policy
from ..support.setting import ENDLESS, require_finite
from .clipped import policy_report
from .forward import difference, draws_at, self_normalised, stratified_steps
from .pieces import Draw, Noise, Piece
from .port import COLUMNS, Cells, DrawRequest, LossReport, Objective
from .ratio import ClipRange, as_range, clipped_policy_loss
from .regularisers import Regulariser, VelocityKL


def softly_clipped(advantage: Tensor, eta: float) -> Tensor:
    """``eta tanh(A / eta)``, in A's shape: A near 0, never beyond +-eta, and A itself where eta is infinite."""
    return advantage if eta == math.inf else eta * torch.tanh(advantage / eta)


@dataclass(frozen=True)
class VGRPO(Objective):
    """GRPO's ratio with the self-normalised error of the predicted image for its log-probability, one noise per group.

    ``mean(-A' rho)``, ``rho = exp(L_old - L)``, ``L = mean over M draws of mean(d^2) / sg mean|d|``, where ``d = x0_hat
    - x0 = -t (v - u)`` and ``A' = eta tanh(A / eta)``. After V-GRPO, whose code is not to be had: as a third party's
    port with the paper's equation numbers has it. Levels are stratified over the rollout's grid and each has one noise
    for the group, so that what members differ by is their images.

    Published first stage: on policy (rho is 1, which the gradient alone knows), one update per iteration, no clip and
    no KL; 40 ODE steps without guidance, 24 images x 48 prompts, learning rate 3e-4. Then the old policy need not be
    evaluated, and the loss is a mean over draws. With a ``clip`` the mean over a member's draws is taken before the
    exponential, in two passes. The published KL is in units of the image, t^2 times ours.

    Attributes:
        clip: range of the ratio, or None for the first stage.
        eta: of the soft clip of advantages, 3 as published.
        levels: M, draws per member and update; 4 as published.
        kl: weight of the KL to the policy before the update in velocity space.
    """

    label: ClassVar[str] = "after V-GRPO"

    clip: ClipRange | None = field(default=None, metadata=ENDLESS)
    eta: float = field(default=3.0, metadata=ENDLESS)
    levels: int = 4
    kl: float = 0.0

    def __post_init__(self) -> None:
        require_finite(self)
        if self.clip is not None:
            as_range(self.clip)
        if not (self.eta > 0 and self.levels >= 1 and self.kl >= 0):
            raise ValueError(f"expected eta above 0, levels of 1 or more and kl of 0 or more, found {self}")

    @property
    def needs(self) -> frozenset[str]:
        """Nothing on policy; the policy before the update and all draws of a member at once with a clip."""
        return frozenset({OLD, COLUMNS}) if self.clip is not None else frozenset()

    @property
    def regularisers(self) -> Sequence[Regulariser]:
        """The KL to the policy before the update in velocity space, where ``kl`` is above 0."""
        return (VelocityKL(self.kl, to=OLD),) if self.kl else ()

    def draws(self, request: DrawRequest) -> Sequence[Draw]:
        """Stratified levels of this group and update, with one noise for the group at each."""
        steps = stratified_steps(0, len(request.sigmas) - 1, self.levels, request.seed)
        return draws_at(request.sigmas, steps, Noise.GROUP)

    def fixed_terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The error of the policy before the update, where there is a clip."""
        if self.clip is None:
            return {}
        v = policy.old(piece.x, piece.sigma)
        return {"old_error": self_normalised(float(piece.sigma) * difference(v, piece.target))}

    def terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The error of the image that the velocity predicts."""
        v = policy(piece.x, piece.sigma)
        return {"error": self_normalised(float(piece.sigma) * difference(v, piece.target))}

    def loss(self, table: Mapping[str, Tensor], cells: Cells) -> LossReport:
        """The ratio times the softly clipped advantage."""
        error = table["error"]
        advantage = softly_clipped(cells.advantages.to(error.dtype), self.eta).unsqueeze(1)
        figures = {"error": error.detach().mean()}
        if self.clip is None:
            return LossReport(loss=-(advantage * (error.detach() - error).exp()).mean(), means=figures)
        log_ratio = (table["old_error"] - error).mean(1, keepdim=True)
        policy = clipped_policy_loss(log_ratio, torch.zeros_like(log_ratio), advantage, self.clip, self.eta)
        return policy_report(policy).with_means(**figures)
