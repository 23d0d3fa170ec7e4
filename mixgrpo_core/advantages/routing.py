"""Each reward's credit at the places that it is about, after OmniNFT's routing; inspired by Edit-GRPO."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..support.facts import RunFacts
from ..support.setting import require_finite
from .areas import Area, Inside, require_masks
from .masks import at_places
from .port import Advantages, Credit, Looked, ScoredGroup, Width

EVERYWHERE = 1.0


def routed(parts: Tensor, weights: Tensor, maps: Tensor) -> Tensor:
    """The advantages of K rewards at the places that each is routed to.

    ``A(p) = min(1, sum_k m_k) sum_k w_k m_k A_k / sum_k w_k m_k``, 0 where no reward is routed to. The weights are
    normalised at each place, and where less than a whole reward reaches, so does the credit: edges are as soft as the
    maps.

    Args:
        parts: ``[G, K]``.
        weights: ``[K]``, >= 0.
        maps: ``[K, *latent]`` in 0..1, or what broadcasts to it.

    Returns:
        ``[G, *latent]`` in the dtype of ``parts``.
    """
    wide = maps.double()
    shares = weights.double().reshape(-1, *(1,) * (wide.ndim - 1)) * wide
    total = shares.sum(0)
    reach = wide.sum(0).clamp(max=1)
    scale = torch.where(total > 0, reach / total.clamp(min=torch.finfo(total.dtype).tiny), 0.0)
    return (torch.einsum("gk,k...->g...", parts.double(), shares) * scale).to(parts.dtype)


@dataclass(frozen=True)
class Route:
    """Where a reward's credit goes.

    Attributes:
        reward: its name in the run.
        area: `Inside`, `Border`, or `PromptMask`.
        outside: to the rest of the picture instead.
    """

    reward: str
    area: Area = Inside()
    outside: bool = False

    def __post_init__(self) -> None:
        require_finite(self)
        if not callable(getattr(self.area, "cover", None)):
            raise ValueError(f"area must be an area such as Inside(left=0.25, right=0.75), found {self.area!r}")


@dataclass(frozen=True)
class RoutedCredit(Credit):
    """Each reward's own advantages at the places that it is routed to; a reward without a route counts everywhere.

    ``A(p)`` of `routed`, ``[G, W, *latent]``: at each place the weighted mean of the rewards that are routed there.
    After OmniNFT's routing, as read in github.com/zghhui/OmniNFT (its regions are audio and video tokens; here
    they are areas of the picture). There a routed advantage that sums to 0 over the batch, as normalised
    ones do, is replaced by the mixed one; here it is kept, and a place without a reward gets 0. The surgery on
    gradients of cross-attention is left out: it belongs to one model.

    With ``Route("edit", PromptMask())`` and ``Route("keep", PromptMask(), outside=True)`` it is inspired by Edit-GRPO,
    whose formula is not public: ``m A_edit + (1 - m) A_keep`` for equal weights.

    It needs an objective with a ratio per place (`PositionalGRPO`) and stands directly after the first stage, of which
    it takes each reward's own advantages and not the mixture.

    Traps: a route says whose credit reaches a place, not what the reward looks at. A score that failed gives 0.

    Attributes:
        routes: at most one for each reward.
    """

    label: ClassVar[str] = "routed rewards (after OmniNFT)"
    widens: ClassVar[Width | None] = "place"
    mixes: ClassVar[bool] = True

    routes: tuple[Route, ...]

    def __post_init__(self) -> None:
        require_finite(self)
        names = [route.reward for route in self.routes]
        if not names or len(names) != len({*names}):
            raise ValueError(f"routes must name one reward or more, each once, found {names}")

    def check(self, facts: RunFacts) -> None:
        """Raise ``ValueError`` for a route of no trained reward, and where a prompt has not the mask that is meant."""
        unknown = sorted({route.reward for route in self.routes} - {*facts.rewards})
        if unknown:
            raise ValueError(
                f"RoutedCredit routes {unknown}, but the trained rewards are {sorted(facts.rewards)}: correct the names"
            )
        require_masks([route.area for route in self.routes], facts)

    def look(self, group: ScoredGroup, images: Tensor) -> Looked:
        """The map of each route over latents, ``[1, ...]``; of the images only their size is asked."""
        height, width = images.shape[-3:-1]
        maps = {}
        for route in self.routes:
            cover = group.places(route.area.cover(group, height, width)[None])
            maps[route.reward] = 1 - cover if route.outside else cover
        return maps

    def of_group(self, group: ScoredGroup, advantages: Advantages | None, looked: Looked) -> Advantages:
        """``[G, W, *latent]``: each reward's advantages at its places."""
        assert advantages is not None  # it is never the first stage
        parts: Mapping[str, Tensor] = advantages.parts
        device = advantages.values.device
        whole = torch.full_like(next(iter(looked.values())), EVERYWHERE)
        maps = torch.cat([looked.get(name, whole) for name in parts]).to(device)
        weights = torch.tensor([group.weights[name] for name in parts], dtype=torch.float64, device=device)
        total = math.fsum(weights.tolist())
        values = routed(torch.stack([part.to(device) for part in parts.values()], 1), weights / total, maps)
        widened = at_places(torch.ones_like(advantages.values), values, len(group.trajectory.transitions))
        reached = (maps.sum(0) > 0).double().mean()
        return advantages.changed(widened.to(advantages.values.dtype), routed_places=reached)
