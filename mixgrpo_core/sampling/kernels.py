"""One stochastic step of a flow model, as a Gaussian that can be sampled and scored.

With ``x = (1 - sigma) x0 + sigma eps`` and the velocity ``v = eps - x0``, the network's prediction stands for
``x0_hat = x - sigma v``, ``eps_hat = x + (1 - sigma) v`` and the score ``-eps_hat / sigma``. A step from sigma to
sigma' < sigma, h = sigma - sigma', is ``x' = mean + std z``, and there are two families:

* score family (Euler-Maruyama of the SDE that shares the flow's marginals, diffusion coefficient g):
  ``mean = x - h v + (g^2 h / 2) score,  std = g sqrt(h)``
* coefficient family (DDIM-like, freezes x0_hat and eps_hat):
  ``mean = (1 - sigma') x0_hat + sqrt(sigma'^2 - std^2) eps_hat``

In both the mean is linear in x and v, so a kernel is three numbers per step: `StepCoefficients`. With eta = 0 every
mean is the Euler step ``x - h v`` and std is 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)
Self = TypeVar("Self", bound="Kernel")


def working(x: Tensor) -> Tensor:
    """`x` in at least float32 (float64 stays): the precision of everything a sampler computes."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def step_levels(sigma: Tensor | float, sigma_next: Tensor | float) -> tuple[float, float]:
    """The two levels of a step as numbers; ValueError unless 0 <= sigma_next < sigma <= 1."""
    sigma, sigma_next = float(sigma), float(sigma_next)
    if not 0 <= sigma_next < sigma <= 1:
        raise ValueError(
            f"A step needs 0 <= sigma_next < sigma <= 1, found sigma = {sigma!r} and sigma_next = {sigma_next!r}; "
            "levels fall from 1 (noise) to 0 (data)."
        )
    return sigma, sigma_next


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Independent normal distributions around `mean`.

    Attributes:
        mean: shape [B, *L].
        std: standard deviation per element, >= 0: a scalar tensor, a number, or a tensor that broadcasts to [B, *L].
        positive: whether std is above 0 everywhere, where that is known: to look would wait for a GPU.
    """

    mean: Tensor
    std: Tensor | float
    positive: bool | None = None

    def sample(self, noise: Tensor) -> Tensor:
        """``mean + std * noise`` in at least float32; `noise` is standard normal with a shape that fits [B, *L]."""
        return working(self.mean) + self.std * working(noise)

    def log_prob(self, x: Tensor, reduce: bool = True) -> Tensor:
        """Full log-density ``-(x - mean)^2 / (2 std^2) - log std - log(2 pi) / 2``, in at least float32.

        Args:
            x: point to score, shape [B, *L]; rounded to the dtype it is stored in, so that the training pass scores
                the same point as the rollout did.
            reduce: True gives the **mean** over the latent elements, shape [B] (clip ranges are in these units: a
                ratio of 1 + c in the mean is a ratio of exp(c D) of the joint densities of D elements). False gives
                one value per element, shape [B, *L].

        Raises:
            ValueError: std is 0 somewhere: a deterministic step has no density.
        """
        mean = working(self.mean)
        std = torch.as_tensor(self.std, device=mean.device)
        std = std.to(torch.promote_types(std.dtype, mean.dtype))
        if not (bool((std > 0).all()) if self.positive is None else self.positive):
            raise ValueError(
                f"log_prob needs std > 0, found a smallest std of {float(std.min())!r}: a deterministic step (eta = 0, "
                "or a step that ends at sigma 0) has no density; score only the steps of the window."
            )
        density = -((working(x) - mean) ** 2) / (2 * std**2) - std.log() - LOG_2PI / 2
        return density.flatten(1).mean(1) if reduce and density.dim() > 1 else density


class StepCoefficients(NamedTuple):
    """``mean = x_weight * x + v_weight * v`` and ``std``: all there is to know of a kernel's step."""

    x_weight: float
    v_weight: float
    std: float


