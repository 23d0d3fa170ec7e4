"""One mistake is one message, at the input at fault: as a browser gets it from the real server."""

import pytest
from comfy_client import Graph, Refused


def refused(client, graph):
    """Node, input and sentence of every error of the refusal."""
    with pytest.raises(Refused) as refusal:
        client.queue(graph)
    return [
        (node["class_type"].removeprefix("MixGRPO_"), error["extra_info"].get("input_name"), error["details"])
        for node in refusal.value.node_errors.values()
        for error in node["errors"]
    ]


def shown(graph, node, output=1):
    graph.add("PreviewAny", source=node[output])
    return graph


SETTINGS = {
    "preset": "MixGRPO",
    "model_family": "SD3.5",
    "memory": "24 GB",
    "iterations": 0,
    "images_per_prompt": 0,
    "prompts_per_iteration": 0,
    "learning_rate": 0.0,
    "rank": 0,
    "seed": 0,
    "details": "from preset",
    "more_settings": "",
}
DETAILS = {"details": "set by hand", "details.width": 0, "details.height": 0, "details.steps": 0, "details.cfg": 0.0}


@pytest.mark.parametrize(
    ("values", "at", "words"),
    [
        ({"images_per_prompt": 1}, "images_per_prompt", "at least 2"),
        ({"iterations": -3}, "iterations", "lies in"),
        ({"preset": "MixGRPO 2"}, "preset", "expected one of"),
        ({"seed": -1}, "seed", "lies in"),
        ({"more_settings": "credit = 5"}, "more_settings", "line 1"),
        ({**DETAILS, "details.width": 100}, "details.width", "multiple of 16"),
        ({**DETAILS, "details.steps": 3}, "details.steps", "steps"),
        ({**DETAILS, "details.cfg": 0.5}, "details.cfg", "1 (off) or more"),
    ],
)
def test_a_wrong_setting(client, values, at, words):
    graph = Graph()
    errors = refused(client, shown(graph, graph.add("MixGRPO_TrainerSettings", **{**SETTINGS, **values})))
    assert [error[:2] for error in errors] == [("TrainerSettings", at)], errors
    assert words in errors[0][2]


PROMPTS = {
    "prompts": "a\nb\nc",
    "file": "none",
    "held_out_prompts": "",
    "held_out_share": 0.1,
    "seed": 0,
    "negative": "",
}


@pytest.mark.parametrize(
    ("values", "at"),
    [
        ({"prompts": ""}, "prompts"),
        ({"file": "gone.txt"}, "file"),
        ({"held_out_prompts": "a"}, "held_out_prompts"),
        ({"held_out_share": 1.0}, "held_out_share"),
    ],
)
def test_a_wrong_prompt_set(client, values, at):
    graph = Graph()
    demo = graph.add("MixGRPO_DemoModel")
    node = graph.add("MixGRPO_PromptSet", clip=demo[1], **{**PROMPTS, **values})
    errors = refused(client, shown(graph, node))
    assert [error[:2] for error in errors] == [("PromptSet", at)], errors


@pytest.mark.parametrize(
    ("values", "at"),
    [({"size": 30}, "size"), ({"start": 24}, "start"), ({"start": 3, "strategy": "slide"}, "start")],
)
def test_a_window_that_does_not_fit(client, values, at):
    graph = Graph()
    given = {"start": 0, "size": 4, "steps": 25, "strategy": "fixed", **values}
    if given["strategy"] == "slide":
        given |= {"strategy.stride": 1, "strategy.hold": 25, "strategy.last_start": -1, "strategy.wrap": False}
    errors = refused(client, shown(graph, graph.add("MixGRPO_Window", **given), 0))
    assert [error[:2] for error in errors] == [("Window", at)], errors


@pytest.mark.parametrize(
    ("node", "values", "at"),
    [
        ("AestheticReward", {"head": "gone.pth", "file": "gone.safetensors", "weight": 1.0}, {"head"}),
        ("ClipReward", {"kind": "PickScore", "file": "gone.safetensors", "weight": 1.0}, {"file"}),
        ("Sampler", {"kernel": "FlowCPS", "eta": 1.5}, {"eta"}),
        ("PaletteReward", {"colours": "red"}, {"colours"}),
        ("HumanVote", {"images_shown": 1}, {"images_shown"}),
    ],
)
def test_other_nodes(client, node, values, at):
    graph = Graph()
    errors = refused(client, shown(graph, graph.add(f"MixGRPO_{node}", **{**defaults(client, node), **values}), 0))
    assert {error[1] for error in errors} == at and len(errors) == 1, errors


def defaults(client, node):
    """What the widgets of a node hold at first."""
    about = client.get(f"/object_info/MixGRPO_{node}")[f"MixGRPO_{node}"]["input"]
    found = {}
    for name, (kind, *more) in {**about.get("required", {}), **about.get("optional", {})}.items():
        options = more[0] if more else {}
        if "default" in options:
            found[name] = options["default"]
        elif options.get("options") or isinstance(kind, list):
            found[name] = (options.get("options") or kind)[0]
    return found


def test_two_mistakes_are_two_messages(client):
    graph = Graph()
    settings = graph.add("MixGRPO_TrainerSettings", **{**SETTINGS, "images_per_prompt": 1})
    window = graph.add("MixGRPO_Window", start=0, size=30, steps=25, strategy="fixed")
    shown(graph, settings)
    shown(graph, window, 0)
    assert sorted(error[:2] for error in refused(client, graph)) == [
        ("TrainerSettings", "images_per_prompt"),
        ("Window", "size"),
    ]


def test_a_workflow_that_is_queued_in_part_says_its_mistake_once_too(client):
    graph = Graph()
    wrong = graph.add("MixGRPO_TrainerSettings", **{**SETTINGS, "images_per_prompt": 1})
    shown(graph, wrong)
    shown(graph, graph.add("EmptyImage", width=16, height=16, batch_size=1, color=0), 0)
    run = client.queue(graph)
    assert run.wait().end == "success"
    inputs = [error["extra_info"]["input_name"] for error in run.left_out[wrong.id]["errors"]]
    assert inputs == ["images_per_prompt"]


def test_errors_of_other_packs_are_left_alone(client):
    graph = Graph()
    graph.add("PreviewImage", images=graph.add("EmptyImage", width=-1, height=-1, batch_size=1, color=0)[0])
    assert {error[:2] for error in refused(client, graph)} == {("EmptyImage", "width"), ("EmptyImage", "height")}
