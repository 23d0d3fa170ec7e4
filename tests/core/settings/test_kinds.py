"""Which classes there are of each port: the rooms' own lists, and classes that are registered."""

import re
from dataclasses import dataclass, fields, replace
from types import ModuleType

import pytest

import mixgrpo_core
from mixgrpo_core import TrainConfig, advantages, objectives, sampling
from mixgrpo_core.evaluation import guards
from mixgrpo_core.objectives import GRPO, Objective, StepWeight
from mixgrpo_core.rewards import Reward, StatelessReward, networks
from mixgrpo_core.rewards.pixels import Goal, Measure
from mixgrpo_core.sampling import FlowSDE, Kernel, Window
from mixgrpo_core.settings import kinds, prompt_sources
from mixgrpo_core.settings.config import from_dict, to_dict
from mixgrpo_core.settings.kinds import (
    REWARDS,
    SETTINGS,
    classes_in,
    guests_of,
    lacking,
    missing_guests,
    register,
    summary,
)

ROOMS = (sampling, advantages, objectives, guards, prompt_sources, networks)


@pytest.fixture(autouse=True)
def nobody_yet(monkeypatch):
    monkeypatch.setattr(kinds, "_GUESTS", {})
    monkeypatch.setattr(kinds, "_FINDERS", [])


@dataclass(frozen=True)
class Mine(GRPO):
    """Mine. As GRPO."""

    extra: float = 1.0


@dataclass(frozen=True)
class Plain:
    """A window that derives from nothing."""

    size: int = 2

    def at(self, iteration, steps):
        return range(2)

    def reach(self, steps):
        return range(2)


def test_what_a_room_exports_can_be_spelled_and_nothing_else():
    exported = {name for room in ROOMS for name in room.__all__}
    names = {name for name, cls in SETTINGS.by_name().items() if SETTINGS.ports_of(cls)}
    assert names < exported
    assert {"FlowSDE", "SlidingWindow", "GRPO", "BatchNormalised", "PixelDrift", "Shuffled", "VelocityKL"} <= names
    assert not {"Trajectory", "RolloutSettings", "ScoredGroup", "Gaussian", "Kernel", "StepPlan", "UpdateStats"} & names


def test_a_class_is_of_the_ports_whose_members_it_has():
    assert [cls.__name__ for cls in SETTINGS.of(Kernel)] == [
        "FlowSDE",
        "DanceSDE",
        "FlowCPS",
        "PreciseSDE",
        "PreciseDanceSDE",
    ]
    assert {"Even", "FlatGradient", "GuardWeight"} <= {cls.__name__ for cls in SETTINGS.of(StepWeight)}
    assert {"More", "Less", "Near"} == {cls.__name__ for cls in REWARDS.of(Goal)}
    assert {"Brightness", "Palette"} <= {cls.__name__ for cls in REWARDS.of(Measure)}, "though both are called"
    assert {"PixelReward", "HumanVote", "Gated"} <= {cls.__name__ for cls in REWARDS.of(Reward)}
    assert not {"FunctionReward", "StatelessReward"} & REWARDS.by_name().keys(), "a function has no text"


def test_the_parts_of_classes_can_be_spelled_with_them():
    config = TrainConfig(objective=objectives.AWM())
    assert "Lag(" in to_dict(config)["objective"]
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize("port", SETTINGS.ports + REWARDS.ports)
def test_every_class_is_told_in_a_sentence(port):
    kind = SETTINGS if port in SETTINGS.ports else REWARDS
    for cls in kind.of(port):
        assert summary(cls).endswith(".") and 10 < len(summary(cls)) < 200, cls


def test_a_sentence_ends_where_it_ends():
    class Told:
        """It is so, e.g. by 0.5 (sec. 4.1).

        And more.
        """

    assert summary(Told) == "It is so, e.g. by 0.5 (sec. 4.1)."
    assert summary(Mine) == "Mine."


def test_a_registered_class_is_spelled_and_read_like_ours():
    with pytest.raises(ValueError, match="unknown class 'Mine'"):
        from_dict({"objective": "Mine()"})
    mixgrpo_core.register(Mine, Plain)
    config = from_dict({"objective": "Mine(extra=2)", "planner": "WindowPlanner(Plain(size=3))"})
    assert config.objective == Mine(extra=2) and config.planner.window == Plain(size=3)
    assert from_dict(to_dict(config)) == config
    assert SETTINGS.of(Objective)[-1] is Mine and SETTINGS.of(Window)[-1] is Plain
    assert "Mine" not in REWARDS.by_name()
    assert guests_of(map(str, to_dict(config).values())) == {"Mine": __name__, "Plain": __name__}
    assert guests_of(["a prompt of Mine ("]) == {}, "no call"


def test_a_class_that_is_defined_again_takes_the_place_of_the_former():
    register(Mine, Mine)
    again = dataclass(frozen=True)(type("Mine", (GRPO,), {"__module__": Mine.__module__}))
    register(again)
    assert SETTINGS.of(Objective)[-1] is again


@dataclass(frozen=True)
class Half(Objective):
    """Writes no terms."""

    def loss(self, table, cells):
        return table