def score_family(g: float, sigma: float, sigma_next: float) -> StepCoefficients:
    """Euler-Maruyama step with diffusion coefficient `g` >= 0 (Flow-GRPO, arXiv 2505.05470, eq. of the SDE sampler)."""
    h = sigma - sigma_next
    pull = g * g * h / (2 * sigma)  # (g^2 h / 2) score = -pull * (x + (1 - sigma) v)
    return StepCoefficients(1 - pull, -h - pull * (1 - sigma), g * math.sqrt(h))


def coefficient_family(std: float, sigma: float, sigma_next: float) -> StepCoefficients:
    """Step that keeps the coefficients of x0 and of the total noise, of which `std` is fresh and the rest eps_hat."""
    kept = math.sqrt(max(sigma_next**2 - std**2, 0.0))
    return StepCoefficients(1 - sigma_next + kept, -sigma * (1 - sigma_next) + (1 - sigma) * kept, std)


@dataclass(frozen=True)
class Kernel(ABC):
    """A rule for one stochastic step. A new one is a subclass with `coefficients`.

    Attributes:
        eta: noise strength >= 0; 0 is the deterministic Euler step.
    """

    eta: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.eta) and self.eta >= 0):
            raise ValueError(f"eta must be a finite number >= 0, found {self.eta!r}; 0 is the deterministic step.")

    @abstractmethod
    def coefficients(self, sigma: float, sigma_next: float) -> StepCoefficients:
        """The step's three numbers, in double precision, for 0 <= sigma_next < sigma <= 1."""

    def __call__(self, x: Tensor, v: Tensor, sigma: Tensor | float, sigma_next: Tensor | float) -> Gaussian:
        """Distribution of x at sigma_next.

        Args:
            x: shape [B, *L], at level sigma.
            v: velocity at (x, sigma), same shape; gradients flow through it.
            sigma, sigma_next: numbers or scalar tensors, 0 <= sigma_next < sigma <= 1.

        Returns:
            Gaussian with mean [B, *L] and a scalar std, both in at least float32 and on the device of x.

        Raises:
            ValueError: two shapes, or levels that do not fall.
        """
        if x.shape != v.shape:
            raise ValueError(f"x and v must have one shape, found {tuple(x.shape)} and {tuple(v.shape)}.")
        a, b, std = self.coefficients(*step_levels(sigma, sigma_next))
        mean = a * working(x) + b * working(v)
        held = torch.full((), std, dtype=mean.dtype, device=mean.device)
        return Gaussian(mean, held, positive=std > torch.finfo(mean.dtype).tiny)

    def scaled(self: Self, strength: float) -> Self:
        """The same kernel with ``eta * strength``. Raises ``ValueError`` unless strength is finite and >= 0."""
        if not (math.isfinite(strength) and strength >= 0):
            raise ValueError(
                f"strength must be a finite number >= 0, found {strength!r}; 1 leaves the kernel as it is."
            )
        return replace(self, eta=self.eta * strength)

    def sensitivity(self, sigma: Tensor | float, sigma_next: Tensor | float) -> tuple[float, float]:
        """``(kappa, std)`` with ``kappa = |d mean / d v|``, of one step between two scalar levels: step weights use it.

        ``d log_prob / d v`` has the size kappa |z| / (std D), so kappa / std is the step's gradient per unit of noise;
        it grows along the trajectory (43-fold for FlowSDE, 25 steps, shift 3).
        """
        _, b, std = self.coefficients(*step_levels(sigma, sigma_next))
        return abs(b), std


@dataclass(frozen=True)
class FlowSDE(Kernel):
    """Score family with ``g = eta sqrt(sigma / (1 - sigma))``: Flow-GRPO (arXiv 2505.05470) and MixGRPO (eq. 7).

    At sigma = 1 the denominator is taken at sigma_next instead, which makes the first step's std equal to eta for every
    schedule: more steps do not remove the 3 to 4 per cent of extra spread it brings. The same holds where 1 - sigma is
    tiny (below 1e-3 and below a tenth of the step), as in grids that start at 0.9997.
    """

    label: ClassVar[str] = "Flow-SDE"

    eta: float = 0.7

    def coefficients(self, sigma: float, sigma_next: float) -> StepCoefficients:
        """``g = eta sqrt(sigma / (1 - sigma))``, with ``1 - sigma_next`` where ``1 - sigma`` is next to 0."""
        singular = 1 - sigma < min(1e-3, 0.1 * (sigma - sigma_next))
        gap = 1 - (sigma_next if singular else sigma)
        return score_family(self.eta * math.sqrt(sigma / gap), sigma, sigma_next)


