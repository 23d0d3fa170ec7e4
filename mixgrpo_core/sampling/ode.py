"""Plain ODE sampling and decoding: what held-out images, previews and comparisons are made with."""

from contextlib import nullcontext

import torch
from torch import Tensor

from ..models.port import Cond, DecodesLow, Sampled, Velocity
from .schedule import start_of
from .solvers import Euler, Solver


@torch.no_grad()
def sample(
    model: Sampled[Cond],
    cond: Cond,
    noise: Tensor,
    sigmas: Tensor,
    *,
    solver: Solver = Euler(),  # noqa: B008 (frozen)
    lora_share: float = 1.0,
    batch: int = 16,
) -> Tensor:
    """Sample by the plain ODE: latents ``[B, *L]`` at sigma 0.

    Args:
        noise: standard normal, ``[B, *L]``.
        lora_share: hybrid inference (paper, sec. "Hybrid inference"): the LoRA is on for the first
            ``round(lora_share * T)`` steps and the base model does the rest; 0 is the base model, 1 the LoRA alone.
    """
    start = start_of(noise, sigmas)
    return carried(model, cond, start, sigmas, solver=solver, lora_share=lora_share, batch=batch)


@torch.no_grad()
def carried(
    model: Sampled[Cond],
    cond: Cond,
    x: Tensor,
    sigmas: Tensor,
    *,
    solver: Solver = Euler(),  # noqa: B008 (frozen)
    lora_share: float = 1.0,
    batch: int = 16,
) -> Tensor:
    """As `sample`, from latents ``x [B, *L]`` at ``sigmas[0]`` to the last level."""
    if not 0 <= lora_share <= 1:
        raise ValueError(f"lora_share lies in 0..1 (the share of the steps with the LoRA on), found {lora_share}")
    steps = len(sigmas) - 1
    with_lora = round(lora_share * steps)

    def body(velocity: Velocity) -> Tensor:
        return torch.cat([trajectory(velocity, rows) for rows in x.split(batch)])

    def trajectory(velocity: Velocity, x: Tensor) -> Tensor:
        state = solver.init()
        for i in range(steps):
            with nullcontext() if i < with_lora else model.using(None):
                v = velocity(x, sigmas[i])
            x, state = solver.step(x, v, sigmas[i], sigmas[i + 1], state)
        return x

    return model.run((cond,), body)


@torch.no_grad()
def decode(model: Sampled, latents: Tensor, batch: int, *, low: bool = False) -> Tensor:
    """Images ``[B, H, W, 3]`` of latents ``[B, *L]``, a few at a time; ``low``: in bfloat16 by a model that can."""
    how = model.decode_low if low and isinstance(model, DecodesLow) else model.decode
    return torch.cat([how(x) for x in latents.split(batch)])
