"""The sampler, the window and its plan over HTTP, in workflows made of ComfyUI's own nodes."""

import io

import numpy as np
import pytest
from comfy_client import Graph, Refused
from graphs import sampling
from PIL import Image


def picture(client, run, node):
    return np.asarray(Image.open(io.BytesIO(client.view(run.outputs[node.id]["images"][0]))).convert("RGB"), np.float32)


INPUTS = {"window_start": 0, "window_size": 0, "kernel": "FlowSDE", "eta": 0.7, "solver": "Euler", "tail_ratio": 1.0}
INPUTS |= {"window_iteration": 0, "noise_seed_offset": 0}
FIXED = {"start": 2, "size": 3, "steps": 8, "strategy": "fixed"}


def sample(client, sampler, **inputs):
    graph, shown = sampling(sampler, **inputs)
    return picture(client, client.run(graph), shown)


def test_sampling_with_a_window_in_custom_sampling(client):
    plain = sample(client, None)
    assert np.array_equal(plain, sample(client, INPUTS))
    integers = sample(client, INPUTS | {"window_start": 2, "window_size": 3})
    assert np.abs(integers - plain).mean() > 1
    assert np.array_equal(integers, sample(client, INPUTS, window=FIXED))


def test_what_cannot_be_is_refused_before_the_queue_runs(client):
    with pytest.raises(Refused, match="can start at 4 at most"):
        sample(client, INPUTS, window=FIXED | {"start": 7})
    with pytest.raises(Refused, match="begins at step 0"):
        sample(client, INPUTS, window=FIXED | {"strategy": "random", "strategy.seed": 0, "strategy.last_start": -1})
    with pytest.raises(Refused, match="FlowCPS takes an eta of 1 at most"):
        sample(client, INPUTS | {"kernel": "FlowCPS", "eta": 1.5})


def test_a_plan_is_shown_in_its_node(client):
    graph = Graph()
    sliding = {"strategy.stride": 1, "strategy.hold": 5, "strategy.wrap": False, "strategy.last_start": -1}
    window = graph.add("MixGRPO_Window", start=0, size=2, steps=8, strategy="slide", **sliding)
    numbers = {"steps": 8, "iterations": 20, "images_per_prompt": 4, "prompts_per_iteration": 1}
    plan = graph.add("MixGRPO_WindowPlan", window=window[0], tail_ratio=1.0, shift=3.0, **numbers)
    text = graph.add("PreviewAny", source=plan[1])
    run = client.run(graph)
    assert picture(client, run, plan).shape[2] == 3
    assert "step 0 in 5, steps 1 to 3 in 10, step 4 in 5." in run.outputs[text.id]["text"][0]
