"""GCPO: one ratio for each chunk of consecutive trained steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..models.policy import Policy
from ..support.facts import RunFacts
from .clipped import ClippedObjective, policy_report
from .pieces import Piece
from .port import COLUMNS, Cells, Credit, LossReport
from .ratio import as_range, clipped_policy_loss, default_clip


def chunk_log_ratios(log_ratio: Tensor, chunks: Sequence[int]) -> Tensor:
    """Means of log-ratios ``[G, W]`` over consecutive chunks of those lengths: ``[G, n]``.

    Raises:
        ValueError: the lengths do not add up to W.
    """
    if sum(chunks) != log_ratio.shape[1]:
        raise ValueError(
            f"the chunks {tuple(chunks)} have {sum(chunks)} steps, but {log_ratio.shape[1]} steps were trained: give "
            "lengths that add up to them, or None for one chunk of all"
        )
    return torch.stack([chunk.mean(1) for chunk in log_ratio.split(list(chunks), 1)], 1)


@dataclass(frozen=True)
class GCPO(ClippedObjective):
    """GRPO with the geometric mean of a chunk's ratios as one ratio, averaged over members and chunks.

    ``rho_j = exp(mean of log r_t over the steps t of chunk j)``, ``loss = mean(-min(A rho, A clip(rho)))``; log-ratios
    ``[G, W]``, one advantage per member. Group Chunking Policy Optimization, arXiv 2510.21583,
    as read in github.com/xingzhejun/GCPO.

    Each chunk counts once, so a step counts less in a longer one: ``d loss / d log r_t = -A rho_j / (G n |j|)``. Chunks
    of one step are GRPO, one chunk of all steps is a ratio of sequences. The published runs also train on a random half
    of each image's chunks; here the planner chooses the steps, and all their chunks are trained.

    The update makes two passes, one more forward per trained step than GRPO's. Its figures are ``clip_chunk_1`` and on,
    the share of each chunk's ratios outside of the range.

    Attributes:
        clip: range of a chunk's ratio. ``None`` takes half of ``default_clip``: the published 5e-5 at FLUX's 720 px,
            where chunks have 4 steps on average and a mean over 4 spreads half as far.
        adv_clip, kl: as in ``GRPO``; 5 as published.
        chunks: their lengths, in the order of the steps, which must add up to the trained steps; None is one chunk.
            Published: (2, 3, 4, 7) of 16 trained steps of 17, with a gradient norm clipped to 0.01.
    """

    label: ClassVar[str] = "GCPO"

    chunks: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chunks is not None and not (self.chunks and min(self.chunks) >= 1):
            raise ValueError(f"chunks are lengths of 1 or more, found {self.chunks}")

    @property
    def needs(self) -> frozenset[str]:
        """The recorded steps, all of a member's at once."""
        return super().needs | {COLUMNS}

    @property
    def finest_credit(self) -> Credit:
        """One advantage for all steps of a member: a chunk has one ratio."""
        return "member"

    def check(self, facts: RunFacts) -> None:
        """Raise ``ValueError`` unless the chunks add up to the steps of every plan."""
        for steps in facts.trained_steps:
            if self.chunks and sum(self.chunks) != steps:
                raise ValueError(
                    f"the chunks of GCPO {self.chunks} have {sum(self.chunks)} steps, but {facts.planner} trains "
                    f"{steps}: give lengths that add up to them, or None for one chunk of all"
                )

    def clip_range(self, latent_elements: int, channels: int = 1) -> tuple[float, float]:
        """(low, high) of a chunk's ratio for latents of that many elements."""
        return as_range(default_clip(latent_elements) / 2 if self.clip is None else self.clip)

    def terms(self, policy: Policy, piece: Piece) -> Mapping[str, Tensor]:
        """The log-ratio of a step."""
        return {"log_ratio": self.log_ratio(policy, piece)}

    def loss(self, table: Mapping[str, Tensor], cells: Cells) -> LossReport:
        """The clipped loss of the chunks' ratios."""
        steps = table["log_ratio"]
        log_ratio = chunk_log_ratios(steps, self.chunks or (steps.shape[1],))
        clip = self.clip_range(cells.latent_elements)
        policy = clipped_policy_loss(log_ratio, torch.zeros_like(log_ratio), cells.advantages, clip, self.adv_clip)
        outside = ((policy.ratio < 1 - clip[0]) | (policy.ratio > 1 + clip[1])).float().mean(0)
        by_chunk = {f"clip_chunk_{number}": share for number, share in enumerate(outside, 1)}
        return policy_report(policy).with_means(**by_chunk)
