"""The sigma grid of a diffusers folder: its scheduler's shift, by resolution where it has one, and its terminal level.

A flow pipeline of diffusers asks its scheduler for the levels ``u = 1, 1 - 1/T, .. 1/T`` and appends 0. The scheduler
shifts them, ``s u / (1 + (s - 1) u)``: ``s`` is a constant, or ``e^mu`` (or ``mu``), and ``mu`` grows linearly with
the number of image tokens. It may then stretch ``1 - sigma`` so that the last level before 0 is ``shift_terminal``.

The pipeline of Stable Diffusion 3 asks for a number of levels only. They then lie evenly between the ends of the
scheduler's table of 1000 levels, which a constant shift has moved already, and are shifted once more: with a shift of 3
and 10 steps the last level before 0 is 0.009 instead of 0.25. That grid is ``pipeline``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...support.levels import even_levels, shifted
from .loading import ModelFilesError, read_json

_OTHER_SCHEDULES = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "invert_sigmas")


@dataclass(frozen=True, kw_only=True)
class SchedulerGrid:
    """A scheduler's grid at one image size.

    Attributes:
        shift: ``s``, above 0; 1 leaves the levels even.
        terminal: the last level before 0; None leaves it as the shift makes it.
        lowest: the last even level, which is then shifted; None is one step's, ``1 / steps``.
    """

    shift: float
    terminal: float | None = None
    lowest: float | None = None

    def __call__(self, steps: int) -> Tensor:
        """Sigmas ``[steps + 1]``, float32 on the CPU, from 1 to exactly 0."""
        levels = even_levels(steps)
        if self.lowest is not None:
            levels = torch.cat([torch.linspace(1, self.lowest, steps, dtype=levels.dtype), levels[-1:]])
        sigmas = shifted(levels, self.shift)
        if self.terminal:
            away = 1 - sigmas[:-1]
            stretched = 1 - away * (1 - self.terminal) / away[-1] if steps > 1 else sigmas[:-1]
            sigmas = torch.cat([stretched, sigmas[-1:]])
        return sigmas.float()


def read_grid(scheduler: Path, tokens: int, *, pipeline: bool = False) -> SchedulerGrid:
    """The grid of a folder's ``scheduler`` for images of that many tokens (latents over the patch size squared).

    Args:
        pipeline: as diffusers' own pipeline of Stable Diffusion 3 samples, to compare images with it.

    Raises:
        ModelFilesError: it has a schedule that is none of these, or its numbers are none.
    """
    config = read_json(scheduler / "scheduler_config.json")
    other = [name for name in _OTHER_SCHEDULES if config.get(name)]
    if other:
        raise ModelFilesError(
            f"the scheduler in {scheduler} makes its levels by {' and '.join(other)}, which is not known here: set "
            "`shift` to train on a shifted grid instead, with a scheduler folder that has none of them"
        )
    shift = _dynamic_shift(config, tokens) if config.get("use_dynamic_shifting") else _static_shift(config)
    terminal = config.get("shift_terminal")
    if not (math.isfinite(shift) and shift > 0) or not (terminal is None or 0 <= terminal < 1):
        raise ModelFilesError(
            f"expected a shift above 0 and a terminal level in 0..1 in {scheduler}, found shift {shift} and terminal "
            f"{terminal}; get the folder again"
        )
    return SchedulerGrid(shift=shift, terminal=terminal, lowest=_lowest(config, shift) if pipeline else None)


def even_grid(scheduler: Path, side: int, pipeline: bool, latent_shape: tuple[int, ...]) -> SchedulerGrid:
    """The grid of latents of planes, whose patches have ``side`` latents of a side."""
    height, width = latent_shape[-2:]
    return read_grid(scheduler, (height // side) * (width // side), pipeline=pipeline)


def _lowest(config: Mapping[str, Any], shift: float) -> float:
    """The lower end of the scheduler's own table."""
    last = 1 / config.get("num_train_timesteps", 1000)
    moved = last if config.get("use_dynamic_shifting") else shift * last / (1 + (shift - 1) * last)
    return float(torch.tensor(moved, dtype=torch.float32))


def _static_shift(config: Mapping[str, Any]) -> float:
    found = config.get("shift", config.get("flow_shift"))
    return 1.0 if found is None else float(found)


def _dynamic_shift(config: Mapping[str, Any], tokens: int) -> float:
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    mu = low + (tokens - few) * (high - low) / (many - few)
    return mu if config.get("time_shift_type") == "linear" else math.exp(mu)
