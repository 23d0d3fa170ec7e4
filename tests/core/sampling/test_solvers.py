import math

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from problems import MixtureFlow

from mixgrpo_core.sampling.schedule import flash_sigmas, flow_sigmas
from mixgrpo_core.sampling.solvers import DPMpp2M, Euler, History

SOLVERS = [Euler(), DPMpp2M()]


def starts(count=400, sigma=0.95, seed=0):
    """Samples of the mixture at `sigma`."""
    flow, draw = MixtureFlow(), torch.Generator().manual_seed(seed)
    mode = (torch.rand(count, generator=draw) > flow.weights[0]).long()
    noise = torch.randn(2, count, generator=draw, dtype=torch.float64)
    data = torch.tensor(flow.means).double()[mode] + torch.tensor(flow.stds).double()[mode] * noise[0]
    return (1 - sigma) * data + sigma * noise[1]


def even(start, stop, steps):
    return torch.linspace(start, stop, steps + 1, dtype=torch.float64)


@pytest.mark.parametrize("solver, order", [(Euler(), 1.0), (DPMpp2M(), 2.0)])
def test_order_of_convergence_on_a_mixture(solver, order):
    flow, x = MixtureFlow(), starts()
    exact = flow.solve(DPMpp2M(), x, even(0.95, 0.05, 4000))
    # the median: a path on the ridge between the modes is as sensitive as it likes
    errors = [float((flow.solve(solver, x, even(0.95, 0.05, n)) - exact).abs().median()) for n in (40, 80, 160)]
    measured = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert all(abs(value - order) < 0.1 for value in measured), measured


