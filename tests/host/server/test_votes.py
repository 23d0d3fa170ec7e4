"""People's votes over HTTP, against a real ComfyUI with the demo model: cast, interrupted, killed, and missing."""

import json
import time
from urllib.parse import quote

import pytest
from comfy_client import Client, Graph, Status
from graphs import demo_parts
from safetensors.torch import load_file

ALIGNED = {
    "form": "NFT",
    "form.beta": 1.0,
    "updates": 4,
    "rank": 4,
    "learning_rate": 1e-3,
    "name": "from votes",
    "groups": 2,
    "levels": 2,
    "held_out": 0.0,
    "seed": 0,
}
MERGED = {
    "how": "by training",
    "how.updates": 1,
    "how.rank": 4,
    "how.learning_rate": 1e-3,
    "how.anchor": 0.0,
    "how.seed": 0,
    "how.prompts_per_update": 1,
    "how.images": 2,
    "how.steps": 3,
    "name": "merged",
}
SHORT = {"train": 4, "held_out": 1, "iterations": 2, "images_per_prompt": 4, "prompts_per_iteration": 1, "steps": 6}


def voted_training(run_name, *, time_limit=120, way="thumbs", **changes):
    graph = Graph()
    demo, prompts, _, settings = demo_parts(graph, **{**SHORT, **changes})
    about = {"way": way, "time_limit": time_limit, "images_shown": 0, "weight": 1.0}
    vote = graph.add("MixGRPO_HumanVote", **about)
    wires = {"model": demo[0], "vae": demo[2], "prompts": prompts[0], "rewards": vote[0], "settings": settings[0]}
    graph.add("MixGRPO_TrainLora", **wires, run_name=run_name, start_from="none")
    return graph


def asked(run, iteration=0):
    """The ballot of an iteration, once it is open."""
    return run.wait_for("mixgrpo.ballot", lambda told: told["iteration"] == iteration and told["state"] == "open")


def vote(client, told, votes, **more):
    return client.post(f"{route(told['run'])}/ballots/{told['id']}/votes", {"votes": votes, **more})


def route(run):
    return f"/mixgrpo/runs/{quote(run, safe='')}"


