"""The Mixed ODE-SDE Sampler on the demo model, through ComfyUI's own sampling call."""

from types import SimpleNamespace

import comfy.model_sampling
import comfy.sample
import comfy.samplers
import pytest
import torch
from mixgrpo_pack.mixgrpo_core import (
    DanceSDE,
    DPMpp2M,
    Euler,
    FlowCPS,
    FlowSDE,
    FrozenWindow,
    PreciseSDE,
    RolloutSettings,
    SlidingWindow,
    flash_sigmas,
    flow_sigmas,
    rollout,
    windowed_plan,
)
from mixgrpo_pack.mixgrpo_core.sampling import PreciseDanceSDE
from mixgrpo_pack.mixgrpo_core.support.seeds import derive_seed
from mixgrpo_pack.nodes.demo import load_clip, load_model
from mixgrpo_pack.nodes.sampling.mixed_sampling import batch_noise, shorten
from mixgrpo_pack.nodes.sampling.sampler import Sampler
from problems import GaussianFlow

KERNELS = {cls.__name__: cls for cls in (FlowSDE, DanceSDE, FlowCPS, PreciseSDE, PreciseDanceSDE)}
LATENT = (16, 8, 8)


@pytest.fixture(autouse=True)
def as_nodes_run():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def scene():
    """The demo model and the conditionings of one caption and of none."""
    with torch.inference_mode():
        clip = load_clip()
        conds = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a red circle", "a circle")]
        return SimpleNamespace(model=load_model(), positive=conds[0], negative=conds[1])


def sampler(**inputs):
    """The node's output for its default inputs, but for those given; the window is off unless given."""
    inputs = {"window_start": 0, "window_size": 0, "kernel": "FlowSDE", "eta": 0.7, "solver": "Euler"} | inputs
    return Sampler.execute(**({"tail_ratio": 1.0, "window_iteration": 0, "noise_seed_offset": 0} | inputs)).args[0]


def starting_noise(batch, seed=1):
    return torch.randn(batch, *LATENT, generator=torch.Generator().manual_seed(seed))


def grid(scene, scheduler="simple", steps=6):
    return comfy.samplers.calculate_sigmas(scene.model.get_model_object("model_sampling"), scheduler, steps)


def sample(scene, sampler, sigmas, *, batch=2, seed=5, noise=None, latent=None, mask=None, callback=None, cfg=1.0):
    noise = starting_noise(batch) if noise is None else noise
    latent = torch.zeros_like(noise) if latent is None else latent
    return comfy.sample.sample_custom(
        *(scene.model, noise, cfg, sampler, sigmas, scene.positive, scene.negative, latent),
        noise_mask=mask,
        callback=callback,
        disable_pbar=True,
        seed=seed,
    )


def euler():
    return comfy.samplers.sampler_object("euler")


def count_rows(scene, action):
    """What ``action`` returns, and the rows that went through the network meanwhile."""
    rows = []
    hook = scene.model.model.diffusion_model.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    try:
        return action(), sum(rows)
    finally:
        hook.remove()


@pytest.mark.parametrize("scheduler", ["simple", "normal", "sgm_uniform", "karras", "beta", "linear_quadratic"])
@pytest.mark.parametrize("batch", [1, 3])
def test_without_a_window_it_is_bit_equal_to_euler(scene, scheduler, batch):
    sigmas = grid(scene, scheduler)
    found = sample(scene, sampler(), sigmas, batch=batch, cfg=2.0)
    assert torch.equal(found, sample(scene, euler(), sigmas, batch=batch, cfg=2.0))


@pytest.mark.parametrize("part", [slice(None, 4), slice(3, None), slice(2, 5)])
def test_without_a_window_parts_of_a_schedule_are_bit_equal_to_euler(scene, part):
    sigmas, latent = grid(scene)[part], starting_noise(2, seed=9)
    assert torch.equal(sample(scene, sampler(), sigmas, latent=latent), sample(scene, euler(), sigmas, latent=latent))


@pytest.mark.parametrize("scheduler", ["simple", "karras"])
def test_steps_before_the_window_are_bit_equal_to_eulers(scene, scheduler):
    sigmas, seen = grid(scene, scheduler), {}
    for name, kind in (("mixed", sampler(window_start=4, window_size=1)), ("euler", euler())):
        seen[name] = []
        sample(scene, kind, sigmas, callback=lambda i, x0, x, total, name=name: seen[name].append(x.clone()))
    same = [torch.equal(a, b) for a, b in zip(seen["mixed"], seen["euler"], strict=True)]
    assert same == [True] * 5 + [False]


