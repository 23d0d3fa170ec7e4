"""Step weights against the numbers of their papers, and what they do to gradients and clips."""

from dataclasses import replace

import pytest
import torch
from core.objectives.toys import Toy, gradient_of, make_groups, update
from toy import Red, ToyModel

from mixgrpo_core.objectives import (
    GRPO,
    PCPO,
    Even,
    FairClip,
    FairClipFlat,
    FlatGradient,
    GuardWeight,
    NoiseLevel,
    ProportionalCredit,
)
from mixgrpo_core.objectives.pieces import StepNumbers
from mixgrpo_core.sampling.kernels import DanceSDE, FlowCPS, FlowSDE, PreciseSDE
from mixgrpo_core.sampling.planners import WindowPlanner
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.sampling.windows import FrozenWindow, RandomWindow
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.training.preflight import check


def numbers(kernel=None, count=25, steps=None):
    sigmas = flow_sigmas(count, 3.0).double()
    kernel = kernel or FlowSDE(0.7)
    return [StepNumbers.of(kernel, sigmas[i], sigmas[i + 1]) for i in steps or range(count - 1)]


def shifted(levels):
    return 3 * levels / (1 + 2 * levels)


def rsm_numbers():
    """Of the nine steps that RSM trains, on the grid of diffusers' scheduler, which is shifted twice."""
    least = float(shifted(torch.tensor(0.001, dtype=torch.float64)))
    sigmas = shifted(torch.linspace(1, least, 10, dtype=torch.float64))
    return [StepNumbers.of(FlowSDE(0.7), sigmas[i], sigmas[i + 1]) for i in range(9)]


STEPS = numbers()
WEIGHTS = [Even(), FlatGradient(), GuardWeight(), NoiseLevel(), ProportionalCredit(), FairClip(), FairClipFlat()]


def total(weight, step, among=STEPS):
    return weight.log_ratio_factor(step, among) * weight.loss_factor(step, among)


def test_flash_grpos_published_table_is_std_over_kappa():
    assert [STEPS[i].std / STEPS[i].kappa for i in (0, 1, 23)] == pytest.approx([51.10, 39.66, 0.928], rel=2e-4)

    levels = shifted(torch.linspace(0.999, 0, 21, dtype=torch.float64))  # theirs, with g in proportion to sigma
    theirs = [StepNumbers.of(DanceSDE(eta=float(levels[1] * levels[i])), levels[i], levels[i + 1]) for i in range(5)]
    table = [step.std / step.kappa for step in theirs]
    assert table == pytest.approx([7.4770, 7.0414, 6.6112, 6.1867, 5.7682], abs=5e-5)


def test_tempflows_weights_in_a_window_of_four():
    window = STEPS[:4]
    found = [NoiseLevel().loss_factor(step, window) for step in window]
    assert found == pytest.approx([1.1959, 1.2206, 0.8691, 0.7144], abs=5e-5)


def test_rsms_constant_for_tempflow_is_the_mean_of_its_nine_steps():
    nine = rsm_numbers()
    assert len(nine) / sum(step.std for step in nine) == pytest.approx(2.2522, abs=5e-5)


def test_pcpos_factors_keep_the_mean_gradient():
    weight = ProportionalCredit()
    found = [weight.log_ratio_factor(step, STEPS) for step in STEPS]
    assert [found[i] for i in (0, 1, 23)] == pytest.approx([4.910, 4.026, 0.623], abs=6e-4)
    zeta = found[0] * STEPS[0].kappa / (STEPS[0].h * STEPS[0].std)
    assert zeta == pytest.approx(7.014254, abs=1e-5)
    assert sum(zeta * step.h for step in STEPS) == pytest.approx(sum(step.kappa / step.std for step in STEPS))
    nine = rsm_numbers()
    assert weight.log_ratio_factor(nine[0], nine) * nine[0].kappa / (nine[0].h * nine[0].std) == pytest.approx(
        3.97, abs=1e-3
    )


@pytest.mark.parametrize(
    ("weight", "profile"),
    [
        (Even(), lambda step: step.kappa / step.std),
        (FairClip(), lambda step: step.kappa / step.std),
        (FlatGradient(), lambda step: 1.0),
        (GuardWeight(), lambda step: 1.0),
        (FairClipFlat(), lambda step: 1.0),
        (NoiseLevel(), lambda step: step.h),
        (ProportionalCredit(), lambda step: step.h),
    ],
    ids=lambda value: type(value).__name__,
)
def test_seven_weightings_are_three_for_flow_sde(weight, profile):
    """Kappa is h (1 + eta^2 / 2); the first step starts at 1, where it is h."""
    found = [total(weight, step) * step.kappa / step.std / profile(step) for step in STEPS[1:]]
    assert found == pytest.approx([found[0]] * len(found), rel=1e-9)


