"""Settings: published figures, the way through a file and back, and what is refused on that way."""

import importlib.util
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mixgrpo_core import (
    GRPO,
    BatchNormalised,
    DanceSDE,
    DecayingWindow,
    DiversityLoss,
    DPMpp2M,
    Euler,
    FlowCPS,
    FlowSDE,
    FrozenWindow,
    FullPlanner,
    GuardGRPO,
    HeldOutFall,
    PixelDrift,
    PreciseSDE,
    RandomWindow,
    SlidingWindow,
    SmallPixels,
    TrainConfig,
    WeightedAdvantages,
    WeightedRewards,
    WindowPlanner,
)
from mixgrpo_core.models.policy import Policy
from mixgrpo_core.sampling import windows as windows_module
from mixgrpo_core.sampling.kernels import Kernel, PreciseDanceSDE
from mixgrpo_core.settings import presets
from mixgrpo_core.settings.config import differences, from_dict, to_dict
from mixgrpo_core.settings.kinds import SETTINGS
from mixgrpo_core.settings.values import checked
from mixgrpo_core.support.spelling import parse, spell

CLASSES = SETTINGS.by_name()
PRESETS = tuple(presets.PRESETS)


def through_json(config):
    return from_dict(json.loads(json.dumps(to_dict(config))))


# Through a file and back

small = st.integers(1, 8)
positive = st.floats(1e-9, 1e6)
clips = st.none() | positive | st.tuples(positive, positive) | st.just((0.5, math.inf))
seeds = st.integers(-(2**70), 2**70)
lasts = st.none() | st.integers(0, 30)
windows = st.one_of(
    st.builds(SlidingWindow, size=small, stride=small, hold=small, wrap=st.booleans(), last=lasts),
    st.builds(FrozenWindow, size=small, start=st.integers(0, 10)),
    st.builds(RandomWindow, size=small, seed=seeds, last=lasts),
    st.builds(
        DecayingWindow, size=small, stride=small, hold=st.integers(8, 30), shortest=small, rate=st.none() | positive
    ),
)
shares = st.floats(1e-6, 1)
guards = st.one_of(
    st.builds(HeldOutFall, warn=st.none() | small, stop=st.none() | small, least=st.floats(0, 3)),
    st.builds(DiversityLoss, warn=st.none() | shares, stop=shares, embed=st.builds(SmallPixels, small)),
    st.builds(PixelDrift, warn=positive, stop=st.none() | positive),
)
configs = st.builds(
    TrainConfig,
    iterations=st.integers(1, 10**9),
    seed=seeds,
    steps=st.integers(19, 60),
    shift=st.floats(0.1, 10),
    images_per_prompt=st.integers(2, 99),
    shared_noise=st.booleans(),
    planner=st.builds(WindowPlanner, window=windows, tail_ratio=shares)
    | st.builds(FullPlanner, trained_share=shares, seed=seeds),
    kernel=st.builds(FlowSDE, positive)
    | st.builds(DanceSDE, positive)
    | st.builds(FlowCPS, shares)
    | st.builds(PreciseSDE, positive)
    | st.builds(PreciseDanceSDE, positive),
    solver=st.sampled_from([Euler(), DPMpp2M()]),
    tail_solver=st.sampled_from([Euler(), DPMpp2M()]),
    objective=st.builds(GRPO, clip=clips, adv_clip=positive | st.just(math.inf), kl=st.floats(0, 10))
    | st.builds(GuardGRPO, clip=clips),
    reward_weights=st.dictionaries(st.text(), st.floats(0, 1e9), max_size=3),
    learning_rate=positive,
    ema=st.none() | st.floats(0, 1, exclude_max=True),
    credit=st.sampled_from([(WeightedAdvantages(),), (WeightedRewards(),), (BatchNormalised(),)]),
    spread_floors=st.dictionaries(st.text(), st.floats(0, 1e9), max_size=2),
    guards=st.lists(guards, max_size=3).map(tuple),
    eval_every=st.integers(0, 9),
    eval_steps=st.none() | small,
)