def test_a_mask_keeps_what_it_covers_and_is_euler_without_a_window(scene):
    latent, mask = starting_noise(2, seed=9), torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    found = sample(scene, sampler(window_size=3), grid(scene), latent=latent, mask=mask)
    torch.testing.assert_close(found[..., :4], latent[..., :4], atol=1e-5, rtol=0)
    assert (found[..., 4:] - latent[..., 4:]).abs().mean() > 0.1
    plain = [sample(scene, kind, grid(scene), latent=latent, mask=mask) for kind in (sampler(), euler())]
    assert torch.equal(*plain)


class HostFlow:
    """The host's velocity as the core's model, with the sampler's noise: an independent driver of the same network."""

    evaluations = 0

    def __init__(self, scene, start, seed, steps):
        self.scene, self.start = scene, start
        self.noises = {derive_seed(seed, "step", i): i for i in range(steps)}
        self.seed = derive_seed("window noise", seed, 0)

    def noise(self, seed, count):
        step = self.noises.get(seed)
        return self.start if step is None else batch_noise(self.seed, step, self.start)

    def run(self, cond, body):
        found = []

        class Drive(comfy.samplers.Sampler):
            def sample(self, model_wrap, sigmas, extra_args, *args, **kwargs):
                def velocity(x, sigma):
                    return (x - model_wrap(x, sigma.expand(len(x)), **extra_args)) / sigma

                found.append(body(velocity))
                return found[0][0].final

        sample(self.scene, Drive(), torch.tensor([1.0, 0.0]), noise=self.start)
        return found[0]


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("tail", [1.0, 0.5])
def test_it_equals_the_rollout_that_trains(scene, name, tail):
    sigmas, start = grid(scene, steps=8), starting_noise(3)
    kind = sampler(window_start=2, window_size=2, kernel=name, eta=0.5, tail_ratio=tail, solver="DPM++ 2M")
    found = sample(scene, kind, sigmas, noise=start, seed=7)
    plan = windowed_plan(flash_sigmas(sigmas, 4, tail), range(2, 4))
    sampling = RolloutSettings(
        kernel=KERNELS[name](eta=0.5), solver=DPMpp2M(), tail_solver=DPMpp2M(), shared_noise=False
    )
    trajectory = rollout(HostFlow(scene, start, 7, 8), None, plan, sampling, group_size=3, seed=7)
    expected = scene.model.model.process_latent_out(trajectory.final)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_tail_is_made_by_2m_only_where_it_is_shortened(scene):
    sigmas, start = grid(scene, steps=8), starting_noise(2)
    for tail, solver in ((1.0, Euler()), (0.5, DPMpp2M())):
        found = sample(scene, sampler(window_size=2, tail_ratio=tail), sigmas, noise=start)
        plan = windowed_plan(flash_sigmas(sigmas, 2, tail), range(2))
        sampling = RolloutSettings(kernel=FlowSDE(eta=0.7), tail_solver=solver, shared_noise=False)
        trajectory = rollout(HostFlow(scene, start, 5, 8), None, plan, sampling, group_size=2, seed=5)
        expected = scene.model.model.process_latent_out(trajectory.final)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_seeds_reproduce_and_each_image_has_noise_of_its_own(scene):
    same_start = starting_noise(1).expand(3, -1, -1, -1)
    sigmas, kind = grid(scene), sampler(window_size=2)
    first = sample(scene, kind, sigmas, noise=same_start)
    assert torch.equal(first, sample(scene, kind, sigmas, noise=same_start))
    assert not torch.allclose(first[0], first[1], atol=0.1)
    assert not torch.allclose(first, sample(scene, kind, sigmas, noise=same_start, seed=6), atol=0.1)
    moved = sampler(window_size=2, noise_seed_offset=1)
    assert not torch.allclose(first, sample(scene, moved, sigmas, noise=same_start), atol=0.1)
    torch.testing.assert_close(sample(scene, kind, sigmas, noise=same_start[:2]), first[:2], atol=1e-4, rtol=0)


