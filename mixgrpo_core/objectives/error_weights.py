"""What AWM and FPO take as a log-probability: functions of the mean square error of the velocity and of the level.

The four are those of AWM's code (arXiv 2509.25050, github.com/scxue/advantage_weighted_matching).
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..support.setting import require_finite

_TINY = 1e-10
"""Keeps roots differentiable at an error of 0, as published."""


class ErrorWeight(Protocol):
    """A rule that turns an error into something like a log-probability."""

    @abstractmethod
    def log_prob(self, error: Tensor, sigma: Tensor | float) -> Tensor:
        """``[g]`` of mean square errors ``[g]`` at one level, in their dtype: 0 at no error, and falling with it."""
        ...


@dataclass(frozen=True)
class LevelPower(ErrorWeight):
    """``-t^power m``.

    Attributes:
        power: 0 weighs all levels alike; 1 and 2 are the published ``t`` and ``t**2``.
    """

    power: float = 0.0

    def __post_init__(self) -> None:
        require_finite(self)

    def log_prob(self, error: Tensor, sigma: Tensor | float) -> Tensor:
        """``-t^power m``."""
        made: Tensor = -error * float(sigma) ** self.power
        return made


@dataclass(frozen=True)
class NoiseError(ErrorWeight):
    """``-(1 - t)^2 m``: minus the mean square error of the noise that the velocity predicts, ``x + (1 - t) v``."""

    def log_prob(self, error: Tensor, sigma: Tensor | float) -> Tensor:
        """``-(1 - t)^2 m``."""
        return -error * (1 - float(sigma)) ** 2


@dataclass(frozen=True)
class Huber(ErrorWeight):
    """``-(sqrt(m + 1e-10) - 1e-5) t``: the root of the error, so that large errors do not lead."""

    def log_prob(self, error: Tensor, sigma: Tensor | float) -> Tensor:
        """``-(sqrt(m + 1e-10) - 1e-5) t``."""
        made: Tensor = -((error + _TINY).sqrt() - _TINY**0.5) * float(sigma)
        return made


@dataclass(frozen=True)
class GeneralHuber(ErrorWeight):
    """``-((m + 1e-10)^p - 1e-10^p) t / p``: ``LevelPower(1)`` at p = 1, twice ``Huber`` at p = 1/2.

    Attributes:
        power: p, 0.25 as published.
    """

    power: float = 0.25

    def __post_init__(self) -> None:
        require_finite(self)
        if not self.power > 0:
            raise ValueError(f"power must be above 0, found {self.power}")

    def log_prob(self, error: Tensor, sigma: Tensor | float) -> Tensor:
        """``-((m + 1e-10)^p - 1e-10^p) t / p``."""
        made: Tensor = -((error + _TINY) ** self.power - _TINY**self.power) * float(sigma) / self.power
        return made
