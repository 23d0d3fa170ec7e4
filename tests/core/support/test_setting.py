"""Settings that describe themselves: ranges that are enforced, help in the docstring, what may change."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import get_args, get_type_hints

import pytest

from mixgrpo_core import TrainConfig
from mixgrpo_core.cli.model_config import ModelConfig
from mixgrpo_core.cli.settings import PromptConfig, RunConfig
from mixgrpo_core.runs.settings_file import MAY_CHANGE
from mixgrpo_core.support.setting import described, require_ranges, setting, settings_of

NUMBERS = [
    (name, told)
    for name, told in settings_of(TrainConfig)
    if told.range and not isinstance(getattr(TrainConfig(), name), Mapping)
]


@described
@dataclass(frozen=True)
class Sized:
    """Sizes."""

    size: int = setting(3, "How large.", least=1, why="an empty one is none")
    share: float | None = setting(None, "How much.", above=0, below=1, such_as="0.5")
    each: Mapping[str, float] = setting(make=dict, help="By name.", least=0, each="the size of {}")

    def __post_init__(self):
        require_ranges(self)


@pytest.mark.parametrize(
    "values, words",
    [
        ({"size": 0}, "size must be at least 1, found 0: an empty one is none"),
        ({"share": 1.0}, "share must be above 0 and below 1, such as 0.5, found 1.0"),
        ({"share": math.nan}, "share must be above 0 and below 1, such as 0.5, found nan"),
        ({"each": {"a": -1}}, "the size of 'a' must be a finite number of 0 or more, found -1"),
        ({"each": {"a": math.inf}}, "the size of 'a' must be a finite number of 0 or more, found inf"),
    ],
)
def test_a_number_out_of_its_range_is_refused_in_words(values, words):
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        Sized(**values)


def test_the_docstring_tells_the_settings():
    assert Sized.__doc__.endswith("Attributes:\n    size: How large.\n    share: How much.\n    each: By name.")


@pytest.mark.parametrize("cls", [TrainConfig, ModelConfig, PromptConfig, RunConfig])
def test_every_setting_says_what_it_is(cls):
    told = dict(settings_of(cls))
    assert [item.name for item in fields(cls) if not told[item.name].help.endswith(".")] == []


@pytest.mark.parametrize("name, told", NUMBERS)
def test_every_range_of_a_run_is_enforced_at_its_edge(name, told):
    edge = told.least if told.least is not None else told.above
    whole = int in (get_type_hints(TrainConfig)[name], *get_args(get_type_hints(TrainConfig)[name]))
    outside = [math.nan, edge if told.least is None else edge - (1 if whole else 1e-6)]
    outside += [] if told.below is None else [told.below]
    for value in outside:
        with pytest.raises(ValueError, match=f"^{name} must be "):
            replace(TrainConfig(), **{name: value})
    if told.least is not None and name != "steps":  # one step has none to train: the planner says so
        assert getattr(replace(TrainConfig(), **{name: type(getattr(TrainConfig(), name) or edge)(edge)}), name) == edge


def test_what_may_change_on_resume_is_told_by_the_settings():
    assert set(MAY_CHANGE) == {
        *("iterations", "rollout_batch", "decode_batch", "update_batch", "guards", "checkpoint_every"),
        *("checkpoint_minutes", "keep", "decode_beside"),
    }
