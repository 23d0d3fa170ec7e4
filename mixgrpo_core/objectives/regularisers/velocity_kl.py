"""KL divergence in velocity space to another policy: the mean squared difference of two velocities."""

import math
from dataclasses import dataclass

from torch import Tensor

from ...models.policy import REFERENCE, Policy
from ..pieces import Piece
from ..ratio import velocity_kl
from .port import Regulariser


@dataclass(frozen=True)
class VelocityKL(Regulariser):
    """A pull to another policy: the squared difference of the two velocities.

    ``mean((v - v')^2)`` over the latent elements, as in DiffusionNFT's code (arXiv 2509.16117), at the points where the
    objective looks (see `velocity_kl`).

    Attributes:
        weight: above 0; public practice is 1e-3 to the base model.
        to: the policy ``v'``: ``reference`` is the base model, LoRA off; ``old`` or a policy of the objective.
    """

    weight: float = 1e-3
    to: str = REFERENCE

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"a regulariser's weight must be a finite number above 0, found {self.weight}")

    @property
    def policies(self) -> frozenset[str]:
        """The policy that it pulls to."""
        return frozenset({self.to})

    @property
    def figure(self) -> str:
        """``kl`` to the base model, ``kl_<name>`` to others."""
        return "kl" if self.to == REFERENCE else f"kl_{self.to}"

    def penalty(self, policy: Policy, piece: Piece) -> Tensor:
        """The squared difference per member, ``[g]``."""
        other = policy.named(self.to, piece.x, piece.sigma)
        return velocity_kl(policy(piece.x, piece.sigma), other)[piece.parent]