@dataclass(frozen=True)
class NoReach:
    size: int = 2

    def at(self, iteration, steps):
        return range(2)


@dataclass(frozen=True)
class Nothing:
    colour: str = "red"


class NoDataclass(StatelessReward):
    def __call__(self, batch):
        return batch


@dataclass(frozen=True)
class Torn(Kernel):
    eta: float = 0.5


@pytest.mark.parametrize(
    "cls, words",
    [
        (Half, "Half is not yet an objective: terms must be written"),
        (NoReach, "NoReach is not yet a window: reach must be written"),
        (Nothing, "Nothing is of no port: derive it from one, such as Objective, Reward or Window"),
        (NoDataclass, "NoDataclass cannot be written into a run file: make it a frozen dataclass"),
        (Torn, "Torn is not yet a kernel: coefficients must be written"),
        (
            dataclass(frozen=True)(type("GRPO", (GRPO,), {"__module__": "elsewhere"})),
            "the name GRPO is taken by a class of mixgrpo_core: give the class of elsewhere another",
        ),
    ],
)
def test_what_cannot_be_registered_is_said_in_one_sentence(cls, words):
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        register(cls)
    assert cls.__name__ not in kinds._GUESTS


def test_two_strangers_may_not_share_a_name():
    register(Mine)
    with pytest.raises(ValueError, match=f"the name Mine is taken by a class of {__name__}"):
        register(dataclass(frozen=True)(type("Mine", (GRPO,), {"__module__": "elsewhere"})))


def test_a_class_of_another_module_is_not_the_one_that_was_noted():
    register(Mine)
    noted = guests_of(["Mine()"])
    assert missing_guests(noted) == {}
    assert missing_guests({"Mine": "elsewhere"}) == {"Mine": "elsewhere"}


def test_lists_are_read_as_the_tuples_that_are_written():
    config = from_dict({"objective": "GCPO(chunks=[2, 2])"})
    assert config.objective.chunks == (2, 2)
    assert from_dict(to_dict(config)) == config


def test_a_window_that_does_not_tell_its_reach_may_train_any_step_but_the_last():
    class Untold:
        size = 1

        def at(self, iteration, steps):
            return range(iteration % (steps - 1), iteration % (steps - 1) + 1)

    assert sampling.WindowPlanner(window=Untold()).candidates(TrainConfig(steps=5).sigmas()) == (0, 1, 2, 3)


def test_a_member_that_is_only_declared_is_missing_and_one_that_returns_a_number_is_not():
    assert lacking(Half, Objective) == ["terms"]
    assert lacking(type("Weight", (StepWeight,), {}), StepWeight) == [], "all of its members have defaults"
    assert "sampled_by" not in lacking(Half, Objective), "None is what it may return"


def test_of_a_module_only_its_own_public_classes_count():
    module = ModuleType("somewhere")
    made = {"Own": "somewhere", "Foreign": "elsewhere", "_Hidden": "somewhere"}
    for name, place in made.items():
        setattr(module, name, dataclass(frozen=True)(type(name, (GRPO,), {"__module__": place})))
    module.Helper = dataclass(frozen=True)(type("Helper", (), {"__module__": "somewhere"}))
    assert classes_in(module) == [module.Own]


def test_a_base_of_others_may_leave_something_to_them():
    module = ModuleType("somewhere")
    place = {"__module__": "somewhere"}
    module.Base = dataclass(frozen=True)(type(Objective)("Base", (Objective,), {**place, "loss": Half.loss}))
    with pytest.raises(ValueError, match="Base is not yet an objective: terms must be written"):
        classes_in(module)
    module.Whole = dataclass(frozen=True)(type(Objective)("Whole", (module.Base,), {**place, "terms": Half.loss}))
    assert classes_in(module) == [module.Whole]


def test_finders_are_asked_whenever_it_matters():
    kinds.look_in(lambda: register(Mine))
    assert from_dict({"objective": "Mine()"}).objective == Mine()


def test_an_object_of_a_strangers_class_must_be_registered():
    config = replace(TrainConfig(), objective=Mine())
    with pytest.raises(ValueError, match="objective expects an objective such as"):
        from_dict({"objective": Mine()})
    assert to_dict(config)["objective"].startswith("Mine(")


@pytest.mark.parametrize(
    "text, words",
    [
        ("WindowPlanner(window='x')", "window must be a window"),
        ("AWM(lag=3)", "expected lag of AWM to be a call of Lag, found 3"),
        ("GRPO(step_weight=Euler())", "expected step_weight of GRPO to be a call of Even, FlatGradient, GuardWeight"),
        ("GRPO(kl=True)", "expected kl of GRPO to be a number, found True"),
    ],
)
def test_parts_of_settings_must_fit_too(text, words):
    name = "planner" if text.startswith("Window") else "objective"
    with pytest.raises(ValueError, match=words):
        from_dict({name: text})


def test_a_label_is_of_the_canvas_and_no_setting():
    assert FlowSDE.label == "Flow-SDE" and "label" not in {item.name for item in fields(FlowSDE)}
