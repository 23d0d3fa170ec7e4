"""A ComfyUI that trains for a long time while it is looked at: memory, files, threads and disk stay where they are."""

import time

import pytest
from campaigns.progress import Progress, Teller
from campaigns.soak import figures, watched
from comfy_client import Client
from graphs import training

NAME = "soak"


@pytest.mark.long("host-soak")
def test_a_training_of_the_host(request, host):
    minutes, tell = request.config.getoption("--minutes") / 2, Teller(request.config, every=120)
    progress = Progress("host-soak", minutes)
    if "host" not in progress.cases:
        progress.add(case="host", **soaked(host, minutes, tell))
    found = progress.cases["host"]
    progress.finish(tell, run=found["minutes"], **found)
    assert found["end"] == "success" and not found["errors"] and not found["grows"], found


def soaked(host, minutes, tell):
    """The figures of a training as large as the demo, asked about every few seconds as an open live view does."""
    start, before = time.monotonic(), len(host.log.read_text(errors="replace"))
    graph = training(NAME, iterations=5000, learning_rate=1e-5, train=64, held_out=8, checkpoint_every=5)[0]
    with Client(host.address) as client:
        run = client.queue(graph)
        run.wait_for("mixgrpo.report", timeout=600)

        def look():
            client.get(f"/mixgrpo/runs/{NAME}")
            client.get("/mixgrpo/live")
            tell.now_and_then("host-soak")

        samples = watched(host.process.pid, host.base, minutes, lambda: not run.finished, look)
        client.post(f"/mixgrpo/runs/{NAME}/command", {"command": "stop"})
        end = run.wait(timeout=600).end
    log = host.log.read_text(errors="replace")[before:]
    errors = [line for line in log.splitlines() if "Error" in line or "Traceback" in line]
    done = (host.base / "output" / "mixgrpo" / NAME / "metrics.jsonl").read_bytes().count(b"\n")
    return {
        **figures(samples),
        "iterations": done,
        "end": end,
        "errors": errors[:5],
        "seconds": time.monotonic() - start,
    }
