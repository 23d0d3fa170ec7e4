"""What the forward objectives share: which levels they look at, and the error of a velocity there.

A forward objective noises the final latents again, ``x = (1 - t) x0 + t eps``, and compares the velocity with
``u = eps - x0``. The velocity must be the plain one: with guidance above 1 it has no such target.
"""

import torch
from torch import Tensor

from ..models.policy import Policy
from ..sampling.kernels import working
from .pieces import Draw, Noise, Piece


def mean_square_error(v: Tensor, target: Tensor) -> Tensor:
    """``mean((v - u)^2)`` of velocities and targets ``[g, *L]`` over the latent elements: ``[g]``."""
    return (working(v) - working(target)).square().flatten(1).mean(1)


def error(policy: Policy, piece: Piece) -> Tensor:
    """The error ``[g]`` of the policy that is trained, at a forward draw."""
    return mean_square_error(policy(piece.x, piece.sigma), piece.target)


def error_of(name: str, policy: Policy, piece: Piece) -> Tensor:
    """The error ``[g]`` of another policy, at a forward draw."""
    return mean_square_error(policy.named(name, piece.x, piece.sigma), piece.target)


def draws_at(sigmas: Tensor, steps: list[int], noise: Noise) -> list[Draw]:
    """One draw at the level before each of some steps of the grid ``sigmas [T + 1]``."""
    return [Draw(sigma=float(sigmas[step]), noise=noise) for step in steps]


def stratified_steps(first: int, stop: int, count: int, seed: int) -> list[int]:
    """One step out of each of ``count`` equal strata of ``first .. stop - 1``, ascending.

    Strata begin and end at whole steps; where there are fewer steps than strata, steps come more than once.
    """
    bounds = torch.linspace(first, max(first, stop), count + 1, dtype=torch.float64).long()
    lower, upper = bounds[:-1], bounds[1:]
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (lower + (uniform * (upper - lower)).long()).tolist()


def drawn_steps(among: int, count: int, seed: int) -> list[int]:
    """``count`` different steps of ``0 .. among - 1`` (all of them where there are fewer), ascending."""
    order = torch.randperm(among, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:count].tolist())
