"""Runs that launchers start: torch's own, accelerate's, and two launchers that meet; and what ends them."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file
from tiny_sd3 import make_folder

from mixgrpo_core.cli import main
from mixgrpo_core.runs.folder import RunFolder

pytestmark = pytest.mark.long("ranks")
ITERATIONS = 3
RUN = f"""
[model]
rank = 2
[prompts]
train = [
  "a small red circle on the left", "a large blue cross in the middle",
  "a small green circle at the top", "a large red square on the right",
]
held_out = ["a small green square at the top", "a large blue circle on the left"]
[rewards]
shape = "ShapeReward()"
[train]
iterations = {ITERATIONS}
checkpoint_every = 1
steps = 5
images_per_prompt = 3
prompts_per_iteration = 3
updates = 2
decode_dtype = "float32"
eval_every = 2
eval_images = 1
"""
TORCHRUN = ("torch.distributed.run",)
PATIENCE = 300


def started(launcher, *words):
    """A launcher in a session of its own, which hears Ctrl-C as in the foreground of a terminal."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, "-m", "mixgrpo_core.cli", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def ended(process):
    said, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, said


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "run.toml").write_text(RUN)
    assert main(["train", str(folder / "run.toml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


def asked(alone, path):
    return ("train", str(alone.parent / "run.toml"), "--out", str(path))


def lora(path):
    return load_file(RunFolder.open(path).lora("last"))


def require_same(alone, path, ranks):
    ours, theirs, run = lora(alone), lora(path), RunFolder.open(path)
    moved = max(float(ours[name].abs().max()) for name in ours if name.endswith("lora_B.weight"))  # they begin at 0
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) <= 1e-3 * moved
    assert [report["iteration"] for report in run.metrics()] == list(range(ITERATIONS))
    for report, other in zip(run.metrics(), RunFolder.open(alone).metrics(), strict=True):
        assert len(report["by_rank"]) == ranks
        assert report["rewards"]["shape"]["mean"] == pytest.approx(other["rewards"]["shape"]["mean"], rel=1e-5)
        for held, before in zip(report["evaluations"], other["evaluations"], strict=True):
            assert held["rewards"]["shape"]["mean"] == pytest.approx(before["rewards"]["shape"]["mean"], rel=1e-4)


LAUNCHERS = {
    "torchrun": (*TORCHRUN, "--standalone", "--nproc-per-node", "2"),
    "accelerate": ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_what_a_launcher_starts_gives_what_one_process_gives(name, alone, tmp_path):
    port = ("--main_process_port", free_port()) if name == "accelerate" else ()
    status, said = ended(started((*LAUNCHERS[name], *port), *asked(alone, tmp_path / "run")))
    assert status == 0, said
    assert said.count("2 ranks share 3 prompts an iteration, 2 at most each") == 1, "one of them speaks"
    require_same(alone, tmp_path / "run", 2)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_two_launchers_that_meet_are_one_run(name, alone, tmp_path):
    port = free_port()
    of_machine = {
        "torchrun": lambda rank: (
            *(*TORCHRUN, "--nnodes", "2", "--node-rank", rank, "--nproc-per-node", "1"),
            *("--master-addr", "127.0.0.1", "--master-port", port),
        ),
        "accelerate": lambda rank: (
            *("accelerate.commands.launch", "--multi_gpu", "--num_machines", "2", "--num_processes", "2"),
            *("--machine_rank", rank, "--main_process_ip", "127.0.0.1", "--main_process_port", port),
        ),
    }[name]
    both = [started(of_machine(str(rank)), *asked(alone, tmp_path / "run")) for rank in range(2)]
    for process in both:
        status, said = ended(process)
        assert status == 0, said
    require_same(alone, tmp_path / "run", 2)


def workers(process):
    """The processes of the ranks."""
    below = psutil.Process(process.pid).children(recursive=True)
    return [child for child in below if "mixgrpo_core.cli" in child.cmdline()]


def first_checkpoint(path):
    """Wait until an iteration is done."""
    latest = time.monotonic() + PATIENCE
    while time.monotonic() < latest:
        if Path(path, "metrics.jsonl").exists() and RunFolder.open(path).metrics():
            return
        time.sleep(0.05)
    raise AssertionError("no iteration ends")


def to_the_launcher(process):
    os.kill(process.pid, signal.SIGTERM)


def to_all(process):
    os.killpg(process.pid, signal.SIGINT)


def to_one(process):
    workers(process)[-1].send_signal(signal.SIGKILL)


@pytest.mark.parametrize("end", [to_all, to_the_launcher, to_one])
def test_what_is_ended_leaves_no_process_and_goes_on_with_another_number(end, alone, tmp_path):
    path = tmp_path / "run"
    process = started(LAUNCHERS["torchrun"], *asked(alone, path), "--train.iterations", "200")
    first_checkpoint(path)
    ranks = workers(process)
    assert len(ranks) == 2
    end(process)
    status, said = ended(process)
    assert status != 0
    assert not [rank for rank in ranks if rank.is_running()], said
    done = RunFolder.open(path).done
    assert 1 <= done < 200
    if end is to_all:
        assert "everything is kept" in said
    three = (*TORCHRUN, "--standalone", "--nproc-per-node", "3")
    status, said = ended(started(three, "resume", str(path), "--iterations", str(done + 1)))
    assert status == 0, said
    reports = RunFolder.open(path).metrics()
    assert [report["iteration"] for report in reports] == list(range(done + 1))
    assert len(reports[-1]["by_rank"]) == 3


SHARDED = """
[model]
folder = "{folder}"
dtype = "float32"
rank = 2
sharded = true
[prompts]
train = ["a red circle", "a blue cross", "a green dot"]
held_out = ["a small square"]
[rewards]
bright = "PixelReward(Brightness())"
[train]
iterations = 1
checkpoint_every = 1
steps = 5
images_per_prompt = 3
prompts_per_iteration = 3
updates = 2
eval_every = 1
eval_images = 1
decode_dtype = "float32"
"""
TWO = LAUNCHERS["torchrun"]


def test_a_run_in_shards_goes_on_without_and_with_them(tmp_path, capsys):
    file = tmp_path / "run.toml"
    file.write_text(SHARDED.format(folder=make_folder(tmp_path / "sd3")))
    alone, path = str(tmp_path / "alone"), str(tmp_path / "run")
    assert main(["train", str(file), "--model.no-sharded", "--out", alone, "--train.iterations", "3"]) == 0
    status, said = ended(started(TWO, "train", str(file), "--out", path))
    assert status == 0, said
    assert "each of 2 ranks holds 0.1 of 0.1 MB of the blocks" in " ".join(said.split())
    assert main(["resume", path, "--iterations", "2"]) == 2
    assert "mixgrpo resume RUN --sharded False" in capsys.readouterr().err
    assert main(["resume", path, "--iterations", "2", "--sharded", "False"]) == 0
    assert not RunFolder.open(path).config["setup"]["model"]["sharded"]
    status, said = ended(started(TWO, "resume", path, "--iterations", "3", "--sharded", "True"))
    assert status == 0, said
    assert RunFolder.open(path).config["setup"]["model"]["sharded"]
    ours, theirs = lora(alone), lora(path)
    moved = max(float(ours[name].abs().max()) for name in ours if name.endswith("lora_B.weight"))
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) <= 1e-3 * moved


def test_shards_of_one_that_is_killed_end_with_it(tmp_path):
    file, path = tmp_path / "run.toml", tmp_path / "run"
    file.write_text(SHARDED.format(folder=make_folder(tmp_path / "sd3")))
    process = started(TWO, "train", str(file), "--out", str(path), "--train.iterations", "200")
    first_checkpoint(path)
    ranks = workers(process)
    to_one(process)
    status, said = ended(process)
    assert status != 0
    assert not [rank for rank in ranks if rank.is_running()], said
    assert RunFolder.open(path).done >= 1
