"""The regulariser port: a number per member that is added to any objective's loss."""

from abc import abstractmethod
from typing import Protocol

from torch import Tensor

from ...models.policy import Policy
from ..pieces import Piece


class Regulariser(Protocol):
    """A pull that does not depend on rewards. The policy remembers a piece's velocity: no forward is made for it."""

    @property
    @abstractmethod
    def weight(self) -> float:
        """What its mean is multiplied with, above 0."""
        ...

    @property
    @abstractmethod
    def policies(self) -> frozenset[str]:
        """Names of the policies that it asks."""
        ...

    @property
    @abstractmethod
    def figure(self) -> str:
        """The name of its mean, without the weight, among the figures of an update."""
        ...

    @abstractmethod
    def penalty(self, policy: Policy, piece: Piece) -> Tensor:
        """``[g]`` with gradient, in at least float32."""
        ...
