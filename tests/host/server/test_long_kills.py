"""A ComfyUI that is killed while it trains, started again and queued again: the run ends as if nothing had happened."""

import json
import random
import time
from collections import Counter

import pytest
from campaigns.progress import Progress, Teller
from comfy_client import Client
from graphs import SHORT, training
from safetensors.torch import load_file

LENGTH = {**SHORT, "prompts_per_iteration": 1, "iterations": 8, "checkpoint_every": 1}
SECONDS = 120


def timeless(host, name):
    lines = (host.base / "output" / "mixgrpo" / name / "metrics.jsonl").read_text().splitlines()
    left_out = ("seconds", "peak_memory")
    return [{key: value for key, value in json.loads(line).items() if key not in left_out} for line in lines]


def lora(host, name):
    return load_file(host.base / "output" / "loras" / "mixgrpo" / f"{name}-last.safetensors")


def whole(host):
    with Client(host.address) as client:
        client.run(training("whole", **LENGTH)[0], timeout=600)
    return timeless(host, "whole"), lora(host, "whole")


def killed(host, name, chance):
    """Kill the host at a random moment of the run, or when it is seen to write; how, and how far it was."""
    folder = host.base / "output" / "mixgrpo" / name
    aim = chance.choice(("time", "writing"))
    with Client(host.address) as client:
        run = client.queue(training(name, **LENGTH)[0])
        run.wait_for("mixgrpo.report", count=chance.randrange(1, 4), timeout=600)
        end = time.monotonic() + (chance.uniform(0, 1.5) if aim == "time" else SECONDS)
        while time.monotonic() < end and not run.finished:
            if aim == "writing" and any(folder.rglob(".*.tmp")):
                break
            time.sleep(0.0005 if aim == "writing" else 0.01)
        landed = not run.finished
        host.kill()
    return {"aim": aim, "landed": landed, "iterations": len(timeless(host, name))}


@pytest.mark.long("host-kills")
def test_kills_of_the_host(request, host):
    count, tell = request.config.getoption("--host-kills"), Teller(request.config)
    progress, expected = Progress("host-kills", count), whole(host)
    for case in range(count):
        if case not in progress.cases:
            progress.add(case=case, **one(host, f"killed-{case}", random.Random(f"host:{case}"), expected))
            tell(f"host-kills: {progress.cases[case]}")
    cases = progress.cases.values()
    landed = [case for case in cases if case["landed"]]
    differ = [case["case"] for case in cases if not case["same"]]
    progress.finish(tell, run=len(landed), aims=dict(Counter(case["aim"] for case in landed)), fault=len(differ))
    assert not differ, f"runs that differ after a kill: {differ}"
    assert len(landed) == count, "kills came after the end of their run"


def one(host, name, chance, expected):
    """A run of its own, killed, and gone on with in a ComfyUI that was started again."""
    start = time.monotonic()
    kill = killed(host, name, chance)
    host.start()
    with Client(host.address) as client:
        client.run(training(name, **LENGTH)[0], timeout=600)
    metrics, found = timeless(host, name), lora(host, name)
    same = metrics == expected[0] and found.keys() == expected[1].keys()
    same = same and all(found[key].equal(tensor) for key, tensor in expected[1].items())
    left = [path.name for path in (host.base / "output" / "mixgrpo" / name).rglob(".*") if "tmp" in path.name]
    return {**kill, "same": same and not left, "left": left, "seconds": time.monotonic() - start}
