"""A diffusion model as a flow: against closed forms, and Euler's method of either against the other."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from mixgrpo_core.models.diffusion_flow import (
    VELOCITIES,
    even_timesteps,
    level_of,
    noise_of,
    spread,
    timestep_of,
)
from mixgrpo_core.sampling.schedule import noise_of_start, start_of

MEAN, SIZE = 0.4, 0.7  # of the images


def noises() -> Tensor:
    """Of SDXL and Stable Diffusion 1.5."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    image = (1 - betas).cumprod(0)
    return ((1 - image) / image).sqrt()


def image_of(noisy: Tensor, k: Tensor) -> Tensor:
    """What is behind ``x0 + k eps``, on average, where images are normal."""
    return MEAN + SIZE**2 / (SIZE**2 + k**2) * (noisy - MEAN)


def asked(kind: str, given: Tensor, k: Tensor) -> Tensor:
    """What a perfect network predicts of its input, which is ``(x0 + k eps) / sqrt(1 + k^2)``."""
    noisy = given * (1 + k**2).sqrt()
    image = image_of(noisy, k)
    eps = (noisy - image) / k
    return eps if kind == "epsilon" else (eps - k * image) / (1 + k**2).sqrt()


def velocity(kind: str) -> Callable[[Tensor, Tensor], Tensor]:
    def v(x: Tensor, sigma: Tensor) -> Tensor:
        predicted = asked(kind, x / spread(sigma), noise_of(sigma))
        return VELOCITIES[kind](predicted, x, sigma)

    return v


@pytest.mark.parametrize("kind", VELOCITIES)
def test_it_is_the_velocity_of_the_flow_between_these_images_and_noise(kind: str) -> None:
    x = torch.randn(64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for level in (0.03, 0.4, 0.9):
        sigma = torch.tensor(level, dtype=torch.float64)
        # E[eps - x0 | x] of two normal variables
        variance = (1 - sigma) ** 2 * SIZE**2 + sigma**2
        expected = -MEAN + (sigma - (1 - sigma) * SIZE**2) / variance * (x - (1 - sigma) * MEAN)
        torch.testing.assert_close(velocity(kind)(x, sigma), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", VELOCITIES)
def test_eulers_method_on_it_is_that_of_the_diffusion_model(kind: str) -> None:
    ks = torch.cat([noises()[[999, 799, 599, 399, 199, 0]], torch.zeros(1, dtype=torch.float64)])
    noisy = ks[0] * torch.randn(64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = noisy / (1 + ks[0])
    for k, following in pairwise(ks):
        noisy = noisy + (following - k) * (noisy - image_of(noisy, k)) / k
        sigma, after = level_of(k), level_of(following)
        x = x + (after - sigma) * velocity(kind)(x, sigma)
        torch.testing.assert_close(x, noisy / (1 + following), rtol=0, atol=1e-13)


def test_pure_noise_has_a_velocity_where_v_is_predicted() -> None:
    x, one = torch.randn(8), torch.tensor(1.0)
    torch.testing.assert_close(VELOCITIES["v_prediction"](torch.zeros(8), x, one), x)
    assert bool(VELOCITIES["epsilon"](torch.zeros(8), x, one).isinf().all())


def test_timesteps_lie_between_those_of_the_table_as_numpy_joins_them() -> None:
    table, among = noises(), torch.linspace(0.03, 0.93, 57)
    found = timestep_of(among, table)
    k = among.double() / (1 - among.double())
    expected = np.interp(k.log().numpy(), table.log().numpy(), np.arange(1000))
    np.testing.assert_allclose(found.numpy(), expected, atol=5e-4)
    whole = level_of(table[[0, 1, 500, 998, 999]]).float()
    assert timestep_of(whole, table).tolist() == [0, 1, 500, 998, 999]
    assert timestep_of(torch.tensor([1.0, 0.99, 1e-9]), table).tolist() == [999, 999, 0]


def test_even_timesteps_begin_at_the_highest_noise() -> None:
    sigmas = even_timesteps(4, noises())
    torch.testing.assert_close(sigmas[:-1].double(), level_of(noises()[[999, 749, 499, 249]]), rtol=0, atol=1e-7)
    assert sigmas[-1] == 0
    assert len(even_timesteps(1000, noises())) == 1001
    with pytest.raises(ValueError, match="expected 1 to 1000 steps"):
        even_timesteps(1001, noises())


def test_a_run_starts_as_large_as_the_model_has_seen_noise() -> None:
    noise, first = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), noises()[-1]
    sigmas = even_timesteps(4, noises())
    torch.testing.assert_close(start_of(noise, sigmas), noise * float((1 + first**2).sqrt() / (1 + first)))
    torch.testing.assert_close(noise_of_start(start_of(noise, sigmas), sigmas[0]), noise)
    assert start_of(noise, torch.tensor([1.0, 0.0])) is noise
