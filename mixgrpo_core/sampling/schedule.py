"""Noise levels of a sampling run.

A schedule is a tensor of T + 1 strictly decreasing levels ``sigmas`` in [0, 1]: 1 is pure noise, 0 is data,
``x = (1 - sigma) x0 + sigma eps``, and step i goes from ``sigmas[i]`` to ``sigmas[i + 1]``. The last level is exactly
0. The first one is 1 for a full run and less for a partial one (image to image).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..support.levels import even_levels, shifted


def check_sigmas(sigmas: Tensor) -> None:
    """Raise ValueError unless `sigmas` is a schedule.

    A schedule has shape [T + 1] with T >= 1, a floating dtype, finite values within [0, 1], strictly decreasing, the
    last exactly 0. It need not start at 1.
    """
    if sigmas.dim() != 1 or len(sigmas) < 2:
        raise ValueError(
            f"sigmas must be at least 2 levels of noise in a row, found shape {list(sigmas.shape)}: take "
            "a step or more."
        )
    if not sigmas.is_floating_point():
        raise ValueError(f"sigmas must be floating point, found {sigmas.dtype}: take one of floats.")
    if not bool(((sigmas >= 0) & (sigmas <= 1)).all()):  # NaN fails both comparisons
        raise ValueError(
            f"sigmas must be finite and within [0, 1], found {sigmas.tolist()}: take the schedule of a flow model."
        )
    rises = (sigmas.diff() >= 0).nonzero()
    if len(rises):
        i = int(rises[0])
        raise ValueError(
            f"sigmas must be strictly decreasing, found sigmas[{i}] = {float(sigmas[i])!r} and "
            f"sigmas[{i + 1}] = {float(sigmas[i + 1])!r}; sort them from noise to data and drop repeated entries."
        )
    if float(sigmas[-1]) != 0.0:
        raise ValueError(
            f"The last sigma must be exactly 0, found {float(sigmas[-1])!r}; append a 0, or samples keep their noise."
        )


def start_of(noise: Tensor, sigmas: Tensor) -> Tensor:
    """What a full run starts from: standard normal ``noise``, as large as ``x`` is at ``sigmas[0]`` where latents have
    variance 1. At 1 that is the noise itself; a model whose noise ends below (SDXL) has never seen a larger one."""
    first = float(sigmas[0])
    return noise if first == 1 else noise * math.hypot(first, 1 - first)


def noise_of_start(x: Tensor, sigma: Tensor) -> Tensor:
    """The standard normal noise that ``x`` is, the start of a full run at ``sigma``."""
    first = float(sigma)
    return x if first == 1 else x / math.hypot(first, 1 - first)


def flow_sigmas(steps: int, shift: float = 1.0) -> Tensor:
    """Evenly spaced levels, shifted towards the noise: ``shift u / (1 + (shift - 1) u)`` with u = 1, 1 - 1/T, ..., 0.

    Args:
        steps: T >= 1.
        shift: > 0; 1 leaves the levels even, 3 is usual for images, more for larger latents.

    Returns:
        float32 tensor of shape [steps + 1], from exactly 1 to exactly 0, computed in float64.

    Raises:
        ValueError: fewer than 1 step, or a shift that is not above 0 or merges levels.
    """
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be a whole number >= 1, found {steps!r}.")
    if not (math.isfinite(shift) and shift > 0):
        raise ValueError(f"shift must be a finite number > 0, found {shift!r}; 1 means no shift.")
    sigmas = shifted(even_levels(steps), shift).float()
    check_sigmas(sigmas)  # an extreme shift merges neighbouring levels in float32
    return sigmas


def flash_sigmas(sigmas: Tensor, stop: int, ratio: float) -> Tensor:
    """Thin out the levels after index `stop`: the compressed tail of MixGRPO-Flash.

    The tail has ``n = clamp(ceil((T - stop) * ratio), 1, T - stop)`` steps (arXiv 2507.21802 gives the count
    (T - l - w) r) at evenly spaced fractional indices of the given grid, between whose entries it is interpolated
    linearly. It always ends at exactly 0.

    Args:
        sigmas: schedule of shape [T + 1], full or partial.
        stop: index of the first level of the tail, 0 <= stop < T; a window's `range.stop`.
        ratio: >= 0, the share of the remaining steps to keep. 1 or more returns the grid bit for bit.

    Returns:
        Schedule of shape [stop + n + 1] whose entries 0..stop are those of `sigmas`; same dtype and device.

    Raises:
        ValueError: no schedule, a tail without a step, or a ratio that is negative or not finite.
    """
    check_sigmas(sigmas)
    steps = len(sigmas) - 1
    if not isinstance(stop, int) or not 0 <= stop < steps:
        raise ValueError(
            f"stop must be a whole number within [0, {steps - 1}] for {steps} steps, found {stop!r}; "
            "the tail needs at least one step."
        )
    if not (math.isfinite(ratio) and ratio >= 0):
        raise ValueError(f"ratio must be a finite number >= 0, found {ratio!r}; 1 keeps every step.")
    span = steps - stop
    count = min(max(math.ceil(span * ratio), 1), span)
    below = [stop + k * span // count for k in range(count + 1)]
    between = [k * span % count / count for k in range(count + 1)]  # 0 where the index is whole
    start = sigmas[below]
    end = sigmas[[min(i + 1, steps) for i in below]]
    tail = torch.lerp(start, end, sigmas.new_tensor(between))
    return torch.cat([sigmas[:stop], tail])