@given(configs)
@examples(max_examples=150)
def test_every_config_comes_back_from_json(config):
    assert through_json(config) == config
    assert differences(to_dict(config), json.loads(json.dumps(to_dict(through_json(config))))) == []


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_comes_back_from_json(name):
    config = getattr(presets, name)()
    assert through_json(config) == config
    assert config != TrainConfig()


@given(configs)
@examples(max_examples=100)
def test_every_object_is_spelled_as_the_call_that_makes_it(config):
    for made in (config.planner, config.kernel, config.solver, config.objective, *config.credit, *config.guards):
        assert parse(spell(made), CLASSES) == made
        assert eval(spell(made).replace("1e999", "math.inf"), {**CLASSES, "math": math}) == made  # it is Python


def without_arguments(cls):
    return all(item.default is not MISSING or item.default_factory is not MISSING for item in fields(cls))


@pytest.mark.parametrize("name", [name for name, cls in CLASSES.items() if without_arguments(cls)])
def test_every_class_goes_by_its_own_name(name):
    made = CLASSES[name]()
    assert spell(made).startswith(f"{name}(")
    assert parse(spell(made), CLASSES) == parse(name, CLASSES) == parse(f" {name}() ", CLASSES) == made


def test_positional_nested_and_negative_arguments_are_read():
    assert parse("WindowPlanner(SlidingWindow(3, hold=7), 0.5)", CLASSES) == WindowPlanner(
        SlidingWindow(size=3, hold=7), 0.5
    )
    assert parse("RandomWindow(seed=-5)", CLASSES) == RandomWindow(seed=-5)
    assert parse("GRPO(clip=(0.1, 0.2))", CLASSES) == GRPO(clip=(0.1, 0.2))


def test_a_base_gives_what_is_not_named():
    config = from_dict({"steps": 12, "kernel": "DanceSDE"}, presets.flow_grpo())
    assert config == replace(presets.flow_grpo(), steps=12, kernel=DanceSDE(eta=0.3))


# Refusals

