"""Runs with a taste that are killed, as processes, while they write: no vote, no correction and no head is lost."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mixgrpo_core.rewards.people.ballot_box import BallotBox
from mixgrpo_core.rewards.taste.taste import Taste

# One process forks a child for each run: everything is loaded once. A child that is told to kills itself as it is about
# to write in the run's folder for the n-th time: a file is opened, renamed or removed.
CHILDREN = """
import json, os, signal, sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[1])
import test_taste as story
from mixgrpo_core.rewards.people.votes import shown_pictures
from mixgrpo_core.rewards.taste.corrections import Corrections, correction_id
from mixgrpo_core.rewards.taste.reward import tastes_at
from mixgrpo_core import RunFolder, train
from mixgrpo_core.runs.reports import GroupScored
from toy import ToyModel

CONFIG = replace(story.CONFIG, iterations=4, steps=4, images_per_prompt=5, checkpoint_every=2, eval_every=0)

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

def aim(folder, number):
    left = [number]
    def hear(event, arguments):
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
        if not (writes or event in ("os.rename", "os.remove")) or isinstance(arguments[0], int):
            return
        if os.path.abspath(os.fsdecode(arguments[0])).startswith(folder):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hear)
    return left

def corrects(folder):
    "Somebody says of an image of iteration 2 that the taste is wrong, unless that was said."
    said = Corrections(folder / "taste")
    def observer(event):
        if isinstance(event, GroupScored) and event.iteration == 2 and event.prompt == "blue":
            [picture] = shown_pictures(event.images[:1])
            place = {"iteration": 2, "place": 1}
            if said.said(correction_id(picture, event.prompt, **place)) is None:
                said.say(picture, event.prompt, liked=False, now=2, **place)
    return observer

def run(folder, number):
    model, taste, _ = story.started(folder, CONFIG)
    left = aim(str(folder), number)
    taste = tastes_at(taste, folder / "taste")
    run = RunFolder.open(folder)
    list(train(model, ["a red circle", "blue"], {"taste": taste}, CONFIG, run=run, observer=corrects(folder)))
    digest = sha256(b"".join(part.numpy().tobytes() for part in story.state(model, taste).values())).hexdigest()
    (folder / "end.json").write_text(json.dumps({"digest": digest, "writes": number - left[0]}))

for line in sys.stdin:
    folder, number = json.loads(line)
    if (pid := os.fork()) == 0:
        code = 1
        try:
            run(Path(folder), number)
            code = 0
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A function that trains in a folder, killed at its n-th write, and gives the exit code."""
    here = Path(__file__).parent
    places = json.dumps([str(here), str(here.parents[1]), str(here.parents[2])])
    log = (tmp_path_factory.mktemp("log") / "stderr").open("w")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log, "text": True}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-c", CHILDREN, places], env=environment, **pipes) as process:

        def train_in(folder, number=10**9):
            process.stdin.write(json.dumps([str(folder), number]) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield train_in
        process.stdin.close()


@pytest.fixture(scope="module")
def undisturbed(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert trained(folder) == 0
    return folder


def said(folder):
    """Votes and corrections of a run."""
    boxes = [BallotBox(folder / part) for part in ("votes", "taste")]
    return {id: (box.read(id).votes, box.read(id).heard) for box in boxes for id in box.ids()}


def test_a_correction_is_heard_before_the_next_iteration_and_changes_what_is_learnt(undisturbed):
    [correction] = BallotBox(undisturbed / "taste").ids()
    ballot = BallotBox(undisturbed / "taste").read(correction)
    assert (ballot.votes, ballot.after, ballot.heard) == ({0: -1}, 2, 3)


@pytest.mark.parametrize("part", [1, 3])
def test_sigkill_at_any_write_loses_no_vote_no_correction_and_no_head(part, trained, undisturbed, tmp_path):
    end, folder = json.loads((undisturbed / "end.json").read_text()), tmp_path / "run"
    for number in (1 + part * end["writes"] // 4, 9 + 7 * part):
        assert trained(folder, number) == -signal.SIGKILL
        newest = folder / "taste/taste.safetensors"
        assert not newest.exists() or Taste.load(newest).head.weights.isfinite().all()
        given = {id: votes for id, (votes, _) in said(folder).items() if votes}
    assert trained(folder) == 0
    assert said(folder) == said(undisturbed)
    assert given.items() <= {id: votes for id, (votes, _) in said(folder).items()}.items()
    assert json.loads((folder / "end.json").read_text())["digest"] == end["digest"]
    assert Taste.load(folder / "taste/taste.safetensors").opinions.values.tolist().count(-1.0) > 1
