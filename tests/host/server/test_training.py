"""Training on the canvas, over HTTP and websocket, as the browser does it."""

import json

from graphs import SHORT, training


def metrics(host, run):
    lines = (host.base / "output" / "mixgrpo" / run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_short_training_shows_itself_and_leaves_a_run_and_a_lora(host, client):
    graph, trainer = training("short", **SHORT)
    text = graph.add("PreviewAny", source=trainer[5])
    run = client.run(graph, timeout=300)
    reports = run.named("mixgrpo.report")
    assert [report["report"]["iteration"] for report in reports] == [0, 1, 2]
    assert all(report["node"] == trainer.id and report["run"] == "short" for report in reports)
    assert run.named("mixgrpo.status")[-1]["state"] == "finished"
    assert run.named("mixgrpo.group")[-1]["prompt"]
    assert any("iteration" in line.text for line in run.texts if line.node == trainer.id)
    assert any(preview.node == trainer.id for preview in run.previews)
    assert len(metrics(host, "short")) == 3
    assert (host.base / "output" / "loras" / "mixgrpo" / "short-last.safetensors").exists()
    assert "3 of 3 iterations" in run.outputs[text.id]["text"][0]
    assert run.outputs[trainer.id]["images"]