@pytest.mark.parametrize("kernel", [DanceSDE(0.3), FlowCPS(0.8), PreciseSDE(1.5)], ids=repr)
def test_gradients_are_flat_for_every_kernel_where_kappa_is_asked_and_not_h(kernel):
    steps = numbers(kernel)
    for weight in (FlatGradient(), GuardWeight()):
        found = [total(weight, step, steps) * step.kappa / step.std for step in steps]
        assert found == pytest.approx([found[0]] * len(found), rel=1e-9)
    with_h = [1 / step.h * step.kappa for step in steps]  # the published 1 / h of GRPO-Guard
    spread = {"DanceSDE": (1.0, 1.17), "FlowCPS": (1.64, 4.98), "PreciseSDE": (1.52, 1.95)}[type(kernel).__name__]
    assert (min(with_h[1:]), max(with_h[1:])) == pytest.approx(spread, abs=6e-3)


def test_means_are_one_over_the_steps_that_may_be_trained():
    for weight in (FlatGradient(), GuardWeight(), NoiseLevel()):
        assert sum(weight.loss_factor(step, STEPS) for step in STEPS) == pytest.approx(len(STEPS))
    for weight in (FairClip(), FairClipFlat()):
        assert sum(total(weight, step) for step in STEPS) == pytest.approx(len(STEPS))
    assert [total(FairClip(), step) for step in STEPS] == pytest.approx([1.0] * len(STEPS)), "exactly GRPO's"


@pytest.mark.parametrize("weight", WEIGHTS, ids=lambda weight: type(weight).__name__)
@pytest.mark.parametrize("objective", [GRPO(clip=0.5), PCPO(margin=0.5)], ids=lambda value: type(value).__name__)
def test_the_first_gradient_of_a_step_is_grpos_times_both_factors(objective, weight):
    model = Toy()
    group = make_groups(model, (6,))[0]
    steps = numbers(count=8, steps=range(7))
    for number, transition in enumerate(group.trajectory.transitions):
        one = replace(group, trajectory=replace(group.trajectory, transitions=(transition,)), advantage=group.advantage)
        step = StepNumbers.of(transition.kernel, transition.sigma, transition.sigma_next)
        found = gradient_of(model, [one], replace(objective, step_weight=weight), candidates=steps)
        plain = gradient_of(model, [one], GRPO(clip=0.5), candidates=steps)
        assert plain.norm() > 1e-4, number
        torch.testing.assert_close(found, plain * total(weight, step, steps), rtol=1e-6, atol=1e-12)


def test_a_fair_clip_meets_every_step_equally_often_and_a_loss_weight_leaves_the_clip():
    """A change of one size in every step's velocity spreads weighted log-ratios alike."""
    for step in STEPS[1:]:
        spread = step.kappa / step.std  # of a log-ratio, per change of the velocity and root of elements
        assert FairClip().log_ratio_factor(step, STEPS) * spread / (step.h * step.std) == pytest.approx(1.245, abs=1e-3)
        assert GuardWeight().log_ratio_factor(step, STEPS) * spread / step.h == pytest.approx(1.245, abs=1e-3)
        assert FlatGradient().log_ratio_factor(step, STEPS) == NoiseLevel().log_ratio_factor(step, STEPS) == 1


def checked(objective, planner):
    config = TrainConfig(steps=8, iterations=4, planner=planner, objective=objective)
    check(ToyModel(), ["a"], {"red": Red()}, config, [])


def test_a_weighting_of_the_only_step_is_refused_with_a_way_out():
    alone, any_one = WindowPlanner(window=FrozenWindow(size=1, start=2)), WindowPlanner(window=RandomWindow(size=1))
    for objective in (GRPO(step_weight=FlatGradient()), PCPO(), GRPO(step_weight=NoiseLevel())):
        with pytest.raises(ValueError, match="weighs steps against each other, and WindowPlanner only ever trains one"):
            checked(objective, alone)
        checked(objective, any_one)
    checked(GRPO(), alone)
    checked(GRPO(step_weight=GuardWeight()), alone)  # it also moves the clip


def test_a_weighting_reaches_the_update_with_the_planners_candidates():
    model = Toy()
    groups = make_groups(model)
    stats, _ = update(model, groups, GRPO(step_weight=NoiseLevel()), candidates=numbers(count=8, steps=range(7)))
    alone, _ = update(model, groups, GRPO(step_weight=NoiseLevel()))
    assert stats.figures["grad_norm"] != pytest.approx(alone.figures["grad_norm"], rel=1e-3)
