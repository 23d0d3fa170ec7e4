"""The Window node: the core's windows from its widgets, through the host's own validation."""

import asyncio
import re

import pytest
import torch
from mixgrpo_pack.mixgrpo_core import DecayingWindow, FrozenWindow, RandomWindow, SlidingWindow
from mixgrpo_pack.nodes.sampling.window import WindowNode, strategies

OPTIONS = {option.key: {item.id: item.default for item in option.inputs} for option in strategies()}


def window(kind, start=0, size=4, steps=25, **options):
    """The node's window for a strategy's default inputs but for ``options``, with the names the host passes."""
    strategy = {"strategy": kind, **OPTIONS[kind], **options}
    with torch.inference_mode():
        return WindowNode.execute(start=start, size=size, steps=steps, strategy=strategy).args[0]


def starts(window, iterations=150, steps=25):
    return [window.at(i, steps).start for i in range(iterations)]


def test_the_defaults_are_the_papers_window():
    assert window("slide") == SlidingWindow(size=4, stride=1, hold=25)
    assert starts(window("slide"))[24:26] == [0, 1]


@pytest.mark.parametrize(
    "made, expected",
    [
        ({"kind": "slide", "size": 3, "stride": 2, "hold": 5, "wrap": True}, SlidingWindow(3, 2, 5, True)),
        ({"kind": "slide", "last_start": 0}, SlidingWindow(last=0)),
        ({"kind": "random", "size": 2, "seed": 3, "last_start": 7}, RandomWindow(2, 3, 7)),
        ({"kind": "fixed", "start": 6, "size": 5}, FrozenWindow(5, 6)),
        ({"kind": "slow start", "hold": 9, "shortest": 2, "last_start": 8}, DecayingWindow(hold=9, shortest=2, last=8)),
        ({"kind": "slow start", "rate": 0.1, "threshold": 3}, DecayingWindow(rate=0.1, threshold=3)),
    ],
)
def test_widgets_make_the_cores_windows(made, expected):
    assert window(**made) == expected


def test_slow_start_stays_longer_at_the_start():
    places = starts(window("slow start", hold=20), 300)
    stays = [places.count(start) for start in range(8)]
    assert stays[0] == 20 and stays == sorted(stays, reverse=True) and stays[7] < 16


def test_a_stay_of_rate_0_is_even_and_not_endless():
    assert window("slow start", rate=0.0).rate is None


@pytest.fixture(scope="module")
def host():
    """The host's validation with this node known to it."""
    import execution

    import nodes

    class Sink:
        """Ends a workflow: takes a window."""

        @classmethod
        def INPUT_TYPES(cls):
            return {"required": {"window": ("MIXGRPO_WINDOW",)}}

        RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "run", True, "test"

        def run(self, window):
            return ()

    schema = WindowNode.GET_SCHEMA()
    nodes.NODE_CLASS_MAPPINGS |= {schema.node_id: WindowNode, "Sink": Sink}
    yield execution
    del nodes.NODE_CLASS_MAPPINGS[schema.node_id], nodes.NODE_CLASS_MAPPINGS["Sink"]


def messages(host, **inputs):
    """What the host says before it runs a workflow with this node: one text, empty when it takes it."""
    kind = inputs.get("strategy", "slide")
    values = {"start": 0, "size": 4, "steps": 25, "strategy": kind}
    values |= {f"strategy.{name}": value for name, value in OPTIONS[kind].items()}
    prompt = {
        "1": {"class_type": "MixGRPO_Window", "inputs": values | inputs},
        "2": {"class_type": "Sink", "inputs": {"window": ["1", 0]}},
    }
    valid, _, _, errors = asyncio.run(host.validate_prompt("test", prompt, None))
    found = [error["details"] for node in errors.values() for error in node["errors"]]
    assert valid == (not found)
    return " ".join(found)


@pytest.mark.parametrize("kind", OPTIONS)
def test_the_host_takes_every_strategy_with_its_own_inputs(host, kind):
    assert messages(host, strategy=kind) == ""


def test_the_host_passes_the_chosen_strategys_inputs(host):
    """What the host hands to ``execute`` is the nested form that this file's other tests use."""
    values = {"start": 0, "size": 4, "steps": 25, "strategy": "random", "strategy.seed": 8, "strategy.last_start": -1}
    data, _, v3_data = host.get_input_data(values, WindowNode, "1")
    result = asyncio.run(
        host._async_map_node_over_list("test", "1", WindowNode, data, WindowNode.FUNCTION, v3_data=v3_data)
    )
    assert result[0].args[0] == RandomWindow(4, 8)


@pytest.mark.parametrize(
    "inputs, words",
    [
        ({"size": 25}, "does not fit 25 sampling steps.*at most 24"),
        ({"strategy": "fixed", "start": 21}, "can start at 20 at most"),
        ({"start": 3}, "begins at step 0, found start = 3: set start to 0, or the strategy to 'fixed'"),
        ({"strategy": "slow start", "start": 1}, "begins at step 0"),
        ({"size": 4, "steps": 4}, "does not fit 4 sampling steps"),
    ],
)
def test_a_window_that_cannot_be_is_refused_before_the_queue_runs(host, inputs, words):
    assert re.search(words, messages(host, **inputs))
    kind = inputs.get("strategy", "slide")
    with pytest.raises(ValueError, match=words):  # also where the values come from other nodes
        window(kind, **{name: value for name, value in inputs.items() if name != "strategy"})


@pytest.mark.parametrize("inputs", [{"size": 24}, {"strategy": "fixed", "start": 20}])
def test_the_largest_window_that_fits_is_taken(host, inputs):
    assert messages(host, **inputs) == ""


def test_linked_values_are_left_to_the_run():
    assert WindowNode.validate_inputs(start=3, steps=25, strategy={"strategy": "slide"}) is True