def metrics(host, run):
    lines = (host.base / "output" / "mixgrpo" / run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_votes_over_http_are_what_the_training_learns_from(host, client):
    run = client.queue(voted_training("Käthe/voted"))
    told = asked(run)
    assert client.get("/mixgrpo/live")["runs"][0]["state"] == "voting"
    assert client.get(route("Käthe/voted"))["said"]["ballot"]["id"] == told["id"], "what a reload asks for"
    assert client.view(told["pictures"][0])[:4] == b"\x89PNG"
    vote(client, told, {"0": 1, "1": -1})
    with Client(host.address) as other:  # another browser
        assert vote(other, told, {"2": 1, "3": 1})["votes"] == {"0": 1, "1": -1, "2": 1, "3": 1}
    second = asked(run, 1)
    assert vote(client, second, {"3": 1}, end="done")["state"] == "done"
    assert run.wait(120).end == "success"
    first, last = metrics(host, "Käthe/voted")
    assert first["rewards"]["votes"]["mean"] == 0.5 and last["rewards"]["votes"]["mean"] == 0.25
    assert first["update"]["steps"] and first["update"]["grad_norm"] > 0
    assert "votes" not in (first["evaluations"] or [{"rewards": {}}])[0]["rewards"], "nobody is asked about held-out"
    with pytest.raises(Status) as refused:
        vote(client, {**told, "id": "000009-000-00000000"}, {})
    assert refused.value.code == 404


def test_a_queue_is_never_frozen_by_votes_that_do_not_come(host, client):
    started = time.monotonic()
    run = client.queue(voted_training("alone", time_limit=5))
    assert run.wait(120).end == "success"
    assert time.monotonic() - started < 90
    assert [report["rewards"]["votes"]["valid"] for report in metrics(host, "alone")] == [0, 0]
    closed = [told for told in run.named("mixgrpo.ballot") if told["state"] != "open"]
    assert {(told["state"], told["fallback"]) for told in closed} == {
        ("time is up", "skipped: the group teaches nothing")
    }


def test_an_interrupt_ends_the_wait_and_the_votes_are_there_when_it_goes_on(client):
    run = client.queue(voted_training("interrupted-votes", iterations=1, way="ranking"))
    told = asked(run)
    vote(client, told, {"0": 2, "1": 1})
    started = time.monotonic()
    client.interrupt(run)
    assert run.wait(20).end == "interrupted" and time.monotonic() - started < 10
    vote(client, told, {"2": 2})  # nobody waits for it
    again = client.queue(voted_training("interrupted-votes", iterations=1, way="ranking"))
    reopened = asked(again)
    assert (reopened["id"], reopened["votes"], reopened["late"]) == (told["id"], {"0": 2, "1": 1, "2": 2}, [])
    vote(client, told, {"3": 4})
    assert again.wait(60).end == "success"


@pytest.fixture(scope="module")
def killed(host):
    """The ballot that ComfyUI was killed with, a late vote's answer before the run was queued, and the ballot again."""
    graph = voted_training("killed-votes")
    with Client(host.address) as client:
        told = asked(client.queue(graph))
        vote(client, told, {"0": 1, "1": -1})
        host.kill()
    host.start()
    with Client(host.address) as client:
        late = vote(client, told, {"2": 1})
        run = client.queue(graph)
        again = asked(run)
        vote(client, told, {"3": -1})
        vote(client, asked(run, 1), {"0": 1}, end="skipped")
        assert run.wait(120).end == "success"
    return told, late, again


def test_kill_9_while_it_waits_loses_no_vote(killed):
    told, late, again = killed
    assert late["votes"] == {"0": 1, "1": -1, "2": 1}
    assert (again["id"], again["votes"]) == (told["id"], late["votes"])


def test_a_run_that_was_killed_while_it_waited_learns_from_all_its_votes(killed, host):
    first, last = metrics(host, "killed-votes")
    assert first["rewards"]["votes"] == {**first["rewards"]["votes"], "mean": 0.0, "valid": 4}
    assert last["rewards"]["votes"]["valid"] == 0


QUICK = {"eval_steps": 4}


@pytest.fixture(scope="module")
def voted_run(host):
    """The name of a run with eight votes on two groups."""
    with Client(host.address) as client:
        run = client.queue(voted_training("asked first", **QUICK))
        for iteration in range(2):
            vote(client, asked(run, iteration), {"0": 1, "1": -1, "2": 1, "3": -1}, end="done")
        assert run.wait(120).end == "success"
    return "asked first"


def test_votes_become_a_lora_without_an_image(host, client, voted_run):
    graph = Graph()
    demo = graph.add("MixGRPO_DemoModel")
    wires = {"model": demo[0], "clip": demo[1], "vae": demo[2]}
    aligned = graph.add("MixGRPO_AlignOnVotes", **wires, run=voted_run, **ALIGNED)
    grid = graph.add("PreviewImage", images=aligned[2])
    done = client.run(graph, timeout=120)
    text = done.outputs[aligned.id]["text"][0]
    assert text.startswith("8 votes on 2 groups") and "the better image's own error" in text
    assert done.outputs[grid.id]["images"]
    loras = host.base / "output" / "loras" / "mixgrpo"
    made, of_the_run = (load_file(loras / f"{name}.safetensors") for name in ("from votes", f"{voted_run}-last"))
    assert made.keys() == of_the_run.keys()


def test_two_loras_become_one(host, client, voted_run):
    graph = Graph()
    demo, prompts, _, settings = demo_parts(graph, train=1, held_out=1, **QUICK)
    file = f"mixgrpo/{voted_run}-last.safetensors"
    teachers = [graph.add("MixGRPO_LoraTeacher", lora_file=file, prompts=prompts[0]) for _ in range(2)]
    slots = {f"teachers.teacher{place}": teacher[0] for place, teacher in enumerate(teachers)}
    wires = {"model": demo[0], "vae": demo[2], "settings": settings[0]}
    merged = graph.add("MixGRPO_MergeLoras", **wires, **slots, **MERGED)
    text = client.run(graph, timeout=120).outputs[merged.id]["text"][0]
    assert f"left of the way to {voted_run}-last" in text and f"{voted_run}-last 2" in text
    found = load_file(host.base / "output" / "loras" / "mixgrpo" / "merged.safetensors")
    assert {len(tensor) for name, tensor in found.items() if "lora_A" in name} == {4}
