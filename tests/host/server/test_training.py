"""Training on the canvas over HTTP and websocket, as the browser does it: stop, pause, resume, kill, extend."""

import json
import shutil

import pytest
import torch
from comfy_client import Client, ExecutionFailed, Refused
from graphs import SHORT as TWO_PROMPTS
from graphs import sampling, training
from safetensors.torch import load_file

SHORT = {**TWO_PROMPTS, "prompts_per_iteration": 1}
LENGTH = 6
LONGER = {**SHORT, "iterations": LENGTH}


def metrics(host, run):
    lines = (host.base / "output" / "mixgrpo" / run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def iterations(host, run):
    return [report["iteration"] for report in metrics(host, run)]


def lora(host, run):
    return load_file(host.base / "output" / "loras" / "mixgrpo" / f"{run}-last.safetensors")


@pytest.fixture(scope="module")
def undisturbed(host):
    """The LoRA of LONGER when nothing comes between."""
    with Client(host.address) as client:
        client.run(training("undisturbed", **LONGER)[0], timeout=300)
    return lora(host, "undisturbed")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_short_training_shows_itself_and_leaves_a_run_and_a_lora(host, client):
    graph, trainer = training("short", **SHORT)
    text = graph.add("PreviewAny", source=trainer[5])
    run = client.run(graph, timeout=300)
    reports = run.named("mixgrpo.report")
    assert [report["report"]["iteration"] for report in reports] == [0, 1, 2]
    assert all(report["node"] == trainer.id and report["run"] == "short" for report in reports)
    assert run.named("mixgrpo.status")[-1]["state"] == "finished"
    assert run.named("mixgrpo.group")[-1]["prompt"]
    assert {line.node for line in run.texts} <= {text.id} and not run.previews, "they go to nodes of other workflows"
    assert iterations(host, "short") == [0, 1, 2]
    assert "3 of 3 iterations" in run.outputs[text.id]["text"][0]
    assert trainer.id not in run.outputs, "the host would show it in other workflows, too"
    assert all(report["report"]["update"]["ratio_first"] < 1e-5 for report in reports)


def test_an_interrupt_keeps_the_work_and_the_next_queue_goes_on(host, client, undisturbed):
    graph, _ = training("interrupted", **LONGER)
    run = client.queue(graph)
    run.wait_for("mixgrpo.report", count=2, timeout=300)
    client.interrupt(run)
    assert run.wait().end == "interrupted"
    done = len(iterations(host, "interrupted"))
    assert 2 <= done < LENGTH
    assert run.named("mixgrpo.status")[-1]["state"] == "interrupted"
    again = client.run(graph, timeout=300)
    assert [data["report"]["iteration"] for data in again.named("mixgrpo.report")] == list(range(done, LENGTH))
    assert iterations(host, "interrupted") == list(range(LENGTH))
    assert same(lora(host, "interrupted"), undisturbed)


def test_stop_and_keep_goes_on_to_the_nodes_behind_and_later_resumes(host, client, undisturbed):
    graph, trainer = training("stopped", **LONGER)
    text = graph.add("PreviewAny", source=trainer[5])
    run = client.queue(graph)
    run.wait_for("mixgrpo.report", count=1, timeout=300)
    client.post("/mixgrpo/runs/stopped/command", {"command": "stop"})
    assert run.wait().end == "success"
    done = len(iterations(host, "stopped"))
    assert 1 <= done < LENGTH
    assert f"{done} of {LENGTH} iterations" in run.outputs[text.id]["text"][0]
    assert run.named("mixgrpo.status")[-1]["state"] == "stopped"
    client.run(graph, timeout=300)
    assert iterations(host, "stopped") == list(range(LENGTH))
    assert same(lora(host, "stopped"), undisturbed)


def test_pause_frees_the_queue_and_the_next_queue_goes_on(host, client, undisturbed):
    graph, trainer = training("paused", **LONGER)
    text = graph.add("PreviewAny", source=trainer[5])
    run = client.queue(graph)
    run.wait_for("mixgrpo.report", count=1, timeout=300)
    client.post("/mixgrpo/runs/paused/command", {"command": "pause"})
    assert run.wait().end == "success"  # an interrupt would be shown as "Job failed"
    assert run.named("mixgrpo.status")[-1]["state"] == "paused"
    assert text.id not in run.outputs, "nothing behind the trainer runs"
    assert not client.get("/mixgrpo/live").get("runs")
    client.run(sampling(None)[0])  # another workflow runs meanwhile
    client.run(graph, timeout=300)
    assert same(lora(host, "paused"), undisturbed)


def test_save_and_sample_now_change_nothing_of_the_run(host, client, undisturbed):
    graph, _ = training("asked", **LONGER)
    run = client.queue(graph)
    run.wait_for("mixgrpo.report", count=1, timeout=300)
    client.post("/mixgrpo/runs/asked/command", {"command": "sample"})
    client.post("/mixgrpo/runs/asked/command", {"command": "save"})
    assert run.wait(300).end == "success"
    [asked] = [entry for entry in run.named("mixgrpo.gallery")[-1]["entries"] if entry["asked"]]
    assert client.view(asked["pictures"][0])[:4] == b"\x89PNG"
    assert same(lora(host, "asked"), undisturbed)


@pytest.fixture(scope="module")
def killed(host):
    """The iterations that a run had done when ComfyUI was killed, and those that it did after it was started again."""
    graph, _ = training("killed", **{**LONGER, "checkpoint_every": 1})
    with Client(host.address) as client:
        run = client.queue(graph)
        run.wait_for("mixgrpo.report", count=2, timeout=300)
        host.kill()
        with pytest.raises(ConnectionError, match="closed"):  # nobody is kept waiting
            run.wait()
    before = iterations(host, "killed")
    host.start()
    with Client(host.address) as client:
        again = client.run(graph, timeout=300)
    return before, [told["report"]["iteration"] for told in again.named("mixgrpo.report")]


def test_kill_9_loses_nothing_that_was_saved(killed):
    before, after = killed
    assert before[0] == 0 and after[0] >= 1, "the iterations before the kill are kept"
    assert after == list(range(after[0], LENGTH)) and after[0] <= len(before)


def test_a_run_that_was_killed_ends_as_if_nothing_had_happened(killed, host, undisturbed):
    assert iterations(host, "killed") == list(range(LENGTH))
    assert same(lora(host, "killed"), undisturbed)


def test_more_iterations_extend_a_run_and_other_settings_make_a_new_one(host, client):
    short = {**SHORT, "iterations": 1}
    client.run(training("grown", **short)[0], timeout=300)
    client.run(training("grown", **{**short, "iterations": 2})[0], timeout=300)
    assert iterations(host, "grown") == [0, 1]
    client.run(training("grown", **{**short, "learning_rate": 1e-4})[0], timeout=300)
    assert iterations(host, "grown") == [0, 1]
    assert iterations(host, "grown-2") == [0]


def test_a_finished_run_is_not_trained_again_but_a_deleted_one_is(host, client):
    graph, trainer = training("done", **{**SHORT, "iterations": 1})
    client.run(graph, timeout=300)
    before = lora(host, "done")
    again = client.run(graph, timeout=300)
    assert again.named("mixgrpo.report") == []
    assert trainer.id not in client.run(graph, timeout=300).executed()
    shutil.rmtree(host.base / "output" / "mixgrpo" / "done")
    client.run(graph, timeout=300)
    assert iterations(host, "done-2") == [0], "a new one: the LoRA of the old one is left alone"
    assert same(lora(host, "done-2"), before)


def test_training_can_start_from_a_lora_file(host, client):
    short = {**SHORT, "iterations": 1}
    client.run(training("first", **short)[0], timeout=300)
    client.get("/object_info/MixGRPO_TrainLora")  # what pressing R does
    graph, _ = training("second", start_from="mixgrpo/first-last.safetensors", **{**short, "learning_rate": 1e-9})
    client.run(graph, timeout=300)
    first, second = lora(host, "first"), lora(host, "second")
    for name in first:
        torch.testing.assert_close(second[name], first[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "name", ["", "../up", "a/../b", "a/", "C:\\x", "/tmp/x", "..", "con", "a\nb", "x" * 200, "%2e%2e", "ends."]
)
def test_a_run_name_can_not_leave_the_output_folder(client, name):
    with pytest.raises(Refused, match="run_name"):
        client.queue(training(name, **SHORT)[0])


def test_what_can_be_known_before_is_said_before(client):
    cases = {
        "does not fit": {"steps": 4, "preset": "MixGRPO", "model_family": "other flow model"},
        "distilled": {"preset": "MixGRPO", "model_family": "FLUX.1-dev"},
        "at least 2": {"images_per_prompt": 1},
    }
    for words, changes in cases.items():
        graph, _ = training("refused", **{**SHORT, **changes})
        if words == "distilled":
            node = next(node for node in graph.values() if node["class_type"] == "MixGRPO_TrainerSettings")
            node["inputs"].update({"details": "set by hand", "details.cfg": 4.0, "details.steps": 25})
        with pytest.raises(Refused, match=words):
            client.queue(graph)


def test_a_size_that_the_model_refuses_is_told(host, client):
    graph, _ = training("size", **SHORT)
    node = next(node for node in graph.values() if node["class_type"] == "MixGRPO_TrainerSettings")
    node["inputs"].update({"details": "set by hand", "details.width": 1024, "details.height": 1024})
    with pytest.raises(ExecutionFailed, match="1024"):
        client.run(graph, timeout=300)
    assert not (host.base / "output" / "mixgrpo" / "size").exists(), "refused before a run was made"
