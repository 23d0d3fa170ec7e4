"""The demo's training for a long time as a process: memory, files, threads and disk stay where they are."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from campaigns.progress import Progress, Teller
from campaigns.soak import figures, watched

from mixgrpo_core.demo import held_out_prompts, train_prompts

RUN = """
out = "{out}"
[model]
rank = 16
[prompts]
train = {train}
held_out = {held_out}
[rewards]
shape = "ShapeReward()"
[train]
iterations = 100000
learning_rate = 1e-5
steps = 25
images_per_prompt = 12
prompts_per_iteration = 8
eval_every = 20
eval_images = 4
checkpoint_every = 5
guards = []
"""
"""As large as the demo; it hardly learns, so that nothing ends it before its time."""


def training(folder):
    """The process of ``mixgrpo train``."""
    quoted = [json.dumps(prompts) for prompts in (train_prompts()[:64], held_out_prompts()[:8])]
    (folder / "run.toml").write_text(RUN.format(out=str(folder / "run"), train=quoted[0], held_out=quoted[1]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", "from mixgrpo_core.cli import main; raise SystemExit(main())"]
    with (folder / "log").open("wb") as log:
        words = [*command, "train", str(folder / "run.toml")]
        return subprocess.Popen(words, env=environment, stdout=log, stderr=log, cwd=folder)


@pytest.mark.long("soak")
def test_a_headless_run(request, tmp_path):
    minutes, tell = request.config.getoption("--minutes") / 2, Teller(request.config, every=120)
    progress = Progress("soak", minutes)
    if "headless" not in progress.cases:
        process = training(tmp_path)
        try:
            progress.add(case="headless", **soaked(process, tmp_path, minutes, tell))
        finally:
            process.kill()
    found = progress.cases["headless"]
    progress.finish(tell, run=found["minutes"], **found)
    assert found["status"] == 143 and not found["errors"] and not found["grows"], found


def soaked(process, folder, minutes, tell):
    """The figures of a process that trains in ``folder``, and how it ended when it was asked to."""
    start = time.monotonic()
    samples = watched(process.pid, folder, minutes, lambda: process.poll() is None, lambda: tell.now_and_then("soak"))
    process.send_signal(signal.SIGTERM)  # a shell has what it runs in the background not hear Ctrl-C
    status, log = process.wait(timeout=300), (folder / "log").read_text(errors="replace")
    assert samples and status == 143, log[-2000:]
    errors = [line for line in log.splitlines() if "Error" in line or "Traceback" in line or "Warning" in line]
    return {
        **figures(samples),
        "iterations": (folder / "run" / "metrics.jsonl").read_bytes().count(b"\n"),
        "status": status,
        "errors": errors[:5],
        "seconds": time.monotonic() - start,
    }
