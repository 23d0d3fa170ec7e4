"""What the forward objectives share: which levels they look at, and the error of a velocity there.

A forward objective noises the final latents again, ``x = (1 - t) x0 + t eps``, and compares the velocity with
``u = eps - x0``. The velocity must be the plain one: with guidance above 1 it has no such target.

At the policy that they start from, the gradient of each is that of ``mean(w A mean((v - u)^2))``, where ``sum A = 0``
and ``S = mean|v - u|``: w is 1 / adv_clip for AWM (uniform), ``(1 - t)^2`` for FPO, ``t / S`` for DiffusionNFT and
V-GRPO, 1/2 for DGPO (at the base model), 1 / S for CRD and m for RAM (at the base model). They differ in what happens
later, in the policies that they keep, and in their draws. The members of a group share the levels, as rows of one
network call share their level.
"""

import torch
from torch import Tensor

from ..models.policy import Policy
from ..sampling.kernels import working
from .pieces import Draw, Noise, Piece


def mean_square_error(v: Tensor, target: Tensor) -> Tensor:
    """``mean((v - u)^2)`` of velocities and targets ``[g, *L]`` over the latent elements: ``[g]``."""
    return (working(v) - working(target)).square().flatten(1).mean(1)


def self_normalised(difference: Tensor) -> Tensor:
    """``mean(d^2) / max(mean|d|, 1e-5)`` of differences ``[g, *L]``, the divisor without gradient: ``[g]``."""
    flat = working(difference).flatten(1)
    return flat.square().mean(1) / flat.detach().abs().mean(1).clamp(min=1e-5)


def difference(v: Tensor, target: Tensor) -> Tensor:
    """``v - u`` in at least float32."""
    return working(v) - working(target)


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


def weighted_steps(sigmas: Tensor, power: float, count: int, seed: int) -> list[int]:
    """``count`` steps of the grid ``sigmas [T + 1]``, stratified, each with a chance in proportion to its level^power.

    On a fine even grid the levels are ``((i + uniform) / count)^(1 / (1 + power))``.
    """
    levels = sigmas[:-1].to("cpu", torch.float64)
    shares = levels.flip(0).pow(power).cumsum(0)  # from the least level up
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    places = (torch.arange(count) + uniform) / count * shares[-1]
    found = torch.searchsorted(shares, places, right=True).clamp(max=len(levels) - 1)
    return sorted((len(levels) - 1 - found).tolist())
