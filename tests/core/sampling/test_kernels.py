import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixgrpo_core.sampling.kernels import DanceSDE, FlowCPS, FlowSDE, Gaussian, PreciseDanceSDE, PreciseSDE
from mixgrpo_core.sampling.schedule import flow_sigmas

KERNELS = [FlowSDE(), DanceSDE(), FlowCPS(), PreciseSDE(), PreciseDanceSDE()]
SCORE_FAMILY = [FlowSDE(0.7), FlowSDE(1.3), DanceSDE(0.3), DanceSDE(1.0)]
DATA_FAMILY = [FlowCPS(0.8), FlowCPS(0.3), PreciseSDE(1.0), PreciseSDE(math.sqrt(2)), PreciseDanceSDE(0.3)]
levels = st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)).filter(lambda s: s[0] > s[1] + 1e-3).map(tuple)

# std of every step at eta 0.7, T = 25, shift 3; the last one is never sampled
GOLDEN_STD = [
    .7000, .7145, .5087, .4182, .3646, .3282, .3014, .2807, .2639, .2500, .2382, .2278, .2186, .2102, .2024, .1949,
    .1876, .1801, .1724, .1640, .1545, .1433, .1293, .1107, .0825,
]  # fmt: skip


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_log_prob_is_the_mean_of_the_full_normal_density():
    mean, x = normal(3, 4, 5), normal(3, 4, 5, seed=1)
    for std in (torch.tensor(0.3, dtype=torch.float64), normal(3, 1, 1, seed=2).abs(), normal(4, 5, seed=3).abs()):
        reference = torch.distributions.Normal(mean, std).log_prob(x)
        gaussian = Gaussian(mean, std)
        torch.testing.assert_close(gaussian.log_prob(x, reduce=False), reference, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(gaussian.log_prob(x), reference.mean((1, 2)), atol=1e-12, rtol=1e-12)


def test_log_prob_golden():
    # x one std away: -1/2 - log 0.5 - log(2 pi) / 2, and at the mean 1/2 more
    gaussian = Gaussian(torch.tensor([[1.0, 2.0]]), torch.tensor(0.5))
    torch.testing.assert_close(gaussian.log_prob(torch.tensor([[1.5, 2.0]])), torch.tensor([-0.4757913526]))
    torch.testing.assert_close(Gaussian(torch.zeros(2), 1.0).log_prob(torch.zeros(2)), torch.full((2,), -0.9189385332))


def test_sample_and_log_prob_agree_about_the_std():
    gaussian, noise = Gaussian(normal(2, 6), torch.tensor(0.37, dtype=torch.float64)), normal(2, 6, seed=1)
    entropy_like = -(noise**2).mean(1) / 2 - math.log(0.37) - math.log(2 * math.pi) / 2
    torch.testing.assert_close(gaussian.log_prob(gaussian.sample(noise)), entropy_like, atol=1e-12, rtol=0)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_everything_is_computed_in_float32_at_least(stored):
    x, v = normal(2, 64).to(stored), normal(2, 64, seed=1).to(stored)
    precision = torch.float64 if stored == torch.float64 else torch.float32
    for kernel in KERNELS:
        gaussian = kernel(x, v, 0.7, 0.6)
        exact = kernel(x.double(), v.double(), 0.7, 0.6)
        assert gaussian.mean.dtype == gaussian.std.dtype == precision
        torch.testing.assert_close(gaussian.mean.double(), exact.mean, atol=1e-6, rtol=0)
        sample = gaussian.sample(normal(2, 64, seed=2).to(stored)).to(stored)
        torch.testing.assert_close(gaussian.log_prob(sample).double(), exact.log_prob(sample), atol=1e-5, rtol=0)


def test_a_row_scores_the_same_alone_as_in_a_batch():
    x, v, x_next = (normal(5, 16, 8, 8, seed=i, dtype=torch.float32) for i in range(3))
    for kernel in KERNELS:
        together = kernel(x, v, 0.7, 0.6).log_prob(x_next)
        alone = torch.cat([kernel(x[i : i + 1], v[i : i + 1], 0.7, 0.6).log_prob(x_next[i : i + 1]) for i in range(5)])
        assert torch.equal(together, alone)


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
@given(step=levels)
def test_without_noise_every_kernel_is_the_euler_step(kernel, step):
    sigma, sigma_next = step
    x, v = normal(7), normal(7, seed=1)
    gaussian = kernel.scaled(0)(x, v, sigma, sigma_next)
    torch.testing.assert_close(gaussian.mean, x - (sigma - sigma_next) * v, atol=1e-12, rtol=0)
    assert gaussian.std == 0
    with pytest.raises(ValueError, match="deterministic"):
        gaussian.log_prob(x)


@pytest.mark.parametrize("kernel", SCORE_FAMILY, ids=repr)
@given(step=levels)
def test_score_family_is_euler_maruyama_with_the_flows_score(kernel, step):
    sigma, sigma_next = step
    h = sigma - sigma_next
    x, v = normal(7), normal(7, seed=1)
    data = x - sigma * v
    score = -(x - (1 - sigma) * data) / sigma**2  # of N((1 - sigma) x0, sigma^2)
    gaussian = kernel(x, v, sigma, sigma_next)
    variance = kernel.eta**2 * h * (sigma / (1 - sigma) if isinstance(kernel, FlowSDE) else 1)
    torch.testing.assert_close(gaussian.mean, x - h * v + variance / 2 * score, atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(float(gaussian.std), math.sqrt(variance), atol=1e-12, rtol=0)


@pytest.mark.parametrize("kernel", DATA_FAMILY, ids=repr)
@given(step=levels)
def test_coefficient_family_keeps_data_and_total_noise(kernel, step):
    """Where the prediction is the truth (data a, noise e), the mean has a with 1 - sigma' and the noises add up."""
    sigma, sigma_next = step
    a, e = normal(7), normal(7, seed=1)
    gaussian = kernel((1 - sigma) * a + sigma * e, e - a, sigma, sigma_next)
    kept = (gaussian.mean - (1 - sigma_next) * a) / e
    torch.testing.assert_close(kept, kept[:1].expand(7), atol=1e-9, rtol=0)
    torch.testing.assert_close(float(kept[0] ** 2 + gaussian.std**2), sigma_next**2, atol=1e-10, rtol=0)


def test_cps_std_golden():
    assert FlowCPS(0.5).sensitivity(0.8, 0.4)[1] == pytest.approx(0.4 * math.sqrt(0.5), abs=1e-15)
    assert FlowCPS(1.0)(torch.ones(1), torch.ones(1), 0.8, 0.4).std == pytest.approx(0.4), "eta 1 replaces all noise"


def test_precise_std_solves_the_linear_sde_of_flow_sde():
    """For frozen data, the variance u of FlowSDE's equation obeys a linear ODE; integrate it numerically.

    dx = (v + g^2/2 * eps_hat / sigma) dsigma + g dW backwards, eps_hat = (x - (1 - sigma) a) / sigma, v = eps_hat - a:
    with y = x - (1 - sigma) a this is dy = (y / sigma + g^2 y / (2 sigma^2)) dsigma + g dW.
    """
    for eta, start, stop in ((0.7, 0.9, 0.5), (1.2, 0.6, 0.1)):
        n, variance = 100_000, 0.0
        h = (start - stop) / n
        for i in range(n):  # midpoint rule in the coefficients
            s = start - (i + 0.5) * h
            g2 = eta**2 * s / (1 - s)
            variance = variance * math.exp(-2 * h * (1 / s + g2 / (2 * s * s))) + g2 * h
        assert PreciseSDE(eta).sensitivity(start, stop)[1] == pytest.approx(math.sqrt(variance), rel=1e-4)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_dance_precise_is_the_exact_solution_of_the_sde(eta):
    """The noise part e of x obeys de = -g^2 / (2 s) e ds / s + g dW / s with g = eta: its new share, integrated."""
    for start, stop in [(1.0, 0.9), (0.7, 0.4), (0.2, 0.05)]:
        n, variance = 20_000, 0.0
        h = (start - stop) / n
        for i in range(n):  # midpoint rule in the coefficients
            s = start - (i + 0.5) * h
            variance = variance * math.exp(-2 * h * (1 / s + eta**2 / (2 * s * s))) + eta**2 * h
        assert PreciseDanceSDE(eta).sensitivity(start, stop)[1] == pytest.approx(math.sqrt(variance), rel=1e-3)


@pytest.mark.parametrize("kernel", [PreciseSDE(1.0), PreciseSDE(1.5), PreciseDanceSDE(0.3)], ids=repr)
def test_precise_steps_compose_and_others_do_not(kernel):
    """The share of the noise that is kept from 0.9 to 0.3 is the product over 0.6 (CPS: 0.7071 against a half)."""

    def kept(kernel, sigma, sigma_next):
        std = kernel.sensitivity(sigma, sigma_next)[1]
        return math.sqrt(sigma_next**2 - std**2) / sigma_next

    assert kept(kernel, 0.9, 0.3) == pytest.approx(kept(kernel, 0.9, 0.6) * kept(kernel, 0.6, 0.3), rel=1e-12)
    if kernel == PreciseSDE(1.0):
        assert kept(kernel, 0.9, 0.3) == pytest.approx(0.2182179, abs=1e-7)
    cps = FlowCPS(0.5)
    assert kept(cps, 0.9, 0.3) == pytest.approx(0.7071, abs=1e-4)
    assert kept(cps, 0.9, 0.6) * kept(cps, 0.6, 0.3) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("exact", "euler"), [(PreciseSDE(0.7), FlowSDE(0.7)), (PreciseDanceSDE(0.3), DanceSDE(0.3))], ids=repr
)
def test_precise_is_its_sde_in_short_steps(exact, euler):
    """Mean and std agree to the second order of the step."""
    found = []
    for h in (1e-3, 5e-4):
        mine, other = exact.coefficients(0.6, 0.6 - h), euler.coefficients(0.6, 0.6 - h)
        assert mine.std == pytest.approx(other.std, rel=2 * h / 0.6)
        found.append(abs(mine.v_weight - other.v_weight) + abs(mine.x_weight - other.x_weight))
    assert found[1] == pytest.approx(found[0] / 4, rel=0.02)


def test_golden_coefficients_of_precise():
    assert PreciseSDE(1.0).coefficients(0.9, 0.8) == pytest.approx((0.7333333, -0.1266667, 0.5962848), abs=5e-8)


def test_dance_precise_near_the_data_takes_new_noise_only():
    for level in (1e-3, 1e-8):
        assert PreciseDanceSDE().coefficients(0.5, level) == pytest.approx((1, -0.5, level), rel=2e-3)
    assert PreciseDanceSDE().coefficients(0.5, 0.0) == (1, -0.5, 0)


def test_precise_from_pure_noise_replaces_all_of_it():
    gaussian = PreciseSDE()(torch.tensor([3.0]), torch.tensor([2.0]), 1.0, 0.9)
    assert gaussian.std == pytest.approx(0.9) and gaussian.mean == pytest.approx(0.1 * (3 - 2))


def test_golden_stds_of_the_published_runs():
    sigmas = flow_sigmas(25, 3.0)
    stds = [FlowSDE(0.7).sensitivity(sigmas[i], sigmas[i + 1])[1] for i in range(25)]
    assert stds == pytest.approx(GOLDEN_STD, abs=5.1e-5)


def test_golden_gradient_per_unit_noise_grows_43_fold():
    sigmas = flow_sigmas(25, 3.0)
    pairs = {i: FlowSDE(0.7).sensitivity(sigmas[i], sigmas[i + 1]) for i in (1, 8, 15, 20, 23)}
    ratios = [kappa / std for kappa, std in pairs.values()]
    assert ratios == pytest.approx([0.025, 0.10, 0.25, 0.52, 1.08], abs=6e-3)
    assert ratios[-1] / ratios[0] == pytest.approx(43, abs=0.5)


@given(steps=st.integers(2, 2000), shift=st.floats(0.5, 12), eta=st.floats(0.05, 1.5))
def test_the_first_flow_step_has_std_eta_for_every_schedule(steps, shift, eta):
    sigmas = flow_sigmas(steps, shift)
    assert FlowSDE(eta).sensitivity(sigmas[0], sigmas[1])[1] == pytest.approx(eta, rel=1e-9)
    nearly = torch.nextafter(sigmas[0], sigmas[1])
    assert FlowSDE(eta).sensitivity(nearly, sigmas[1])[1] == pytest.approx(eta, rel=1e-3)


def test_a_grid_that_starts_just_below_one_stays_sane():
    mean_weight, _, std = FlowSDE(0.7).coefficients(0.99967, 0.9863)  # where diffusers' multistep scheduler starts
    assert std == pytest.approx(0.7, rel=0.02) and 0.5 < mean_weight < 1
    fine = flow_sigmas(1000, 3.0)  # 1 - sigma = 3.3e-4 at index 1, yet of the size of a step: not singular
    exact = 0.7 * math.sqrt(float(fine[1]) / (1 - float(fine[1])) * float(fine[1] - fine[2]))
    assert FlowSDE(0.7).sensitivity(fine[1], fine[2])[1] == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("kernel", SCORE_FAMILY + DATA_FAMILY, ids=repr)
@pytest.mark.parametrize("step", [(1.0, 0.9863), (0.9, 0.85), (0.5, 0.4), (0.2069, 0.1111)])
def test_gradient_with_respect_to_the_velocity(kernel, step):
    """d log_prob / d v = +-kappa (x' - mean) / (std^2 D): autograd against the closed form and finite differences."""
    x, v, noise = normal(2, 3, 4), normal(2, 3, 4, seed=1).requires_grad_(), normal(2, 3, 4, seed=2)
    x_next = kernel(x, v, *step).sample(noise).detach()
    (gradient,) = torch.autograd.grad(kernel(x, v, *step).log_prob(x_next).sum(), v)
    kappa, std = kernel.sensitivity(*step)
    with torch.no_grad():
        sign = float((kernel(x, v + 1, *step).mean - kernel(x, v, *step).mean).mean()) / kappa
    assert abs(sign) == pytest.approx(1, abs=1e-9)
    torch.testing.assert_close(gradient, sign * kappa * noise / (std * 12), atol=1e-10, rtol=1e-10)
    assert torch.autograd.gradcheck(lambda v: kernel(x, v, *step).log_prob(x_next), (v,))


def test_more_velocity_means_a_step_further_to_the_data():
    for kernel in KERNELS:
        x, v = torch.zeros(1), torch.ones(1)
        assert kernel(x, v, 0.7, 0.6).mean < 0, kernel


def test_scaling_composes_and_keeps_the_kind():
    assert FlowSDE(0.7).scaled(0.5) == FlowSDE(0.35) and DanceSDE().scaled(2.0) == DanceSDE(0.6)
    assert FlowCPS(0.8).scaled(1.0) == FlowCPS(0.8)
    assert DanceSDE().scaled(2.0).sensitivity(0.7, 0.6)[1] == pytest.approx(2 * DanceSDE().sensitivity(0.7, 0.6)[1])
    for kernel in KERNELS:
        with pytest.raises(ValueError, match="strength"):
            kernel.scaled(-1.0)


@pytest.mark.parametrize("step", [(0.5, 0.5), (0.5, 0.6), (1.1, 0.5), (0.5, -0.1), (math.nan, 0.5)])
def test_steps_that_do_not_fall_are_refused(step):
    for kernel in KERNELS:
        with pytest.raises(ValueError, match="sigma_next < sigma"):
            kernel(torch.ones(1), torch.ones(1), *step)


def test_settings_that_make_no_sense_are_refused():
    for make in (
        lambda: FlowSDE(-0.1),
        lambda: DanceSDE(math.nan),
        lambda: FlowCPS(1.1),
        lambda: PreciseSDE(math.inf),
        lambda: PreciseDanceSDE(-1),
    ):
        with pytest.raises(ValueError, match="eta"):
            make()
    with pytest.raises(ValueError, match="one shape"):
        FlowSDE()(torch.ones(2, 3), torch.ones(3), 0.7, 0.6)


def test_the_step_to_zero_has_no_density_in_the_coefficient_family():
    for kernel in DATA_FAMILY:
        gaussian = kernel(torch.tensor([2.0]), torch.tensor([1.0]), 0.5, 0.0)
        assert gaussian.mean == 1.5, "x0_hat"
        with pytest.raises(ValueError, match="std > 0"):
            gaussian.log_prob(torch.tensor([1.5]))


def test_repr_is_the_call_that_makes_it():
    for kernel in SCORE_FAMILY + DATA_FAMILY:
        assert eval(repr(kernel)) == kernel
