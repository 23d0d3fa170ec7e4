"""Runs of ``mixgrpo train`` that are killed again and again, at random moments and at those of writing files.

A story is one run: a few kills, each followed by ``mixgrpo resume``, until it ends; then it is compared with the run
that nothing came between. Commands run in children of one process that has all modules loaded, as they start at once.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from safetensors.torch import load_file

from mixgrpo_core.runs.checkpoint import read_checkpoint
from mixgrpo_core.runs.folder import RunFolder

ITERATIONS, MOST_KILLS = 7, 5
RUN = f"""
[model]
rank = 2
[prompts]
train = ["a small red circle on the left", "a large blue cross in the middle"]
held_out = ["a small green square at the top"]
[rewards]
shape = "ShapeReward()"
[train]
iterations = {ITERATIONS}
checkpoint_every = 1
keep = 2
steps = 4
images_per_prompt = 2
prompts_per_iteration = 1
updates = 1
ema = 0.8
planner = "WindowPlanner(window=FrozenWindow(size=2, start=0))"
eval_every = 2
eval_images = 1
"""
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SERVER = """
import json, os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import matplotlib.pyplot
from mixgrpo_core.cli import main
from mixgrpo_core.models.families.demo import load_demo

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

def aimed(run, number, after, at_event):
    "Sends this process the signal some seconds after the start, or after the writing event of that number."
    left, reached = [at_event], threading.Event()

    def hear(event, arguments):
        if not left[0] or not (event in ("os.rename", "os.remove", "os.mkdir") or event == "open"):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITES):
            return
        if isinstance(arguments[0], int) or not os.path.abspath(os.fsdecode(arguments[0])).startswith(run):
            return
        left[0] -= 1
        if not left[0]:
            if not after:
                os.kill(os.getpid(), number)
            reached.set()

    def shoot():
        if at_event:
            reached.wait()
        time.sleep(after)
        os.kill(os.getpid(), number)

    if at_event:
        sys.addaudithook(hear)
    if after:
        threading.Thread(target=shoot, daemon=True).start()

load_demo(rank=2)
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if (pid := os.fork()) == 0:
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if asked["aim"]:
            aimed(*asked["aim"])
        status = 70
        try:
            status = main(asked["words"])
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 71
        finally:
            sys.stdout.flush()
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Commands:
    """``mixgrpo WORDS`` in a child of its own; ``aim`` is (run folder, signal, seconds, number of a writing event)."""

    def __init__(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        command, pipe = [sys.executable, "-c", SERVER], subprocess.PIPE
        self._process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=-3, text=True)
        assert self._process.stdout.readline() == "ready\n"

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()

    def run(self, words, log, aim=None):
        """The exit status, or minus the signal that ended it."""
        print(
            json.dumps({"words": [str(word) for word in words], "log": str(log), "aim": aim}),
            end="\n",
            file=self._process.stdin,
        )
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


class Differs(AssertionError):
    """A run that does not end as the one that nothing came between."""