def test_golden_steps():
    x, v = torch.tensor([2.0], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    assert Euler().step(x, v, 0.8, 0.5, None)[0] == pytest.approx(1.7)
    # sigma 1/2 -> 1/3 after 2/3 -> 1/2: lambda = -log 2, 0, log 2, so the gain H / (2 H_prev) is 1/2;
    # m = 1.5, m_prev = 1, D = 1.75, x' = 2/3 * 2 + 1/3 * 1.75
    out, history = DPMpp2M().step(x, v, 1 / 2, 1 / 3, History(torch.ones(1, dtype=torch.float64), 2 / 3))
    assert out == pytest.approx(4 / 3 + 1.75 / 3, abs=1e-14)
    assert history.data == 1.5 and history.sigma == 0.5
    # an uneven step, sigma 1/2 -> 1/5: lambda' = log 4, gain 1, D = 2
    out, _ = DPMpp2M().step(x, v, 1 / 2, 1 / 5, History(torch.ones(1, dtype=torch.float64), 2 / 3))
    assert out == pytest.approx(0.4 * 2 + 0.6 * 2, abs=1e-14)


@given(st.floats(0.02, 1.0), st.floats(0.0, 0.99))
def test_without_history_2m_is_euler(sigma, share):
    x, v = torch.tensor([0.3, -2.0]).double(), torch.tensor([1.1, 0.4]).double()
    first, _ = DPMpp2M().step(x, v, sigma, sigma * share, DPMpp2M().init())
    torch.testing.assert_close(first, Euler().step(x, v, sigma, sigma * share, None)[0], atol=1e-12, rtol=0)


def test_lower_order_where_history_is_of_no_use():
    x, v, far = torch.tensor([0.3]).double(), torch.tensor([1.1]).double(), torch.tensor([50.0]).double()
    euler, _ = Euler().step(x, v, 0.9, 0.8, None)
    after_one, _ = DPMpp2M().step(x, v, 0.9, 0.8, History(far, 1.0))
    torch.testing.assert_close(after_one, euler, atol=1e-14, rtol=0)
    to_zero, _ = DPMpp2M().step(x, v, 0.9, 0.0, History(far, 0.95))
    torch.testing.assert_close(to_zero, x - 0.9 * v, atol=1e-14, rtol=0)
    assert not torch.allclose(DPMpp2M().step(x, v, 0.9, 0.8, History(far, 0.95))[0], euler), "otherwise it counts"


def test_runs_do_not_share_memory():
    flow, sigmas = MixtureFlow(), flow_sigmas(12, 3.0)
    solver = DPMpp2M()
    once = flow.solve(solver, starts(seed=1), sigmas)
    flow.solve(solver, starts(seed=2), sigmas)
    assert torch.equal(flow.solve(solver, starts(seed=1), sigmas), once)


def test_a_state_of_another_run_is_refused():
    x = torch.ones(1)
    _, state = DPMpp2M().step(x, x, 0.2, 0.1, None)
    with pytest.raises(ValueError, match="a fresh state"):
        DPMpp2M().step(x, x, 0.9, 0.8, state)
    with pytest.raises(ValueError, match="sigma_next < sigma"):
        DPMpp2M().step(x, x, 0.9, 0.9, None)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_half_precision_is_computed_in_float32(solver):
    flow, sigmas = MixtureFlow(), flow_sigmas(6, 3.0)
    x, state, exact_state = starts(64).bfloat16(), solver.init(), solver.init()
    exact = x.double()
    for sigma, sigma_next in zip(sigmas[:-1], sigmas[1:], strict=True):
        v = flow.velocity(exact, float(sigma)).bfloat16()
        x, state = solver.step(x, v, sigma, sigma_next, state)
        exact, exact_state = solver.step(exact, v.double(), sigma, sigma_next, exact_state)
        assert x.dtype == torch.float32
    torch.testing.assert_close(x.double(), exact, atol=1e-5, rtol=0)


@pytest.mark.parametrize("steps", [8, 25])
def test_2m_agrees_with_diffusers(steps):
    scheduler = DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=3.0,
    )
    scheduler.set_timesteps(steps)
    flow, x = MixtureFlow(), starts(sigma=1.0).float()
    sigmas, theirs = scheduler.sigmas, x
    for sigma, timestep in zip(sigmas[:-1], scheduler.timesteps, strict=True):
        theirs = scheduler.step(flow.velocity(theirs, float(sigma)), timestep, theirs).prev_sample
    assert float(sigmas[0]) < 1 and float(sigmas[-1]) == 0
    torch.testing.assert_close(flow.solve(DPMpp2M(), x, sigmas), theirs, atol=1e-5, rtol=0)


def test_euler_and_its_schedule_agree_with_diffusers():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / 25, 25).tolist())
    sigmas = flow_sigmas(25, 3.0)
    torch.testing.assert_close(scheduler.sigmas, sigmas, atol=2e-7, rtol=0)
    flow, x = MixtureFlow(), starts(sigma=1.0).float()
    theirs = x
    for sigma, timestep in zip(sigmas[:-1], scheduler.timesteps, strict=True):
        theirs = scheduler.step(flow.velocity(theirs, float(sigma)), timestep, theirs).prev_sample
    torch.testing.assert_close(flow.solve(Euler(), x, sigmas), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("window_stop, steps", [(4, 8), (10, 8), (16, 8)])
def test_2m_serves_a_flash_tail_better_than_euler(window_stop, steps):
    """The tail after a window, thinned to 8 steps, against a fine solution from the same state; T = 25, shift 3."""
    sigmas = flow_sigmas(25, 3.0).double()
    tail = flash_sigmas(sigmas, window_stop, steps / (25 - window_stop) - 1e-9)[window_stop:]
    flow, x = MixtureFlow(), starts(sigma=float(sigmas[window_stop]))
    assert len(tail) == steps + 1
    exact = flow.solve(DPMpp2M(), x, torch.cat([even(float(tail[0]), 0.01, 2000), torch.zeros(1, dtype=torch.float64)]))
    errors = {solver: float((flow.solve(solver, x, tail) - exact).square().mean().sqrt()) for solver in SOLVERS}
    assert errors[Euler()] > 1.2 * errors[DPMpp2M()], errors
