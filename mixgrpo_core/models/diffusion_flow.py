"""A diffusion model (noise or v-prediction, SDXL's and Stable Diffusion 1.5's kind) as a flow.

Its noisy latent is ``x_k = x0 + k eps`` with a noise ``k`` from about 0.03 to 14.6. Divided by ``1 + k`` that is a
flow's:

    sigma = k / (1 + k)        x = x_k / (1 + k) = (1 - sigma) x0 + sigma eps        v = (x - x0) / sigma = eps - x0

Euler's method on v is Euler's method of such a model, to rounding. The highest level lies below 1: there is no pure
noise, and a run begins where the model's own noise ends (`start_of` in ``sampling``).
"""

from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import Tensor

_WHOLE = 5e-4
"""Timesteps that are nearer to a whole number are that number: what float32 rounded a level by."""


def level_of(noise: Tensor) -> Tensor:
    """``sigma`` of a noise ``k``."""
    return noise / (1 + noise)


def noise_of(sigma: Tensor) -> Tensor:
    """``k`` of a level; infinite at 1."""
    return sigma / (1 - sigma)


def spread(sigma: Tensor) -> Tensor:
    """``sqrt(sigma^2 + (1 - sigma)^2)``: how large ``x`` is where latents have variance 1, by which the network's input
    is divided."""
    return torch.hypot(sigma, 1 - sigma)


def velocity_of_noise(predicted: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """Of a network that predicts ``eps``. At 1 there is none."""
    return (predicted - x) / (1 - sigma)


def velocity_of_v(predicted: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """Of a network that predicts ``v`` of diffusion, ``((1 - sigma) eps - sigma x0) / spread``."""
    scale = spread(sigma)
    return ((2 * sigma - 1) / scale * x + predicted) / scale


VELOCITIES: MappingProxyType[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = MappingProxyType(
    {"epsilon": velocity_of_noise, "v_prediction": velocity_of_v}
)
"""By what diffusers calls the prediction."""


def timestep_of(sigma: Tensor, noises: Tensor) -> Tensor:
    """What the network hears of a level, float64: between the timesteps 0, 1, .. of the model's table ``noises [T]``,
    ascending, in which the logarithms of the noise are joined by straight lines."""
    table = noises.double().log()
    asked = noise_of(sigma.to(table.device).double()).log().clamp(table[0], table[-1])
    above = torch.searchsorted(table, asked).clamp(1, len(table) - 1)
    low, high = table[above - 1], table[above]
    found = above - 1 + (asked - low) / (high - low)
    whole = found.round()
    return torch.where((found - whole).abs() < _WHOLE, whole, found)


def even_timesteps(steps: int, noises: Tensor) -> Tensor:
    """The levels ``[steps + 1]`` of evenly spaced timesteps from the last one down, then 0; float32 on the CPU.

    Diffusers calls that spacing "trailing", the host "sgm_uniform": the first step is at the model's highest noise.
    """
    table = noises.detach().cpu().double()
    count = len(table)
    if not 1 <= steps <= count:
        raise ValueError(f"expected 1 to {count} steps, as many as the model knows noise levels, found {steps}")
    places = torch.arange(steps, 0, -1, dtype=torch.float64) * (count / steps)
    levels = level_of(table[(places.round() - 1).long()])
    return torch.cat([levels, levels.new_zeros(1)]).float()
