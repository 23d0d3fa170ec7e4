"""Forms of learning from votes, each a loss of velocities at noised images, with the base model's beside them.

All errors are means over the latent's elements of ``(v - u)^2``, ``u = eps - x0``; members of a group share the level.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ...objectives.forward import mean_square_error
from ...objectives.nft import branch_errors
from ...support.setting import require_ranges, setting
from .voted import Voted

Drawn = Literal["member", "group", "start"]
"""Noise of its own for each image, one for the group, or that which each image's own rollout started from."""


@dataclass(frozen=True, kw_only=True)
class Looked:
    """A group at one level.

    Attributes:
        voted: the group.
        v, base: ``[g, *L]``, velocities of the policy, with its gradient, and of the base model.
        target: ``[g, *L]``, ``u``.
        sigma: the level.
    """

    voted: Voted
    v: Tensor
    base: Tensor
    target: Tensor
    sigma: float


class Form(Protocol):
    """How votes become a loss."""

    name: ClassVar[str]
    noise: ClassVar[Drawn]
    paired: ClassVar[bool]

    @abstractmethod
    def loss(self, looked: Looked) -> Tensor:
        """Scalar with gradient, in at least float32; groups weigh alike. 0 where the group teaches it nothing."""
        ...


def preference_loss(better: Tensor, worse: Tensor, scale: float) -> Tensor:
    """``-log sigmoid(-scale (better - worse))`` of gains in error on the base ``[m]``: ``[m]``."""
    return -logsigmoid(-scale * (better - worse))


@dataclass(frozen=True)
class NFT(Form):
    """DiffusionNFT offline: towards what is liked and away from what is not; every vote counts, and no pair is needed.

    ``(r L+ + (1 - r) L-) / beta`` with the branches of `branch_errors` about the base model; r is the vote, 0 to 1.
    """

    name: ClassVar[str] = "nft"
    noise: ClassVar[Drawn] = "member"
    paired: ClassVar[bool] = False

    beta: float = setting(1.0, "How far the branches lie from the base model.", above=0)

    def __post_init__(self) -> None:
        require_ranges(self)

    def loss(self, looked: Looked) -> Tensor:
        """A mean over the members."""
        good, bad = branch_errors(looked.v, looked.base, looked.target, looked.sigma, self.beta)
        r = looked.voted.shares.to(good)
        return (r * good + (1 - r) * bad).mean() / self.beta


@dataclass(frozen=True)
class DPO(Form):
    """Diffusion-DPO for flows: ``-log sigmoid(-(beta / 2) (d_better - d_worse))``, one noise for a pair.

    ``d`` is the error less that of the base model.

    arXiv 2311.12908, as read in github.com/yifan123/flow_grpo (beta 100 there). With a small beta it is content when
    the worse image's error grows faster than the better one's, and images get worse: 2000 here.
    """

    name: ClassVar[str] = "dpo"
    noise: ClassVar[Drawn] = "group"
    paired: ClassVar[bool] = True

    beta: float = setting(2000.0, "Weight of the difference in error.", above=0)

    def __post_init__(self) -> None:
        require_ranges(self)

    def loss(self, looked: Looked) -> Tensor:
        """A mean over the group's pairs."""
        return _paired(looked, self.beta / 2)


@dataclass(frozen=True)
class PNAPO(Form):
    """DPO with the noise that each image's own rollout started from, and no 1/2. After PNAPO, arXiv 2605.09433.

    There start noise and image are the ends of one ODE, and so they are here where a rollout has noise of its own for
    each image and no SDE step. Images of a group that shares its noise differ by that of the sampler.
    """

    name: ClassVar[str] = "pnapo"
    noise: ClassVar[Drawn] = "start"
    paired: ClassVar[bool] = True

    beta: float = setting(2000.0, "Weight of the difference in error.", above=0)

    def __post_init__(self) -> None:
        require_ranges(self)

    def loss(self, looked: Looked) -> Tensor:
        """A mean over the group's pairs."""
        return _paired(looked, self.beta)


@dataclass(frozen=True)
class Ups(Form):
    """Flow matching on what is liked, by how much; what is not liked teaches nothing."""

    name: ClassVar[str] = "ups"
    noise: ClassVar[Drawn] = "member"
    paired: ClassVar[bool] = False

    def loss(self, looked: Looked) -> Tensor:
        """A mean over the members, weighted by the votes above one half."""
        weights = (2 * looked.voted.shares - 1).clamp(min=0).to(looked.v.device)
        return (weights * mean_square_error(looked.v, looked.target)).mean()


FORMS: Mapping[str, type[NFT] | type[DPO] | type[PNAPO] | type[Ups]] = {
    form.name: form for form in (NFT, DPO, PNAPO, Ups)
}
"""By name, the default first."""


def _paired(looked: Looked, scale: float) -> Tensor:
    better, worse = looked.voted.pairs
    gain = mean_square_error(looked.v, looked.target) - mean_square_error(looked.base, looked.target)
    if not len(better):
        return gain.sum() * 0
    return preference_loss(gain[better], gain[worse], scale).mean()


def pair_figures(looked: Looked) -> tuple[int, int, float, float]:
    """Pairs that are told apart, of how many, and the sums over the pairs of the better image's error under the policy
    and under the base model."""
    better, worse = looked.voted.pairs
    with torch.no_grad():
        error, base = (mean_square_error(v, looked.target) for v in (looked.v, looked.base))
        gain = error - base
        right = int((gain[better] < gain[worse]).sum())
    return right, len(better), float(error[better].sum()), float(base[better].sum())
