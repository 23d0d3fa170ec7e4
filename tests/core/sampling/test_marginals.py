"""Does mixed ODE-SDE sampling keep the model's distribution? Exact moments on a Gaussian target, no Monte Carlo."""

import pytest
import torch
from problems import GaussianFlow

from mixgrpo_core.sampling.kernels import DanceSDE, FlowCPS, FlowSDE, PreciseDanceSDE, PreciseSDE
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.sampling.solvers import DPMpp2M, Euler

TARGET = GaussianFlow(1.5, 0.5)
FAITHFUL = [FlowSDE(0.7), DanceSDE(0.3), PreciseSDE(1.0), PreciseSDE(1.5), PreciseDanceSDE(0.3)]


def interior_error(steps):
    """Error of the spread after `steps` from sigma 0.9 to 0.5."""
    sigmas = torch.linspace(0.9, 0.5, len(steps) + 1, dtype=torch.float64)
    return TARGET.propagate(sigmas, steps)[1] - TARGET.marginal(0.5)[1]


def run(steps, sigmas):
    return TARGET.propagate(sigmas.double(), steps)


def test_the_propagation_itself_against_monte_carlo():
    sigmas, steps = flow_sigmas(12, 3.0).double(), [Euler()] * 3 + [FlowSDE()] * 4 + [DPMpp2M()] * 5
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noises = torch.randn(4, 200_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    state = None
    for i, step in enumerate(steps):
        sigma, sigma_next = float(sigmas[i]), float(sigmas[i + 1])
        v = TARGET.velocity(x, sigma)
        if isinstance(step, FlowSDE):
            x = step(x, v, sigma, sigma_next).sample(noises[i - 3])
        else:
            x, state = step.step(x, v, sigma, sigma_next, state)
    mean, std = run(steps, sigmas)
    assert float(x.mean()) == pytest.approx(mean, abs=5e-3) and float(x.std()) == pytest.approx(std, abs=4e-3)


@pytest.mark.parametrize(
    "step, golden",
    [
        (Euler(), [-1.2e-2, -3.1e-3, -7.8e-4, -2.0e-4]),
        (FlowSDE(0.7), [4.2e-2, 6.7e-3, 1.5e-3, 3.7e-4]),
        (DanceSDE(0.3), [-9.3e-3, -2.4e-3, -6.0e-4, -1.5e-4]),
        (PreciseSDE(1.5), [-2.3e-2, -6.1e-3, -1.5e-3, -3.9e-4]),
        (FlowCPS(0.7), [-2.9e-2, -2.2e-2, -2.1e-2, -2.0e-2]),
    ],
    ids=repr,
)
def test_golden_errors_of_the_spread(step, golden):
    errors = [interior_error([step] * n) for n in (4, 16, 64, 256)]
    assert errors == pytest.approx(golden, rel=0.05)


@pytest.mark.parametrize("kernel", FAITHFUL, ids=repr)
def test_sde_error_halves_with_twice_the_steps(kernel):
    errors = [interior_error([kernel] * n) for n in (32, 64, 128, 256)]
    assert all(1.9 < a / b < 2.2 for a, b in zip(errors, errors[1:], strict=False)), errors


@pytest.mark.parametrize("kernel", FAITHFUL, ids=repr)
def test_mixed_error_halves_with_twice_the_steps(kernel):
    errors = []
    for n in (8, 16, 32, 64):
        errors.append(interior_error([Euler()] * n + [kernel] * (2 * n) + [Euler()] * n))
    assert all(1.9 < a / b < 2.2 for a, b in zip(errors, errors[1:], strict=False)), errors


@pytest.mark.parametrize("kernel", FAITHFUL, ids=repr)
def test_a_whole_mixed_run_reaches_the_data(kernel):
    """From noise to data, the window on the same stretch of every grid (steps 6 to 9 of 25): same limit as the ODE."""
    errors = {}
    for fold in (2, 4, 8, 16):
        steps = [Euler()] * 6 * fold + [kernel] * 4 * fold + [Euler()] * 15 * fold
        mean, std = run(steps, flow_sigmas(25 * fold, 3.0))
        assert mean == pytest.approx(1.5, abs=1e-6)
        errors[fold] = 0.5 - std
    assert errors[16] < 4e-3
    assert all(1.8 < errors[n] / errors[2 * n] < 2.2 for n in (2, 4, 8)), errors


@pytest.mark.parametrize("kernel", FAITHFUL, ids=repr)
def test_the_mean_is_exact_for_every_chain(kernel):
    mean, _ = run([kernel] * 24 + [Euler()], flow_sigmas(25, 3.0))
    assert mean == pytest.approx(1.5, abs=1e-6)  # the grid is float32


def test_the_2m_tail_of_a_mixed_run_converges_too():
    """Second order removes most of the shrinkage that Euler leaves: Flash with its tail at full length."""
    spreads = {}
    for tail in (Euler(), DPMpp2M()):
        steps = [Euler()] * 24 + [DanceSDE()] * 16 + [tail] * 60
        spreads[tail] = run(steps, flow_sigmas(100, 3.0))[1]
    assert abs(spreads[DPMpp2M()] - 0.5) < 0.25 * abs(spreads[Euler()] - 0.5), spreads


@pytest.mark.parametrize("steps, golden", [(25, [1.034, 1.056, 1.053, 1.050]), (1000, [1.030, 1.046, 1.043, 1.040])])
def test_known_bias_flow_sde_from_pure_noise_inflates_the_spread(steps, golden):
    """g^2 h is of the order eta^2 near sigma = 1, so this does not vanish with more steps (shift 3)."""
    sigmas = flow_sigmas(steps, 3.0)
    ratios = [run([FlowSDE(0.7)] * n, sigmas)[1] / TARGET.marginal(float(sigmas[n]))[1] for n in (1, 2, 3, 4)]
    assert ratios == pytest.approx(golden, abs=6e-4)


def test_known_bias_an_all_sde_run_ends_too_wide_and_a_later_start_does_not():
    sigmas = flow_sigmas(400, 1.0)
    from_noise = run([FlowSDE(0.7)] * 399 + [Euler()], sigmas)[1]
    inside = run([Euler()] * 40 + [FlowSDE(0.7)] * 359 + [Euler()], sigmas)[1]
    assert from_noise == pytest.approx(0.5011, abs=2e-4)
    assert inside == pytest.approx(0.4997, abs=8e-4)


def test_known_bias_flow_cps_does_not_converge_to_the_distribution():
    errors = [interior_error([FlowCPS(0.7)] * n) for n in (64, 256, 1024)]
    assert all(-2.2e-2 < error < -1.9e-2 for error in errors), errors
    finals = [run([FlowCPS(0.7)] * n, flow_sigmas(n, 1.0))[1] for n in (100, 400)]
    assert finals == pytest.approx([0.418, 0.423], abs=2e-3)  # the data's spread is 0.5


@pytest.mark.parametrize("kernel", [PreciseSDE(0.7), PreciseSDE(2**0.5), PreciseDanceSDE(0.3), FlowCPS(0.8)], ids=repr)
def test_the_coefficient_family_is_exact_for_a_single_image(kernel):
    """Data without spread: x at sigma has exactly the spread sigma after any number of steps."""
    point = GaussianFlow(1.5, 0.0)
    sigmas = flow_sigmas(10, 3.0).double()
    for n in (1, 4, 9):
        mean, std = point.propagate(sigmas, [kernel] * n)
        assert (mean, std) == pytest.approx(point.marginal(float(sigmas[n])), abs=1e-12)
