"""Cases of a fuzz in a forked worker: thousands a minute, each with bounds on memory, time and where it writes."""

import contextlib
import importlib.util
import io
import linecache
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from campaigns.progress import ROOT
from campaigns.watch import Canary, Watch
from mixgrpo_core.support.micro_batches import ran_out
from mixgrpo_core.support.quoting import cause

CPU_SECONDS, WALL_SECONDS = 10.0, 180.0
ROOM, ADDRESSES = 256 << 20, 3 << 30
"""Bytes that a case may use above what the worker has, and addresses that it may ask for."""
LONGEST = 1500
"""Characters of a sentence."""
JUDGE = Path(importlib.util.find_spec("mixgrpo_judge").origin).parent
OURS = tuple(str(place) + os.sep for place in (ROOT / "mixgrpo_core", ROOT / "nodes", JUDGE))
ACCEPTED, SENTENCE, FAULT = "accepted", "sentence", "fault"


@dataclass(frozen=True)
class Outcome:
    """How a case ended, in CPU seconds and bytes above the worker's own."""

    case: int
    outcome: str
    words: str
    cpu: float = 0.0
    memory: int = 0


def judged(error, told):
    """Whether an error is a sentence: one that we raise, in words, of a kind that is ``told`` without a traceback."""
    words = str(error)
    where = traceback.extract_tb(error.__traceback__)
    full = "".join(traceback.format_exception(error))[-4000:]
    if not isinstance(error, told):
        return FAULT, full
    if isinstance(error, OSError) and error.strerror:
        words = cause(error)  # as the command line tells it: the system quotes the whole path
    if len(words) > LONGEST:
        return FAULT, f"{len(words)} characters are no sentence: {words[:300]} ...\n{full[-1500:]}"
    if " " not in words.strip() or "Traceback" in words:
        return FAULT, f"no sentence: {words!r}\n{full}"
    if not (isinstance(error, OSError) and error.strerror) and not _raised_by_us(where):
        return FAULT, f"a {type(error).__name__} that nobody of ours put into words\n{full}"
    return SENTENCE, words


def _raised_by_us(where):
    last = where[-1]
    return last.filename.startswith(OURS) and linecache.getline(last.filename, last.lineno).strip().startswith("raise")


class Worker:
    """A child that runs cases of a target, and is replaced when one of them ends it.

    A target has ``told``, the errors that are sentences to its user; ``write(folder, chance)``, which makes a mutated
    input; and ``take(folder)``, which does with it what the program does, and returns words when it was accepted.
    """

    def __init__(self, target, folder):
        self.target, self.folder = target, Path(folder)
        self._process = None

    def run(self, case):
        """The outcome of one case; its folder is kept when that is a fault."""
        if self._process is None:
            self._start()
        place = self.folder / "cases" / f"{case}"
        self._pipe.send(case)
        try:
            outcome = self._pipe.recv() if self._pipe.poll(WALL_SECONDS) else None
        except EOFError:
            outcome = None
        if isinstance(outcome, str):
            raise RuntimeError(f"case {case} could not be made:\n{outcome}")
        if outcome is None:
            outcome = Outcome(case, FAULT, self._end())
        if outcome.outcome != FAULT:
            shutil.rmtree(place, ignore_errors=True)
        return outcome

    def stop(self):
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def _start(self):
        context = multiprocessing.get_context("fork")
        self._pipe, end = context.Pipe()
        self._process = context.Process(target=_serve, args=(self.target, self.folder, end), daemon=True)
        self._process.start()
        end.close()

    def _end(self):
        """Why there is no outcome."""
        self._process.join(1)
        code = self._process.exitcode
        self.stop()
        if code is None:
            return f"no end within {WALL_SECONDS:g} s"
        if code == -signal.SIGPROF:
            return f"more than {CPU_SECONDS:g} CPU seconds"
        return f"ended the process: {signal.Signals(-code).name if code < 0 else code}"


def _serve(target, folder, pipe):
    """The worker's life: it has a home, a working folder and limits of its own."""
    (folder / "cases").mkdir(parents=True, exist_ok=True)
    canary, watch = Canary(folder / "canary"), Watch()
    canary.move_in()
    sys.dont_write_bytecode = True
    warnings.simplefilter("ignore")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (_bytes("VmSize") + ADDRESSES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if hasattr(target, "open"):
        target.open()
    while True:
        try:
            case = pipe.recv()
        except EOFError:
            os._exit(0)
        try:
            pipe.send(_one(target, folder / "cases" / f"{case}", case, watch, canary))
        except Exception:  # of the campaign itself
            pipe.send(traceback.format_exc())


def _one(target, place, case, watch, canary):
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    chance = random.Random(f"{type(target).__name__}:{case}")
    target.write(place, chance)
    before, had, start = canary.state(), _restarted_peak(), time.process_time()
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    watch.own, watch.seen = place, []
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as told:
            outcome, words = _ended(target, place, told)
    finally:
        watch.own = None
        signal.setitimer(signal.ITIMER_PROF, 0)
    seconds, memory = time.process_time() - start, max(0, _bytes("VmHWM") - had)
    after = canary.state()
    strange = [*watch.seen, *(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))]
    if strange:
        outcome, words = FAULT, f"touched {', '.join(strange[:5])}; it had ended as {outcome}: {words[:500]}"
    elif memory > ROOM:
        outcome, words = FAULT, f"took {memory >> 20} MiB; it had ended as {outcome}: {words[:500]}"
    return Outcome(case, outcome, words, round(seconds, 4), memory)


def _ended(target, place, told):
    try:
        return ACCEPTED, str(target.take(place) or "")
    except SystemExit as error:
        words = told.getvalue()
        return (SENTENCE, words[:LONGEST]) if error.code == 2 and words.strip() else (FAULT, f"exit {error.code}")
    except (RuntimeError, MemoryError) as error:
        if ran_out(error):  # which the command line tells in words of its own
            return SENTENCE, "out of memory"
        return judged(error, target.told)
    except Exception as error:
        return judged(error, target.told)


def _bytes(name):
    """Of this process, as Linux tells them."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(name + ":"))


def _restarted_peak():
    """Bytes in use now; the peak counts from here on."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _bytes("VmRSS")


def as_case(outcome, seconds=0.0):
    """The line of a progress file; ``seconds`` on the wall, its making included."""
    case = {**asdict(outcome), "seconds": round(seconds, 4)}
    return case if outcome.outcome == FAULT else {**case, "words": ""}