ATTACKS = [
    "__import__('os').system('touch /tmp/owned')",
    "__import__('os')",
    "Euler.__class__",
    "Euler().step",
    "FlowSDE(eta=__import__('os'))",
    "FlowSDE(eta=Euler.__init__)",
    "FlowSDE(eta=[x for x in (1,)][0])",
    "FlowSDE(eta=(lambda: 1)())",
    "FlowSDE(eta=1 if True else 2)",
    "FlowSDE(eta=2 ** 9)",
    "FlowSDE(eta=0.7 * 2)",
    "FlowSDE(eta=f'{1}')",
    "FlowSDE(eta=inf)",
    "FlowSDE(**{'eta': 0.7})",
    "FlowSDE(*[0.7])",
    "(FlowSDE)(FlowSDE)(eta=0.7)",
    "FlowSDE(eta=0.7).scaled(2)",
    "(eta := 0.7)",
    "FlowSDE(eta=0.7); Euler()",
    "import os",
    "open('/etc/passwd')",
    "FlowSDE(eta=0.7",
    "{[]: 1}",
    "",
    "\0",
    "(" * 500,
    "-" * 100_000 + "1",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_nothing_but_calls_of_known_classes_is_read(text):
    with pytest.raises(ValueError, match=r"expected|unknown|no setting|does not make"):
        parse(text, CLASSES)
    with pytest.raises(ValueError, match=r"expected|unknown|no setting|does not make"):
        from_dict({"kernel": text})


@given(st.text(st.sampled_from("FlowSDEulerGRPO(),=.[]{}*+-_:'\"\\0123456789eta clip\n"), max_size=30))
@examples(max_examples=400)
def test_any_text_is_read_or_refused(text):
    try:
        from_dict({"kernel": text})
    except ValueError:
        return
    assert isinstance(parse(text, CLASSES), Kernel)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learning_rat": 1e-4}, "unknown setting 'learning_rat'; did you mean 'learning_rate'"),
        ({"group_size": 12}, "unknown setting 'group_size'"),
        ({"kernel": "FlowSDEE(eta=0.7)"}, "unknown class 'FlowSDEE'.*did you mean 'FlowSDE'"),
        ({"kernel": "FlowSDE(etta=0.7)"}, "FlowSDE has no setting 'etta'; did you mean 'eta'"),
        ({"planner": "WindowPlanner(window=SlidingWindo(size=2))"}, "did you mean 'SlidingWindow'"),
        ({"objective": "PPO()"}, r"unknown class 'PPO'"),
        ({"solver": "zzz()"}, "known are: .*DPMpp2M.*Euler"),
    ],
)
def test_unknown_names_get_a_suggestion(values, words):
    with pytest.raises(ValueError, match=words):
        from_dict(values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", "25"),
        ("steps", 25.0),
        ("steps", True),
        ("steps", None),
        ("steps", [25]),
        ("steps", {"a": 1}),
        ("seed", {"a": 1}),
        ("seed", 1.5),
        ("learning_rate", "3e-4"),
        ("learning_rate", True),
        ("learning_rate", None),
        ("shared_noise", 1),
        ("shared_noise", "yes"),
        ("ema", "0.9"),
        ("ema", False),
        ("eval_steps", 2.5),
        ("eval_steps", {"a": 1}),
        ("kernel", "Euler()"),
        ("kernel", Euler()),
        ("kernel", 0.7),
        ("kernel", "0.7"),
        ("kernel", {"FlowSDE": 0.7}),
        ("kernel", None),
        ("solver", "FlowSDE(eta=0.7)"),
        ("tail_solver", "SlidingWindow()"),
        ("planner", "SlidingWindow(size=4)"),
        ("planner", "GRPO()"),
        ("objective", "DPMpp2M()"),
        ("objective", Policy),
        ("credit", "GRPO()"),
        ("credit", None),
        ("guards", ["Euler()"]),
        ("guards", [3]),
        ("guards", None),
        ("spread_floors", [1.0]),
        ("reward_weights", [1.0]),
        ("reward_weights", {"red": "1"}),
        ("reward_weights", {"red": True}),
        ("reward_weights", {"red": None}),
    ],
)
def test_a_value_of_another_kind_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=rf"^{name} expects .*, found "):
        from_dict({name: value})


def test_a_negative_weight_is_refused_with_the_name_of_the_reward():
    with pytest.raises(ValueError, match="weight of reward 'red' must be .* 0 or more, found -1"):
        from_dict({"reward_weights": {"red": -1}})


TABLE = [
    (int, 3, 3),
    (float, 3, 3.0),
    (float | None, None, None),
    (float | None, 1, 1.0),
    (bool, True, True),
    (str, "a", "a"),
    (Literal["a", "b"], "b", "b"),
    (str | tuple[str, ...], "a", "a"),
    (str | tuple[str, ...], ["a", "b"], ("a", "b")),
    (str | tuple[str, ...], [], ()),
    (Mapping[str, float], {"a": 1}, {"a": 1.0}),
    (dict[str, str], {"a": "b"}, {"a": "b"}),
    (Mapping[str, Any], {"a": [1]}, {"a": [1]}),
]
NOT_IN_TABLE = [
    (int, True, "a whole number"),
    (int, 3.0, "a whole number"),
    (int | None, "3", "a whole number or nothing"),
    (float, "x", "a number"),
    (float, True, "a number"),
    (bool, "yes", "true or false"),
    (bool, 1, "true or false"),
    (str, 5, "text"),
    (str | None, ["a"], "text or nothing"),
    (Literal["a", "b"], "c", "'a' or 'b'"),
    (Literal["a", "b"], [], "'a' or 'b'"),
    (str | tuple[str, ...], [1, 2], "text or a list of texts"),
    (str | tuple[str, ...], {"a": 1}, "text or a list of texts"),
    (Mapping[str, float], {"a": "1"}, "a table of numbers"),
    (Mapping[str, float], {1: 1.0}, "a table of numbers"),
    (dict[str, str], {"a": 5}, "a table of calls"),
    (dict[str, str], "a", "a table of calls"),
    (Mapping[str, Any], 5, "a table: its name in brackets"),
]