class Story:
    """One run in ``folder``; ``told`` are its kills: how aimed, which signal, how many iterations were there."""

    def __init__(self, commands, folder, chance, seconds):
        self.commands, self.folder, self.chance, self.seconds = commands, Path(folder), chance, seconds
        self.run, self.told, self.again = self.folder / "run", [], 0
        self.folder.mkdir(parents=True)
        (self.folder / "run.toml").write_text(f'out = "{self.run}"\n{RUN}')

    def play(self, kills):
        """Kill it so often, or until it is at its end; then let it end."""
        for _ in range(kills):
            if self._go_on(self._aim()) == 0:
                break
        if (status := self._go_on(None)) != 0:
            raise Differs(f"the last command ended with {status}: {self._last_words()}")
        return self

    def _aim(self):
        number = self.chance.choice(SIGNALS)
        if self.chance.random() < 0.4:
            return (str(self.run), number, round(self.chance.uniform(0.001, self.seconds * 0.6), 4), 0)
        after = 0 if self.chance.random() < 0.5 else round(self.chance.uniform(0.0001, 0.02), 5)
        return (str(self.run), number, after, self.chance.randrange(1, 40))

    def _go_on(self, aim):
        begun = (self.run / "config.json").exists()
        words = ["resume", self.run] if begun else ["train", self.folder / "run.toml"]
        before, had = lines(self.run), checkpointed(self.run)
        status = self.commands.run(words, self.folder / "log", aim)
        if aim is None or status == 0:
            return status
        asked = aim[1]
        if status == -signal.SIGKILL and asked == signal.SIGKILL:
            pass
        elif asked == signal.SIGKILL or status <= 0 or status in (1, 2, 70, 71):
            raise Differs(f"{words[0]}, sent {signal.Signals(asked).name}, ended with {status}: {self._last_words()}")
        done, kept = lines(self.run), checkpointed(self.run)
        as_it_was = (done, kept) == (before, had)  # stopped while it loaded: an earlier kill's line, at most
        if asked != signal.SIGKILL and kept < done and not as_it_was:
            raise Differs(f"{signal.Signals(asked).name} lost {done - kept} iterations of {done}")
        self.again += max(0, done - kept)
        self.told.append(
            {"signal": signal.Signals(asked).name, "aim": "writing" if aim[3] else "time", "done": done - before}
        )
        return status

    def _last_words(self):
        return (self.folder / "log").read_text(errors="replace")[-1500:]

    def compare(self, whole):
        """Raises `Differs` unless everything is as in the run ``whole``."""
        if timeless(self.run) != timeless(whole):
            raise Differs("the metrics differ")
        names = [sorted(path.name for path in (run / "lora").iterdir()) for run in (self.run, whole)]
        if names[0] != names[1]:
            raise Differs(f"LoRAs {names[0]} instead of {names[1]}")
        pairs = [(load_file(self.run / "lora" / name), load_file(whole / "lora" / name)) for name in names[1]]
        last = f"checkpoints/{ITERATIONS:06}.safetensors"
        pairs.append(tuple(read_checkpoint(run / last).tensors for run in (self.run, whole)))
        for found, wanted in pairs:
            different = [
                name for name in wanted if not name.startswith("random") and not found[name].equal(wanted[name])
            ]
            if found.keys() != wanted.keys() or different:
                raise Differs(f"tensors differ: {different[:5]}")
        if left := [path.name for path in self.run.rglob(".*") if "tmp" in path.name]:
            raise Differs(f"left behind: {left}")


def lines(run):
    """Whole lines of metrics."""
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def checkpointed(run):
    """The iterations of the newest whole checkpoint."""
    try:
        latest = RunFolder.open(run).latest()
    except RuntimeError:
        return 0
    return latest.iteration if latest else 0


def timeless(run):
    kept = (run / "metrics.jsonl").read_text().splitlines()
    left_out = ("seconds", "peak_memory")
    return [{key: value for key, value in json.loads(line).items() if key not in left_out} for line in kept]


def kill_many(count, folder, progress, tell):
    """Stories until so many kills are done; returns those that differ."""
    with Commands() as commands:
        whole = folder / "whole" / "run"
        whole.parent.mkdir(parents=True)
        (whole.parent / "run.toml").write_text(f'out = "{whole}"\n{RUN}')
        start = time.monotonic()
        assert commands.run(["train", whole.parent / "run.toml"], folder / "whole" / "log") == 0
        seconds, number = time.monotonic() - start, 0
        while sum(len(case["kills"]) for case in progress.cases.values()) < count and not _hopeless(progress):
            if number not in progress.cases:
                _one(number, commands, folder / f"{number}", seconds, whole, progress)
                tell.now_and_then(f"kills: {sum(len(case['kills']) for case in progress.cases.values())} of {count}")
            number += 1
    return {case["case"]: case["differs"] for case in progress.cases.values() if case["differs"]}


def _hopeless(progress):
    return sum(bool(case["differs"]) for case in progress.cases.values()) > 20


def _one(number, commands, folder, seconds, whole, progress):
    start, differs = time.monotonic(), ""
    story = Story(commands, folder, random.Random(f"kills:{number}"), seconds)
    try:
        story.play(MOST_KILLS).compare(whole)
    except Differs as error:
        differs = str(error)
    progress.add(case=number, seconds=time.monotonic() - start, kills=story.told, again=story.again, differs=differs)
