"""TMPO: the paths of a tree are made as likely as a softmax of their rewards (arXiv 2605.10983)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ..models.policy import Policy
from ..sampling.kernels import working
from ..support.setting import ENDLESS, require_finite
from .clipped import log_prob, log_prob_terms, old_log_prob_terms
from .pieces import Piece
from .port import GROUP, RATIO_DEVIATION, TRANSITIONS, Cells, Credit, LossReport, Objective
from .regularisers import Regulariser, VelocityKL

_FURTHEST = 10.0
"""What centred log-ratios of paths are clamped to before the exponential."""


def path_balance(log_prob: Tensor, reward: Tensor, beta: float, exponent: float = 1.0) -> Tensor:
    """``logsoftmax(beta R) - logsoftmax(c l)``, centred, of path log-probs and rewards ``[G]``: ``[G]``, no gradient.

    0 where the paths are as likely as their rewards say. It is ``beta (R - mean R) - c (l - mean l)``, without
    constants in ``l`` or ``R``.
    """
    wanted, found = working(reward).detach() * beta, working(log_prob).detach() * exponent
    difference = wanted.log_softmax(0) - found.log_softmax(0)
    return difference - difference.mean()


def path_loss(log_ratio: Tensor, balance: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """``mean(max(-A q, -A clip(q)))`` with ``q = exp(log_ratio - its detached mean)``, and ``q``, for paths ``[G]``."""
    centred = (log_ratio - log_ratio.detach().mean()).clamp(-_FURTHEST, _FURTHEST)
    ratio = centred.exp()
    return torch.maximum(-balance * ratio, -balance * ratio.clamp(1 - clip, 1 + clip)).mean(), ratio.detach()


@dataclass(frozen=True)
class TMPO(Objective):
    """The images of a tree are made as likely as ``exp(beta R)`` says, so that good ones do not crowd out the others.

    ``A = path_balance(l, R)`` with ``l [G]`` the sum of a path's step log-probs and ``R [G]`` its advantage;
    ``loss = mean(max(-A q, -A clip(q, 1 - c, 1 + c)))`` with ``q = exp(l - l_old - mean)``. Softmax trajectory balance,
    after TMPO (arXiv 2605.10983), as read in github.com/MAIR-Lab-HUST/TMPO, for `WanderingTreePlanner` and other trees.
    It is GRPO whose advantage is ``beta`` times the z-score minus the centred log-prob of the path.

    Differences: the balance is centred (its mean only adds variance); ``R`` is the group's advantage, with the unbiased
    standard deviation where theirs is biased; log-probs are full densities; the weight after GRPO-Guard, which is right
    for other scores than CPS's there, and the reference term, which is 0 in the published settings, are left out.
    The loss sums over steps: its gradient at the first update is W times that of ``GRPO`` with the same advantages.

    Traps: a step's log-prob is a mean over the latent's D elements, so the paths' differ by about 0.004 at FLUX's 512
    px and the balance term is off; with sums (``exponent`` D) it would dwarf ``beta R``. The exponent is a setting of
    its own. Images of equal reward are made equally likely; a group whose rewards are all equal is passed over, as
    with other objectives. The whole group is looked at in two passes, one more forward per trained step than GRPO's.

    Attributes:
        beta, beta_end: how sharp the softmax of rewards is, from the first on linear to the second: 0.8 to 2.
        beta_over: iterations in which it gets there, 150 (OCR 100). SD3.5-M: beta 15.
        exponent: on the paths' probabilities in the balance, 0 or more.
        clip: of a path's ratio, 0.2 as published.
        adv_clip: advantages are clamped to +-adv_clip, 20 as published.
        kl: weight of the KL to the base model in velocity space.
    """

    label: ClassVar[str] = "after TMPO"

    beta: float = 0.8
    beta_end: float = 2.0
    beta_over: int = 150
    exponent: float = 1.0
    clip: float = field(default=0.2, metadata=ENDLESS)
    adv_clip: float = field(default=20.0, metadata=ENDLESS)
    kl: float = 0.0

    def __post_init__(self) -> None:
        require_finite(self)
        if not (min(self.beta, self.beta_end, self.clip, self.adv_clip) > 0 and self.beta_over >= 1):
            raise ValueError(
                f"expected beta, beta_end, clip, adv_clip above 0 and beta_over of 1 or more, found {self}"
            )
        if not (self.exponent >= 0 and self.kl >= 0):
            raise ValueError(f"exponent and kl must be 0 or more, found {self.exponent} and {self.kl}")

    @property
    def needs(self) -> frozenset[str]:
        """The recorded steps of whole groups."""
        return frozenset({TRANSITIONS, GROUP})

    @property
    def finest_credit(self) -> Credit:
        """One reward for a path."""
        return "member"

    @property
    def regularisers(self) -> Sequence[Regulariser]:
        """The KL to the base model in velocity space, where ``kl`` is above 0."""
        return (VelocityKL(self.kl),) if self.kl else ()

    def beta_at(self, iteration: int) -> float:
        """How sharp the softmax of rewards is in an iteration."""
        return self.beta + (self.beta_end - self.beta) * min(iteration / self.beta_over, 1.0)

    def clip_range(self, latent_elements: int, channels: int = 1) -> tuple[float, float]:
        """The clip on both sides."""
        return self.clip, self.clip

    def log_ratio(self, policy: Policy, piece: Piece) -> Tensor:
        """``log_prob - old_log_prob`` of a step, ``[g]``."""
        return log_prob(policy, piece) - piece.step.old_log_prob

    def fixed_terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The log-prob of the rollout."""
        return old_log_prob_terms(piece)

    def terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The log-prob."""
        return log_prob_terms(policy, piece)

    def loss(self, table: Mapping[str, Tensor], cells: Cells) -> LossReport:
        """The clipped loss of the paths."""
        paths, old = working(table["log_prob"]).sum(1), working(table["old_log_prob"]).sum(1)
        reward = cells.advantages.to(paths.dtype).clamp(-self.adv_clip, self.adv_clip)
        balance = path_balance(paths, reward, self.beta_at(cells.moment.iteration), self.exponent)
        loss, ratio = path_loss(paths - old, balance, self.clip)
        spread = paths.detach().std() if len(paths) > 1 else paths.detach().new_zeros(())
        return LossReport(
            loss=loss,
            means={
                "clip_low": (ratio < 1 - self.clip).float().mean(),
                "clip_high": (ratio > 1 + self.clip).float().mean(),
                "imbalance": balance.square().mean(),
                "path_spread": spread,
            },
            maxima={RATIO_DEVIATION: (ratio - 1).abs().max()},
        )