@pytest.mark.parametrize(("hint", "value", "held"), TABLE)
def test_a_value_of_the_kind_is_held_as_the_setting_holds_it(hint, value, held):
    found = checked("x", hint, value)
    assert found == held
    assert type(found) is type(held)


@pytest.mark.parametrize(("hint", "value", "words"), NOT_IN_TABLE)
def test_what_a_setting_expects_is_said_in_words(hint, value, words):
    with pytest.raises(ValueError, match="^x expects .*, found ") as error:
        checked("x", hint, value)
    assert words in str(error.value)


def test_objects_of_another_copy_of_the_package_are_made_again_here():
    """ComfyUI loads the pack under a name of its own, beside an installed copy."""
    spec = importlib.util.spec_from_file_location("another_home_window", windows_module.__file__)
    other = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = other
    try:
        spec.loader.exec_module(other)
    finally:
        del sys.modules[spec.name]
    foreign = other.SlidingWindow(size=3, hold=7)
    assert not isinstance(foreign, SlidingWindow)
    config = from_dict({"planner": WindowPlanner(window=foreign, tail_ratio=0.5)})
    assert config.planner == WindowPlanner(window=SlidingWindow(size=3, hold=7), tail_ratio=0.5)
    assert type(config.planner.window) is SlidingWindow


def test_an_object_of_an_unknown_class_is_still_refused():
    @dataclass(frozen=True)
    class Mine:
        size: int = 4

        def plan(self, iteration, prompt, sigmas):
            raise AssertionError

    with pytest.raises(ValueError, match=r"^planner expects a planner such as .*, found .*Mine"):
        from_dict({"planner": Mine()})


@pytest.mark.parametrize(
    "text",
    [
        "WindowPlanner(window=Euler())",
        "WindowPlanner(window=3)",
        "WindowPlanner(window=SlidingWindow(size='4'))",
        "WindowPlanner(window=SlidingWindow(size=2.5))",
        "WindowPlanner(tail_ratio='half')",
        "WindowPlanner(SlidingWindow(), 0.4, 3)",
        "FullPlanner(trained_share=None)",
        "DecayingWindow(rate='slow')",
    ],
)
def test_arguments_of_another_kind_are_refused(text):
    with pytest.raises(ValueError, match=r"found|does not make|expects"):
        from_dict({"planner": text})


def test_whole_numbers_serve_as_decimals():
    config = from_dict({"shift": 2, "learning_rate": 1, "reward_weights": {"red": 2}})
    assert [type(value) for value in (config.shift, config.learning_rate, config.reward_weights["red"])] == [float] * 3


# Published figures (arXiv 2507.21802 table 1 and scripts; 2505.05470; 2505.07818)


def plans(config, iterations=None):
    return [config.planner.plan(i, 0, config.sigmas()) for i in range(iterations or config.iterations)]


