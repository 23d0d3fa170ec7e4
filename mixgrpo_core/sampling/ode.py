"""Plain ODE sampling and decoding: what held-out images, previews and comparisons are made with."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..models.port import Cond, DecodesLow, DecodesTiny, Sampled, Velocity
from ..support.aside import require_wanted
from .schedule import start_of
from .solvers import Euler, Solver


@torch.no_grad()
def sample(
    model: Sampled[Cond],
    cond: Cond,
    noise: Tensor,
    sigmas: Tensor,
    *,
    solver: Solver[Any] = Euler(),  # noqa: B008 (frozen)
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
def sample_together(
    model: Sampled[Cond],
    conds: Sequence[Cond],
    noise: Sequence[Tensor],
    sigmas: Tensor,
    *,
    solver: Solver[Any] = Euler(),  # noqa: B008 (frozen)
    lora_share: float = 1.0,
    batch: int = 16,
) -> list[Tensor]:
    """As `sample` for several prompts, each with noise of its own: calls of the network are filled up with their rows.

    The latents are those of each prompt alone, up to the rounding of larger calls; of one prompt they are the same.
    """
    begun = [start_of(of, sigmas) for of in noise]
    return carried_together(model, conds, begun, sigmas, solver=solver, lora_share=lora_share, batch=batch)


@torch.no_grad()
def carried_together(
    model: Sampled[Cond],
    conds: Sequence[Cond],
    begun: Sequence[Tensor],
    sigmas: Tensor,
    *,
    solver: Solver[Any] = Euler(),  # noqa: B008 (frozen)
    lora_share: float = 1.0,
    batch: int = 16,
) -> list[Tensor]:
    """As `sample_together`, from latents ``[n, *L]`` of each prompt at ``sigmas[0]`` to the last level."""
    if len(conds) == 1:
        return [carried(model, conds[0], begun[0], sigmas, solver=solver, lora_share=lora_share, batch=batch)]
    counts = [len(of) for of in begun]
    own = torch.arange(len(conds)).repeat_interleave(torch.tensor(counts))
    made = _carried(model, conds, torch.cat(list(begun)), own, sigmas, solver, lora_share, batch)
    return list(made.split(counts))


@torch.no_grad()
def carried(
    model: Sampled[Cond],
    cond: Cond,
    x: Tensor,
    sigmas: Tensor,
    *,
    solver: Solver[Any] = Euler(),  # noqa: B008 (frozen)
    lora_share: float = 1.0,
    batch: int = 16,
) -> Tensor:
    """As `sample`, from latents ``x [B, *L]`` at ``sigmas[0]`` to the last level."""
    return _carried(model, (cond,), x, None, sigmas, solver, lora_share, batch)


def _carried(
    model: Sampled[Cond],
    conds: Sequence[Cond],
    x: Tensor,
    own: Tensor | None,
    sigmas: Tensor,
    solver: Solver[Any],
    lora_share: float,
    batch: int,
) -> Tensor:
    """``own [B]``: which of the conditionings each row belongs to; None is the first."""
    if not 0 <= lora_share <= 1:
        raise ValueError(f"lora_share lies in 0..1 (the share of the steps with the LoRA on), found {lora_share}")
    steps = len(sigmas) - 1
    with_lora = round(lora_share * steps)

    def body(velocity: Velocity) -> Tensor:
        owners = [None] * -(-len(x) // batch) if own is None else own.split(batch)
        return torch.cat([trajectory(velocity, *each) for each in zip(x.split(batch), owners, strict=True)])

    def trajectory(velocity: Velocity, x: Tensor, rows: Tensor | None) -> Tensor:
        state = solver.init()
        for i in range(steps):
            with nullcontext() if i < with_lora else model.with_weights(None):
                v = velocity(x, sigmas[i]) if rows is None else velocity(x, sigmas[i], rows)
            x, state = solver.step(x, v, sigmas[i], sigmas[i + 1], state)
        return x

    return model.run(conds, body)


def decode(model: Sampled[Any], latents: Tensor, batch: int, *, low: bool = False) -> Tensor:
    """Images ``[B, H, W, 3]`` of latents ``[B, *L]``, a few at a time; ``low``: in bfloat16 by a model that can.

    A video is shown by the frame in the middle of those that are seen.
    """
    return decode_frames(model, latents, batch, low=low)[0]


@torch.no_grad()
def decode_frames(
    model: Sampled[Any], latents: Tensor, batch: int, *, low: bool = False, tiny: bool = False
) -> tuple[Tensor, Tensor | None]:
    """The same, and all frames ``[B, F, H, W, 3]`` that are seen of videos; None of pictures.

    ``tiny``: by the tiny autoencoder of a model that has one.
    """
    how = model.decode_low if low and isinstance(model, DecodesLow) else model.decode
    if tiny and isinstance(model, DecodesTiny) and model.tiny:
        how = partial(model.decode_tiny, low=low)
    parts = []
    for x in latents.split(batch):
        require_wanted()
        parts.append(how(x))
    made = torch.cat(parts)
    return (made, None) if made.ndim == 4 else (made[:, (made.shape[1] - 1) // 2], made)
