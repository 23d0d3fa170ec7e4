"""Every example workflow, as the real frontend sends it: it says what its story tells, and it runs.

Where a story needs a model of gigabytes, an empty file of its name stands in: all of the workflow is valid, and the
loader is the first to complain.
"""

import io
import json
from functools import partial
from itertools import pairwise

import pytest
from comfy_client import Client, Refused
from frontend import load
from PIL import Image
from workflows.page import EXAMPLES, place_files
from workflows.stories import (
    DEMO_LORA,
    MODEL_FILES,
    STORIES,
    TASTE_LORA,
    VOTED_RUN,
    align_on_votes,
    compare,
    first_lora,
    flux,
    merge_loras,
    score_and_rank,
    sd35,
    window_sampling,
    your_taste,
)

BYPASSED = 4
QUICK = {"iterations": 2, "images_per_prompt": 4, "prompts_per_iteration": 2, "learning_rate": 5e-4}
"""Settings of a training of seconds, with too few images for a rate that sets itself."""


@pytest.fixture(scope="module")
def nodes(host):
    place_files(host.base / "models", MODEL_FILES)
    return Client(host.address).get("/object_info")


def sent_by(page, story, bypass=True):
    workflow = json.loads((EXAMPLES / f"{story.name}.json").read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        node["mode"] = node["mode"] if bypass else 0
    load(page, workflow)
    return page.evaluate("async () => (await app.graphToPrompt()).output")


@pytest.fixture
def sent(nodes, open_page):
    """A function that gives what Run sends for a story's file."""
    return partial(sent_by, open_page())


def ids(story):
    """The frontend counts nodes in the order in which they are told; by key."""
    return {node["key"]: str(number) for number, node in enumerate(story.nodes, 1)}


def values(graph):
    """Inputs without wires, of the nodes by id."""
    return {
        node: {name: value for name, value in told["inputs"].items() if not isinstance(value, list)}
        for node, told in graph.items()
    }


def expected(groups, told, outer=""):
    """The values of a node in which only ``told`` is not as in a new one."""
    found = {}
    for name, (kind, *options) in (groups.get("required", {}) | groups.get("optional", {})).items():
        name, options = outer + name, options[0] if options else {}
        if isinstance(kind, list) or "options" in options:  # a list of choices, told in two ways
            choices = kind if isinstance(kind, list) else options["options"]
            keys = [choice["key"] if isinstance(choice, dict) else choice for choice in choices]
            found[name] = told.get(name, options.get("default", keys[0] if keys else None))
            if kind == "COMFY_DYNAMICCOMBO_V3":
                found |= expected(choices[keys.index(found[name])]["inputs"], told, f"{name}.")
        elif kind in ("INT", "FLOAT", "STRING", "BOOLEAN"):
            found[name] = told.get(name, options.get("default", ""))
    return found


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_file_says_what_its_story_tells(story, nodes, sent):
    graph, number = sent(story), ids(story)
    told = {number[n["key"]]: n for n in story.nodes if n["type"] != "MarkdownNote" and n.get("mode") != BYPASSED}
    assert {node: sent["class_type"] for node, sent in graph.items()} == {node: n["type"] for node, n in told.items()}
    for node, found in values(graph).items():
        assert found == expected(nodes[told[node]["type"]]["input"], told[node]["values"]), told[node]["type"]
    wires = {
        (number[to], name): [number[origin], nodes[told[number[origin]]["type"]]["output_name"].index(output)]
        for origin, output, to, name in story.wires
        if number[to] in told
    }
    assert wires == {
        (node, name): value
        for node, told in graph.items()
        for name, value in told["inputs"].items()
        if isinstance(value, list)
    }


def test_nothing_of_one_story_is_in_another(sent):
    graphs = [sent(story) for story in (first_lora(), window_sampling(), compare(), first_lora())]
    assert graphs[0] == graphs[-1] and all(a != b for a, b in pairwise(graphs))


@pytest.mark.parametrize("story, loaders", [(sd35(), {"load"}), (flux(), {"load", "clip", "vae"})])
@pytest.mark.parametrize("bypass", [True, False], ids=["fit check bypassed", "with fit check"])
def test_a_story_of_a_large_model_is_valid_but_for_the_model(story, loaders, bypass, sent, client):
    graph = sent(story, bypass)
    assert ("MixGRPO_FitCheck" in {node["class_type"] for node in graph.values()}) != bypass
    run = client.queue(graph)
    assert run.left_out == {}
    assert run.wait().end == "error"
    assert run.error["node_id"] in {ids(story)[key] for key in loaders}


def quick(graph, number):
    """The same training, short and with two held-out captions."""
    graph[number["settings"]]["inputs"] |= QUICK
    prompts = graph[number["prompts"]]["inputs"]
    prompts["held_out_prompts"] = "\n".join(prompts["held_out_prompts"].splitlines()[:2])
    return graph


def pictures(run, client, node):
    return [client.view(image) for image in run.outputs[node]["images"]]


@pytest.fixture(scope="module")
def first(host, nodes, show):
    """The first story, run: the nodes' ids by key, the run, and the LoRA that it left."""
    story = first_lora()
    number = ids(story)
    with Client(host.address) as client:
        run = client.queue(quick(sent_by(show(), story), number))
        assert run.left_out == {}
        assert run.wait(300).end == "success", run.error
    return number, run, host.base / "output" / "loras" / DEMO_LORA


def test_the_first_story_makes_a_lora(first, client):
    number, run, lora = first
    assert len(run.named("mixgrpo.report")) == QUICK["iterations"]
    for key in ("grid", "curve"):
        assert pictures(run, client, number[key])
    assert lora.stat().st_size > 10_000


def test_the_fifth_story_compares_the_lora_of_the_first(first, sent, client):
    story = compare()
    number, graph = ids(story), sent(story)
    graph[number["compare"]]["inputs"] |= {"most_prompts": 2, "images": 2}
    run = client.queue(graph)
    assert run.left_out == {}
    assert run.wait(300).end == "success", run.error
    assert "LoRA for 20 of 25 steps" in run.outputs[number["table"]]["text"][0]
    assert pictures(run, client, number["compare"])


def test_the_last_story_shows_what_a_window_adds(sent, client):
    story = window_sampling()
    number, graph = ids(story), sent(story)
    run = client.queue(graph)
    assert run.left_out == {}
    assert run.wait().end == "success", run.error
    assert len(set(pixels(run, client, number["show"]))) == 8
    del graph[number["sampler"]]["inputs"]["window"]
    graph[number["sampler"]]["inputs"]["window_size"] = 0
    run = client.run(graph)
    alike = set(pixels(run, client, number["show"]))
    assert len(alike) == 1
    graph[number["sample"]]["inputs"]["sampler"] = ["euler", 0]
    graph["euler"] = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}}
    assert set(pixels(client.run(graph), client, number["show"])) == alike


