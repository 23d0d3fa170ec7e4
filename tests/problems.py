"""Targets whose velocity is known exactly, so that samplers can be judged without a network and without Monte Carlo.

``x = (1 - sigma) x0 + sigma eps`` with x0 from the target, and ``velocity(x, sigma) = E[eps - x0 | x]``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mixgrpo_core.sampling.kernels import Kernel
from mixgrpo_core.sampling.solvers import Solver

Step = Kernel | Solver


@dataclass(frozen=True)
class GaussianFlow:
    """One-dimensional target N(mean, std^2): the velocity is affine in x."""

    mean: float = 1.5
    std: float = 0.5

    def marginal(self, sigma: float) -> tuple[float, float]:
        """Mean and standard deviation of x at `sigma`."""
        return (1 - sigma) * self.mean, ((1 - sigma) ** 2 * self.std**2 + sigma**2) ** 0.5

    def velocity(self, x: Tensor, sigma: float) -> Tensor:
        mean, std = self.marginal(sigma)
        slope = (sigma - (1 - sigma) * self.std**2) / std**2
        return slope * (x - mean) - self.mean

    def propagate(self, sigmas: Tensor, steps: list[Step]) -> tuple[float, float]:
        """Exact mean and standard deviation after `steps` along `sigmas`, from the exact marginal at sigmas[0].

        Everything is linear in the start and in each step's noise, so one probe per source of randomness, next to a
        probe with none, gives the variance as a sum of squares. Solvers begin anew after a kernel's step.
        """
        mean, std = self.marginal(float(sigmas[0]))
        x = torch.tensor([mean, mean + std], dtype=torch.float64)
        solver, state = None, None
        for i, step in enumerate(steps):
            sigma, sigma_next = float(sigmas[i]), float(sigmas[i + 1])
            v = self.velocity(x, sigma)
            if isinstance(step, Kernel):
                gaussian = step(x, v, sigma, sigma_next)
                x = torch.cat([gaussian.mean, gaussian.mean[:1] + gaussian.std])
                solver = None
                continue
            if step is not solver:
                solver, state = step, step.init()
            x, state = step.step(x, v, sigma, sigma_next, state)
        return float(x[0]), float((x[1:] - x[0]).square().sum().sqrt())


@dataclass(frozen=True)
class MixtureFlow:
    """Elementwise mixture of two normals; the velocity is not linear in x."""

    means: tuple[float, float] = (-1.0, 2.0)
    stds: tuple[float, float] = (0.5, 0.3)
    weights: tuple[float, float] = (0.6, 0.4)

    def velocity(self, x: Tensor, sigma: float) -> Tensor:
        modes = [GaussianFlow(mean, std) for mean, std in zip(self.means, self.stds, strict=True)]
        logs = []
        for mode, weight in zip(modes, self.weights, strict=True):
            mean, std = mode.marginal(sigma)
            logs.append(torch.distributions.Normal(mean, std).log_prob(x) + torch.tensor(weight).log())
        posterior = torch.stack(logs).softmax(0)
        return sum(p * mode.velocity(x, sigma) for p, mode in zip(posterior, modes, strict=True))

    def solve(self, solver: Solver, x: Tensor, sigmas: Tensor) -> Tensor:
        """`x` carried along `sigmas` by a solver."""
        state = solver.init()
        for sigma, sigma_next in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
            x, state = solver.step(x, self.velocity(x, sigma), sigma, sigma_next, state)
        return x
