"""Credit at the places where images of one origin came out differently, inspired by MAR-GRPO."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..support.facts import RunFacts
from ..support.setting import require_finite
from .branches import siblings
from .masks import at_places
from .port import Advantages, Credit, Looked, ScoredGroup, Width


def place_uncertainty(final: Tensor) -> Tensor:
    """Biased standard deviation over members, mean over channels: ``[S, C, *places] -> [1, *places]``, float64."""
    return final.double().std(0, correction=0).mean(0, keepdim=True)


def top_share(values: Tensor, share: float) -> Tensor:
    """Bool, in the shape of ``values``: the largest ``max(1, int(share N))`` of N numbers, the first among equals."""
    flat = values.flatten()
    chosen = flat.argsort(descending=True, stable=True)[: max(1, int(share * len(flat)))]
    return torch.zeros(len(flat), dtype=torch.bool, device=values.device).index_fill(0, chosen, True).view_as(values)


@dataclass(frozen=True)
class UncertaintyCredit(Credit):
    """More credit where images that came from one latent differ, less where they all came out alike.

    ``A(p) = A m(p) / mean(m)``, ``[G, W, *latent]``, with ``m = inside`` at the ``share`` of places of the largest
    uncertainty and ``outside`` elsewhere. The uncertainty of a place is the standard deviation of the final latents
    (biased, mean over channels) among the members of one latent before the first trained step. Where nothing differs,
    as for a member alone, the map is 1.

    Inspired by MAR-GRPO, as read in github.com/AMAP-ML/mar-grpo: it runs its diffusion head with 3 to 5 seeds for each
    token and averages the objective over them for the 30 % of tokens of the largest spread. Here the members of a group
    are the seeds, and the mask is a map of credit: places that do not differ say nothing of why rewards do.

    It needs an objective with a ratio per place (`PositionalGRPO`). Traps: it hides global changes that all members
    share. With few members the spread is noisy. Noise of late steps is not meaning.

    Attributes:
        share: of the places, above 0 and at most 1; 0.3 as published.
        inside, outside: >= 0, weights of the two parts; ours.
    """

    label: ClassVar[str] = "uncertain places (inspired by MAR-GRPO)"
    widens: ClassVar[Width | None] = "place"

    share: float = 0.3
    inside: float = 1.0
    outside: float = 0.5

    def __post_init__(self) -> None:
        require_finite(self)
        weights = (self.inside, self.outside)
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, found {self.share}")
        if not (all(math.isfinite(w) and w >= 0 for w in weights) and self.inside > 0):
            raise ValueError(f"inside must be above 0 and outside 0 or more, found {weights}")

    def check(self, facts: RunFacts) -> None:
        """Raise ``ValueError`` for latents without places, and for images that have no latent in common."""
        if len(facts.latent_shape) < 3:
            raise ValueError(
                f"UncertaintyCredit needs latents [channels, height, width], found {list(facts.latent_shape)}: this "
                "model packs them, take the stage out"
            )
        if not facts.shared_noise and facts.leaves[0] < 2:
            raise ValueError(
                "UncertaintyCredit compares images of one latent, but every image starts from noise of its own and "
                "none branches: set shared_noise to true, or take a planner that branches"
            )

    def weights_of(self, final: Tensor) -> Tensor:
        """The map ``[1, *places]`` of mean 1, float64, for siblings' final latents ``[S, C, *places]``."""
        spread = place_uncertainty(final)
        if not bool((spread > 0).any()):
            return torch.ones_like(spread)
        found = torch.where(top_share(spread, self.share), self.inside, self.outside).to(spread)
        return found / found.mean()

    def of_group(self, group: ScoredGroup, advantages: Advantages | None, looked: Looked) -> Advantages:
        """``[G, W, *latent]``: the values by place."""
        assert advantages is not None  # it is never the first stage
        final, own = group.trajectory.final, siblings(group.trajectory)
        maps = torch.ones(len(final), 1, *final.shape[2:], dtype=torch.float64, device=final.device)
        for latent in own.unique():
            here = (own == latent).to(final.device)
            maps[here] = self.weights_of(final[here])[None]
        values = at_places(advantages.values, maps.to(advantages.values), len(group.trajectory.transitions))
        overall = place_uncertainty(final)
        top = overall[top_share(overall, self.share)].mean() / overall.mean().clamp(min=torch.finfo(torch.float64).tiny)
        return advantages.changed(values, uncertainty_contrast=top)