def test_the_sixth_story_ranks_what_it_draws(sent, client):
    story = score_and_rank()
    number, graph = ids(story), sent(story)
    run = client.queue(graph)
    assert run.left_out == {}
    assert run.wait().end == "success", run.error
    assert len(pictures(run, client, number["best"])) == 4 and pictures(run, client, number["score"])
    lines = run.outputs[number["table"]]["text"][0].splitlines()
    shape = [float(line.split("shape ")[1].split(",")[0]) for line in lines]
    assert len(lines) == 16 and sum(shape[:4]) / 4 > 0.5 > sum(shape[-4:]) / 4


def test_the_second_story_waits_for_votes_and_can_be_left(sent, client):
    story = your_taste()
    graph = quick(sent(story), ids(story))
    run = client.queue(graph)
    assert run.left_out == {}
    ballot = run.wait_for("mixgrpo.ballot")
    assert ballot["run"] == "my-taste"
    client.interrupt(run)
    assert run.wait().end == "interrupted"


@pytest.mark.long("hour")
def test_the_ninth_and_the_tenth_story_go_on_from_the_first_two(first, sent, client):
    story = align_on_votes()
    number, aligning = ids(story), sent(story)
    aligning[number["align"]]["inputs"] |= {"run": "voted", "updates": 1, "levels": 1}
    with pytest.raises(Refused, match="run: expected a run with votes, and 'voted' is none"):
        client.queue(aligning)
    vote(sent(your_taste()), client, name="voted")
    run = client.queue(aligning)
    assert run.left_out == {}
    assert run.wait(120).end == "success", run.error
    assert "8 votes" in run.outputs[number["report"]]["text"][0] and pictures(run, client, number["grid"])
    story = merge_loras()
    number, merging = ids(story), sent(story)
    merging[number["merge"]]["inputs"] |= {"how.updates": 1, "how.images": 1, "how.steps": 4}
    merging[number["taste"]]["inputs"]["lora_file"] = TASTE_LORA.replace(VOTED_RUN, "voted")
    run = client.queue(merging)
    assert run.left_out == {}
    assert run.wait(120).end == "success", run.error
    report = run.outputs[number["report"]]["text"][0]
    assert "demo-lora" in report and "voted" in report and pictures(run, client, number["grid"])


def vote(graph, client, *, name):
    """Train by the second story in one iteration, whose two groups are voted on."""
    number = ids(your_taste())
    graph = quick(graph, number)
    graph[number["settings"]]["inputs"]["iterations"] = 1
    graph[number["train"]]["inputs"]["run_name"] = name
    run, voted = client.queue(graph), set()
    for _ in range(QUICK["prompts_per_iteration"]):
        ballot = run.wait_for("mixgrpo.ballot", lambda told: told["state"] == "open" and told["id"] not in voted)
        votes = {"0": 1, "1": 1, "2": -1, "3": -1}
        client.post(f"/mixgrpo/runs/{name}/ballots/{ballot['id']}/votes", {"votes": votes, "end": "done"})
        voted.add(ballot["id"])
    assert run.wait(120).end == "success", run.error


def pixels(run, client, node):
    """Of each picture a node showed; the files hold the workflow, too."""
    return [Image.open(io.BytesIO(data)).tobytes() for data in pictures(run, client, node)]