def test_mixgrpo():
    config = presets.mixgrpo()
    assert (config.iterations, config.steps, config.shift) == (300, 25, None)
    assert (config.images_per_prompt, config.prompts_per_iteration, config.updates) == (12, 32, 4)
    assert (config.kernel, config.solver, config.tail_solver) == (FlowSDE(eta=0.7), Euler(), Euler())
    assert (config.weight_decay, config.beta1, config.beta2, config.max_grad_norm) == (1e-4, 0.9, 0.999, 1.0)
    assert config.objective == GRPO(clip=None, adv_clip=5.0, kl=0.0)
    assert config.objective.clip_range(16 * 90 * 90) == pytest.approx((1e-4, 1e-4), rel=1e-9), "FLUX at 720 px"
    assert config.shared_noise
    assert config.ema is None
    made = plans(config)
    assert all(len(plan.steps) == 25 and plan.trained == plan.stochastic and len(plan.trained) == 4 for plan in made)
    assert [plan.trained[0] for plan in made] == [i // 25 for i in range(300)]
    assert made[299].trained == (11, 12, 13, 14), "steps 15 to 24 are never optimised"
    published = [1, 0.9863, 0.9718, 0.9565, 0.9403, 0.9231, 0.9048, 0.8852, 0.8644, 0.8421, 0.8182, 0.7925, 0.7647]
    published += [0.7347, 0.7021, 0.6667, 0.6279, 0.5854, 0.5385, 0.4865, 0.4286, 0.3636, 0.2903, 0.2069, 0.1111, 0]
    assert config.sigmas().tolist() == pytest.approx(published, abs=5e-5)


def test_flash_runs_16_evaluations_per_image_and_its_window_moves_every_20_iterations():
    config = presets.mixgrpo_flash()
    assert isinstance(config.tail_solver, DPMpp2M)
    assert isinstance(config.solver, Euler)
    made = plans(config)
    assert [plan.trained[0] for plan in made] == [i // 20 for i in range(300)]
    assert len(made[0].steps) == 4 + 9  # 21 remaining steps, 0.4 of them
    evaluations = sum(len(plan.steps) for plan in made) / 300
    assert round(evaluations) == 17  # the paper's 16 has the tail a step shorter (its grid counts points)
    assert evaluations - 1 == pytest.approx(15.6, abs=0.5)
    slower = replace(config, planner=replace(config.planner, window=SlidingWindow(size=4, hold=25)))
    assert sum(len(plan.steps) for plan in plans(slower)) / 300 == pytest.approx(16.08, abs=0.005)  # its formula


def test_flash_star_stays_at_the_start_and_runs_9_evaluations():
    config = presets.mixgrpo_flash_star()
    assert {plan.trained for plan in plans(config)} == {(0, 1, 2, 3)}
    assert {len(plan.steps) for plan in plans(config)} == {4 + 5}  # ceil(21 x 0.2); the paper counts 8
    assert isinstance(config.tail_solver, DPMpp2M)
    assert all(float(plan.sigmas[-1]) == 0 for plan in plans(config))


def test_dance_grpo_trains_14_of_25_steps_and_samples_all_but_the_last_by_the_sde():
    config = presets.dance_grpo()
    assert config.kernel == DanceSDE(eta=0.3)
    made = plans(config, 50)
    assert {len(plan.steps) for plan in made} == {25}
    assert {len(plan.trained) for plan in made} == {14}
    assert {plan.stochastic for plan in made} == {tuple(range(24))}
    assert len({plan.trained for plan in made}) > 40, "another random share in every iteration"
    assert {step for plan in made for step in plan.trained} == set(range(24))
    prompts = {config.planner.plan(0, prompt, config.sigmas()).trained for prompt in range(20)}
    assert len(prompts) == 20, "and for every prompt"


def test_flow_grpo_trains_every_step_but_the_last():
    config = presets.flow_grpo()
    assert (config.steps, config.images_per_prompt, config.kernel) == (10, 24, FlowSDE(eta=0.7))
    assert not config.shared_noise
    assert config.ema == 0.9
    assert config.objective.kl == 1e-3
    assert {plan.trained for plan in plans(config, 5)} == {tuple(range(9))}


def test_flow_grpo_fast_has_a_random_window_of_3_within_the_first_5_steps():
    config = presets.flow_grpo_fast()
    assert (config.steps, config.kernel, config.objective.kl) == (10, FlowCPS(eta=0.8), 0.0)
    assert {plan.trained for plan in plans(config)} == {(0, 1, 2), (1, 2, 3), (2, 3, 4)}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_ends_at_zero_and_never_trains_the_last_step(name):
    for plan in plans(getattr(presets, name)()):
        assert float(plan.sigmas[-1]) == 0
        assert len(plan.steps) - 1 not in plan.stochastic


def test_every_setting_is_explained():
    explained = TrainConfig.__doc__.split("Attributes:")[1]
    assert [item.name for item in fields(TrainConfig) if item.name not in explained] == []