def test_noise_is_a_function_of_seed_step_and_row():
    many, few = batch_noise(3, 2, torch.empty(4, 2, 5, 3, 3)), batch_noise(3, 2, torch.empty(1, 2, 5, 3, 3))
    assert torch.equal(many[:1], few)
    drawn = torch.stack([batch_noise(3, 1, torch.empty(4, 90)), many.flatten(1), batch_noise(4, 2, torch.empty(4, 90))])
    assert (torch.corrcoef(drawn.reshape(12, 90)) - torch.eye(12)).abs().max() < 0.5
    assert batch_noise(3, 2, torch.empty(2, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_flash_takes_fewer_evaluations_and_its_progress_ends_at_the_total(scene):
    seen, sigmas = [], grid(scene, steps=10)
    kind = sampler(window_start=1, window_size=3, tail_ratio=0.4)
    _, rows = count_rows(
        scene, lambda: sample(scene, kind, sigmas, callback=lambda i, x0, x, total: seen.append((i, total)))
    )
    assert rows == 2 * (4 + 3)  # ceil(6 * 0.4) = 3 steps of 2 latents remain of 6
    assert seen == [(i, 10) for i in (0, 1, 2, 3, 5, 7, 9)]


def test_without_flash_each_step_reports_itself(scene):
    seen = []
    _, rows = count_rows(
        scene,
        lambda: sample(scene, sampler(window_size=3), grid(scene), callback=lambda i, x0, x, total: seen.append(i)),
    )
    assert seen == [0, 1, 2, 3, 4, 5]
    assert rows == 12


def test_a_split_schedule_with_a_window_in_its_first_part_is_the_whole_one(scene):
    sigmas, kind = grid(scene, steps=8), sampler(window_start=1, window_size=3)
    whole = sample(scene, kind, sigmas)
    half = sample(scene, kind, sigmas[:5])  # the window's last step is the part's last step: noise at its end is right
    rest = sample(scene, sampler(), sigmas[4:], noise=torch.zeros(2, *LATENT), latent=half)
    torch.testing.assert_close(rest, whole, atol=1e-4, rtol=0)


def test_a_shortened_tail_ends_where_the_part_ends(scene):
    levels = []
    sigmas = grid(scene, steps=12)[:9]
    kind = sampler(window_size=2, tail_ratio=0.5)
    sample(scene, kind, sigmas, callback=lambda i, x0, x, total: levels.append(i))
    assert levels == [0, 1, 3, 5, 7][: len(levels)] and len(levels) == 5
    # With a tail as short as that, the part still ends at sigmas[8]: a whole run from there on works.
    plan = kind.sampler_function.__self__.plan(sigmas)
    assert plan.sigmas[5] == sigmas[8] > 0 and plan.sigmas[6] == 0
    assert torch.equal(plan.sigmas[:3], sigmas[:3])


@pytest.mark.parametrize("shift", [1.0, 1.15, 3.0, 5.0])
@pytest.mark.parametrize("end", [0, 1, 4])
def test_a_shortened_schedule_keeps_its_start_and_its_end_bit_for_bit(shift, end):
    for steps in range(8, 40):
        sigmas = flow_sigmas(steps, shift)[: steps + 1 - end]
        short = shorten(sigmas, 2, 0.5)
        assert torch.equal(short[:3], sigmas[:3]) and short[-1] == sigmas[-1]
        if end == 0:
            assert torch.equal(short, flash_sigmas(sigmas, 2, 0.5))
        indices = torch.linspace(2, len(sigmas) - 1, len(short) - 2, dtype=torch.float64)
        low = indices.floor().long().clamp(max=len(sigmas) - 2)
        expected = sigmas[low] + (indices - low) * (sigmas[low + 1] - sigmas[low])
        torch.testing.assert_close(short[2:].double(), expected, atol=1e-6, rtol=0)


def test_a_window_in_a_partial_schedule_counts_its_own_steps(scene):
    sigmas = grid(scene, steps=10)[4:]
    plan = sampler(window_start=1, window_size=2).sampler_function.__self__.plan(sigmas)
    assert plan.stochastic == (1, 2) and torch.equal(plan.sigmas, sigmas)


def test_a_linked_window_stands_where_its_iteration_says(scene):
    kind = sampler(window=SlidingWindow(size=2, hold=10), window_iteration=25, window_start=9, window_size=9)
    assert kind.sampler_function.__self__.plan(grid(scene)).stochastic == (2, 3)
    fixed = sampler(window=FrozenWindow(size=1, start=3))
    assert fixed.sampler_function.__self__.plan(grid(scene)).stochastic == (3,)


@pytest.mark.parametrize("start, size, part", [(3, 3, slice(None)), (0, 6, slice(None)), (2, 3, slice(None, 5))])
def test_a_window_that_does_not_fit_is_refused_before_the_network_runs(scene, start, size, part):
    sigmas = grid(scene)[part]

    def attempt():
        with pytest.raises(ValueError, match=f"does not fit the schedule of {len(sigmas) - 1} steps.*lower"):
            sample(scene, sampler(window_start=start, window_size=size), sigmas)

    assert count_rows(scene, attempt)[1] == 0


def test_a_schedule_of_another_kind_is_refused_with_a_window(scene):
    with pytest.raises(ValueError, match="strictly decreasing"):
        sample(scene, sampler(window_size=2), grid(scene).flip(0))


class ExactFlow(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
    """The host's flow sampling, for a model that is a formula."""


def formula(problem, kind, sigmas, x, model_sampling, seed=3):
    """Samples of a model whose velocity is known, through the host's KSAMPLER."""
    scale = getattr(model_sampling, "noise_scale", 1.0)

    class Model:
        inner_model = SimpleNamespace(model_sampling=model_sampling)
        model_patcher = SimpleNamespace(model=SimpleNamespace(), get_model_object=lambda name: model_sampling)
        cfg = 1.0

        def __call__(self, x, sigma, **extra):
            level = float(sigma[0])
            return x - level * scale * problem.velocity(x / scale, level)

    return kind.sample(Model(), sigmas, {"seed": seed}, None, x, torch.zeros_like(x), disable_pbar=True)


@pytest.mark.parametrize("noise_scale", [1.0, 8.0])
@pytest.mark.parametrize("name, eta", [("FlowSDE", 0.7), ("DanceSDE", 0.6), ("PreciseSDE", 1.0)])
def test_images_have_the_models_distribution_with_noise_as_without(name, eta, noise_scale):
    """The SDE shares the flow's marginals; where the model counts noise in units of its own, added noise must too."""
    problem, model_sampling = GaussianFlow(1.5, 0.5), ExactFlow()
    model_sampling.set_noise_scale(noise_scale)
    sigmas = torch.linspace(1, 0, 101)
    x = torch.randn(4, 20_000, generator=torch.Generator().manual_seed(0))
    found = formula(problem, sampler(window_start=20, window_size=60, kernel=name, eta=eta), sigmas, x, model_sampling)
    found = found / noise_scale
    assert abs(float(found.mean()) - 1.5) < 0.02
    assert abs(float(found.std()) - 0.5) < 0.015
    start = (x - x.mean()) / x.std()
    ode = formula(problem, sampler(), sigmas, x, model_sampling) / noise_scale
    kept = [float(((y - y.mean()) / y.std() * start).mean()) for y in (found, ode)]
    assert kept[0] < 0.9 and kept[1] > 0.999  # noise really was replaced, and none without a window


def test_any_number_of_dimensions():
    problem, sigmas = GaussianFlow(), torch.linspace(1, 0, 9)
    x = torch.randn(2, 4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    found = formula(problem, sampler(window_size=3), sigmas, x, ExactFlow())
    flat = formula(problem, sampler(window_size=3), sigmas, x.flatten(1), ExactFlow())
    assert torch.equal(found.flatten(1), flat)


@pytest.mark.parametrize(
    "kind", [comfy.model_sampling.EPS, comfy.model_sampling.V_PREDICTION, comfy.model_sampling.IMG_TO_IMG_FLOW]
)
def test_a_model_that_is_no_flow_model_is_refused(kind):
    class Other(comfy.model_sampling.ModelSamplingDiscreteFlow, kind):
        pass

    with pytest.raises(ValueError, match=f"needs a flow model.*{kind.__name__}"):
        formula(GaussianFlow(), sampler(), torch.linspace(1, 0, 5), torch.zeros(1, 4), Other())


def test_an_eta_that_a_kernel_cannot_take_is_refused_before_the_queue_runs():
    assert "1 at most" in Sampler.validate_inputs(kernel="FlowCPS", eta=1.5)
    assert Sampler.validate_inputs(kernel="FlowSDE", eta=1.5) is True
    assert Sampler.validate_inputs() is True  # both come from other nodes


def test_noise_settings_that_come_by_wire_are_checked_when_they_arrive():
    """The host leaves the checks of inputs to the node that names them."""
    assert Sampler.validate_inputs(kernel="FlowCPS", eta=None) is True
    assert Sampler.validate_inputs(kernel=None, eta=0.5) is True
    assert "expected one of" in Sampler.validate_inputs(kernel="FlowXYZ", eta=0.5)
    assert "0..10" in Sampler.validate_inputs(kernel="FlowSDE", eta=-5.0)
    with pytest.raises(ValueError, match="0..10"):
        Sampler.execute(0, 4, "FlowSDE", -5.0, "Euler", 1.0, 0, 0)