@dataclass(frozen=True)
class DanceSDE(Kernel):
    """Score family with constant ``g = eta``: DanceGRPO (arXiv 2505.07818)."""

    label: ClassVar[str] = "DanceGRPO SDE"

    eta: float = 0.3

    def coefficients(self, sigma: float, sigma_next: float) -> StepCoefficients:
        """``g = eta``."""
        return score_family(self.eta, sigma, sigma_next)


@dataclass(frozen=True)
class FlowCPS(Kernel):
    """Coefficient family with ``std = sigma' sin(eta pi / 2)``, eta within [0, 1]: Flow-CPS (arXiv 2509.05952).

    The coefficients of data and noise are preserved, not the marginals: samples do not converge to the model's
    distribution with more steps. The public code scores it without 1 / (2 std^2); here it has its full density.
    """

    label: ClassVar[str] = "Flow-CPS"

    eta: float = 0.8

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta of FlowCPS must be within [0, 1], found {self.eta!r}; 1 replaces all of the noise.")

    def coefficients(self, sigma: float, sigma_next: float) -> StepCoefficients:
        """``std = sigma' sin(eta pi / 2)``."""
        return coefficient_family(sigma_next * math.sin(self.eta * math.pi / 2), sigma, sigma_next)


@dataclass(frozen=True)
class PreciseSDE(Kernel):
    """Coefficient family that solves the SDE exactly for a frozen prediction: Precise (arXiv 2605.23522).

    ``std = sigma' sqrt(1 - rho^(eta^2))`` with ``rho = sigma' (1 - sigma) / (sigma (1 - sigma'))``, the ratio of the
    noise-to-data ratios. It is the exact counterpart of FlowSDE with the same eta, and SDE-DPM-Solver++ of first order
    at eta = sqrt(2). A step from sigma = 1 replaces all of the noise.
    """

    label: ClassVar[str] = "Precise SDE"

    eta: float = 1.0

    def coefficients(self, sigma: float, sigma_next: float) -> StepCoefficients:
        """``std = sigma' sqrt(1 - rho^(eta^2))``, ``rho = sigma' (1 - sigma) / (sigma (1 - sigma'))``."""
        rho = sigma_next * (1 - sigma) / (sigma * (1 - sigma_next))
        return coefficient_family(sigma_next * math.sqrt(1 - rho ** (self.eta**2)), sigma, sigma_next)


@dataclass(frozen=True)
class PreciseDanceSDE(Kernel):
    """Coefficient family that solves DanceGRPO's SDE exactly for a frozen prediction: Precise (arXiv 2605.23522).

    ``std = sigma' sqrt(1 - rho^2)`` with ``rho = exp(-eta^2 / 2 (1 / sigma' - 1 / sigma))``, the exact counterpart of
    DanceSDE with the same eta, as read in github.com/Tencent-Hunyuan/Precise (``dance_precise``, eta 0.3). There levels
    are held at 1e-6 or more; here the limit at 0 is taken, where all noise is new.
    """

    label: ClassVar[str] = "Precise DanceGRPO SDE"

    eta: float = 0.3

    def coefficients(self, sigma: float, sigma_next: float) -> StepCoefficients:
        """``std = sigma' sqrt(1 - rho^2)``, ``rho^2 = exp(-eta^2 (1 / sigma' - 1 / sigma))``."""
        passed = (sigma - sigma_next) / (sigma * sigma_next) if sigma_next else math.inf  # 1 / sigma' - 1 / sigma
        kept = math.exp(-(self.eta**2) * passed) if self.eta else 1.0
        return coefficient_family(sigma_next * math.sqrt(1 - kept), sigma, sigma_next)
