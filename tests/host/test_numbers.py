"""Every number input of every node, with a number that came by wire: what is not finite is refused by its name."""

import json
import math
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
import torch
from comfy_api.latest import io
from mixgrpo_pack.mixgrpo_core import RandomWindow, TrainConfig, WindowPlanner
from mixgrpo_pack.mixgrpo_core.settings.config import from_dict, to_dict
from mixgrpo_pack.mixgrpo_core.settings.prompt_sources import Shuffled
from mixgrpo_pack.mixgrpo_core.settings.prompt_sources.port import PromptDraw
from mixgrpo_pack.mixgrpo_core.support.seeds import derive_seed, seeded_noise
from mixgrpo_pack.nodes import NODES
from mixgrpo_pack.nodes.settings.prompt_set import split


def numbers() -> Iterator:
    """Node, input, and the dynamic choice that shows the input, where it is behind one."""
    for cls in NODES:
        for item in cls.define_schema().inputs:
            shown = [(item, None)]
            if isinstance(item, io.DynamicCombo.Input):
                shown = [(inner, (item.id, option.key)) for option in item.options for inner in option.inputs]
            for inner, behind in shown:
                if isinstance(inner, io.Float.Input | io.Int.Input):
                    words = "-".join((cls.__name__, *(behind or ()), inner.id))
                    yield pytest.param(cls, inner, behind, id=words)


def usual(item: io.Input) -> object:
    if isinstance(item, io.DynamicCombo.Input):
        first = item.options[0]
        return {item.id: first.key, **{inner.id: usual(inner) for inner in first.inputs}}
    if isinstance(item, io.Combo.Input):
        return item.default if item.default is not None else (item.options or [""])[0]
    return item.default if isinstance(item, io.WidgetInput) else Mock()  # what a wire carries: it is not reached


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("cls, item, behind", numbers())
def test_a_number_that_is_not_finite_is_refused(cls, item, behind, value):
    inputs = [other for other in cls.define_schema().inputs if not other.optional or isinstance(other, io.WidgetInput)]
    values = {other.id: usual(other) for other in inputs}
    if behind is None:
        values[item.id] = value
    else:
        name, key = behind
        [dynamic] = [other for other in inputs if other.id == name]
        [option] = [found for found in dynamic.options if found.key == key]
        values[name] = {name: key, **{inner.id: usual(inner) for inner in option.inputs}, item.id: value}
    with pytest.raises(ValueError, match=item.id):
        cls.execute(**values)


def seeds():
    return [given for given in numbers() if "seed" in given.values[1].id]


def test_every_node_with_a_seed_is_here():
    assert len(seeds()) >= 5


@pytest.mark.parametrize("cls, item, behind", seeds())
def test_a_seed_of_the_hosts_whole_range_can_be_wired_in(cls, item, behind):
    """As into the host's own KSampler."""
    import nodes as host

    _, asked = host.KSampler.INPUT_TYPES()["required"]["seed"]
    assert (item.min, item.max) == (asked["min"], asked["max"]) == (0, 2**64 - 1)


def test_the_largest_seed_goes_through_settings_windows_splits_and_noise():
    largest = 2**64 - 1
    drawn = [seeded_noise(seed, (4,)) for seed in (largest, largest - 1, 2**53, 2**53 + 1)]
    assert not any(torch.equal(one, other) for place, one in enumerate(drawn) for other in drawn[:place])
    config = TrainConfig(seed=largest, planner=WindowPlanner(window=RandomWindow(size=2, seed=largest)))
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    assert Shuffled().visited(PromptDraw(seed=largest, iteration=0, count=2, pool=5), 3)
    prompts = [f"prompt {number}" for number in range(20)]
    assert split(prompts, 0.25, largest) != split(prompts, 0.25, largest - 1)
    derive_seed(largest, "words")
