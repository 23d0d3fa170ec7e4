"""Runs that are being trained right now: what they tell the browser, and the commands that wait for them.

Training runs in the host's worker thread, the routes in the server's event loop: both meet here, under a lock.
"""

import threading
from collections import deque
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import comfy.model_management
from torch import Tensor

from ...mixgrpo_core.runs.reports import Event, GroupScored, Pictured, Progress, StepReport, Waiting
from ...mixgrpo_core.sampling.planners import StepPlan
from ...mixgrpo_core.training.pace import Pace
from . import sheet
from .diagnosis import diagnosis_payload
from .events import Line, harmless, reference, workflow_id
from .gallery import gallery_payload
from .tasting import Tasting
from .throttle import Throttle
from .voting import Voting

PlanOf = Callable[[int, int, Tensor], StepPlan]
"""The plan of an iteration, a prompt and a grid."""

PHASES = {"rollout": "sampling", "train": "updating", "evaluation": "evaluating", "gallery": "picturing"}
"""The core's phases in the words of the live view."""
STATES = frozenset({*PHASES.values(), "loading", "scoring", "voting", "saving", *("paused", "stopped", "finished")})
STATES |= {"interrupted", "failed"}
ENDED = frozenset({"paused", "stopped", "finished", "interrupted", "failed"})
PROGRESS_SECONDS, SHEET_SECONDS = 0.25, 0.5


class Command(Enum):
    """What the buttons of the live view ask of a run."""

    SAMPLE = "sample"
    SAVE = "save"
    PAUSE = "pause"
    STOP = "stop"


class LiveRun:
    """One training run, seen from outside; the trainer's observer.

    Live inside ``with``; however that ends, a last status says how.

    Attributes:
        voting: hears of the ballots that the run waits for.
        tasting: hears what a taste believes.

    Args:
        run: name of the run, that of its folder.
        node: id of the trainer node on the canvas.
        folder: the run's folder.
        iterations: how many the run has in all; -1 until it is stopped.
        plan_of: which steps are trained.
        sigmas: the base grid ``[T + 1]`` of the rollouts.
        pace: how long it takes.
        expected: the same in words, before an iteration was timed.
    """

    def __init__(
        self,
        *,
        run: str,
        node: str,
        folder: Path,
        iterations: int,
        plan_of: PlanOf,
        sigmas: Tensor,
        pace: Pace,
        expected: str = "",
    ) -> None:
        self.run, self.node, self.folder = run, str(node), folder
        self.iterations, self.plan_of, self.sigmas = iterations, plan_of, sigmas
        self._line = Line(run, self.node, iterations)
        self._lock = threading.Lock()
        self._pending: deque[Command] = deque()
        self._pace, self._peak, self._expected = pace, 0, expected
        self.voting = Voting(self._line, folder, self.status, self._leaving)
        self.tasting = Tasting(self._line, folder, Throttle(SHEET_SECONDS))
        self._progress_gate, self._sheet_gate = Throttle(PROGRESS_SECONDS), Throttle(SHEET_SECONDS)
        self._seen: dict[str, Any] = {"run": run, "node": self.node, "iterations": iterations, "workflow": None}
        self._seen |= {"state": "loading", "note": "", "progress": None, "group": None}

    def __enter__(self) -> "LiveRun":
        self._seen["workflow"] = self._line.workflow = workflow_id()
        board.add(self)
        self._pace.start()
        self.status("loading", self._expected)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        board.end(self)
        with self._lock:
            self._pending.clear()
            said = (self._seen["state"], self._seen["note"])
        interrupted = kind and issubclass(kind, comfy.model_management.InterruptProcessingException | KeyboardInterrupt)
        if kind and not interrupted:
            self.status("failed", str(error))
        elif said[0] in ENDED:  # the trainer has named the end: a pause ends the prompt by an interrupt, too
            self.status(*said)
        else:
            self.status("interrupted" if interrupted else "finished")

    def __call__(self, event: Event) -> None:
        """The core's observer. Raises the host's interrupt as soon as the user asks for it."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._pace.hear(event)
        with harmless():
            if isinstance(event, GroupScored):
                self._group(event)
            elif isinstance(event, Waiting):
                self.voting.wait(event.groups)
            elif isinstance(event, Pictured):
                self.show_gallery(event.problem, new=event.iteration)
            else:
                self._progress(event)

    def status(self, state: str, note: str = "") -> None:
        """Say what the run is doing, one of ``STATES``, with a sentence where there is more to say."""
        if state not in STATES:
            raise ValueError(f"expected a state of {sorted(STATES)}, found {state!r}")
        self._remember(state=state, note=note)
        with harmless():
            self._send_status()

    def report(self, report: StepReport) -> None:
        """An iteration is whole."""
        self._pace.finished(report)
        self._expected = ""  # from now on its own seconds count
        self._peak = max(self._peak, report.peak_memory)
        with harmless():
            self.tasting.tell()
            told = {"report": report.to_json(), "diagnosis": diagnosis_payload(self.folder)}
            self._line.send("report", **told, **self._times(report.iteration + 1))
            self._line.bar(report.iteration + 1)

    def show_gallery(self, problem: str = "", new: int | None = None) -> None:
        """The gallery has changed; ``new`` is the iteration of an entry that was made now."""
        told = gallery_payload(self.folder)
        self._line.send("gallery", **{**told, "problem": problem or told["problem"], "new": new})

    def pictures_wanted(self) -> bool:
        """Whether somebody asked for pictures; it is asked no longer then."""
        with self._lock:
            wanted = Command.SAMPLE in self._pending
            if wanted:
                self._pending.remove(Command.SAMPLE)
        if wanted:
            self._send_status()
        return wanted

    def take(self) -> Command | None:
        """The oldest command that waits, if any but for pictures; it no longer waits then."""
        with self._lock:
            command = next((command for command in self._pending if command is not Command.SAMPLE), None)
            if command is not None:
                self._pending.remove(command)
        if command is not None:
            self._send_status()
        return command

    def ask(self, command: Command) -> None:
        """Let a command wait for the end of the iteration; asked twice it waits once. For the routes."""
        with self._lock:
            if command not in self._pending:
                self._pending.append(command)
        self._send_status()

    def snapshot(self) -> dict[str, Any]:
        """What the run said last, as JSON values: state, progress, group, ballot and the commands that wait."""
        ballot = self.voting.snapshot()
        with self._lock:
            pending = [command.value for command in self._pending]
            return {**self._seen, "ballot": ballot, "pending": pending, "serial": self._line.serial}

    def _leaving(self) -> bool:
        """Whether a command waits that ends the training: nobody need vote before it."""
        with self._lock:
            return Command.PAUSE in self._pending or Command.STOP in self._pending

    def _remember(self, **seen: Any) -> None:
        with self._lock:
            self._seen.update(seen)

    def _send_status(self) -> None:
        seen = self.snapshot()
        self._line.send("status", **{name: seen[name] for name in ("state", "note", "pending", "iterations")})

    def _progress(self, event: Progress) -> None:
        scoring = event.phase == "rollout" and event.done == event.total
        state = "voting" if self.voting.asks else "scoring" if scoring else PHASES[event.phase]
        data = {
            "iteration": event.iteration,
            "phase": state,
            "done": event.done,
            "total": event.total,
            "note": self._expected,
            **self._times(event.iteration),
        }
        changed = state != self._seen["state"]
        self._remember(progress=data, state=state, note=self._expected)
        if self._progress_gate.open(changed):
            self._line.send("progress", **data)
            self._line.bar(event.iteration)

    def _times(self, done: int) -> dict[str, Any]:
        return {
            "iterations": self.iterations,
            "seconds_per_iteration": self._pace.seconds_per_iteration,
            "seconds_left": self._pace.seconds_left(done),
            "peak_memory": self._peak or None,
        }

    def _group(self, event: GroupScored) -> None:
        if not self._sheet_gate.open(False):
            return
        made = sheet.contact_sheet(event.images, event.scores, event.advantage)
        path = sheet.save(made, self.run)
        data = {"iteration": event.iteration, "prompt": event.prompt, "image": reference(path), **made.layout()}
        self._remember(group=data)
        self._line.send("group", **data)


class Snapshot(Protocol):
    """Something that can say how it stands."""

    def snapshot(self) -> dict[str, Any]: ...


class Board:
    """The runs that are live, by name, and what ended ones said last.

    Attributes:
        preparing: the trainer that has no run yet, or the last one that failed before it had one.
    """

    KEPT = 32

    def __init__(self) -> None:
        self.preparing: Snapshot | None = None
        self._lock = threading.Lock()
        self._live: dict[str, LiveRun] = {}
        self._ended: dict[str, LiveRun] = {}

    def add(self, run: LiveRun) -> None:
        with self._lock:
            self._ended.pop(run.run, None)
            self._live[run.run] = run

    def end(self, run: LiveRun) -> None:
        with self._lock:
            if self._live.get(run.run) is run:
                del self._live[run.run]
            self._ended[run.run] = run
            while len(self._ended) > self.KEPT:
                del self._ended[next(iter(self._ended))]

    def live(self) -> list[LiveRun]:
        with self._lock:
            return list(self._live.values())

    def find(self, run: str) -> LiveRun | None:
        """The live run of that name."""
        with self._lock:
            return self._live.get(run)

    def ended(self, run: str) -> LiveRun | None:
        """The run of that name that ended since the host started."""
        with self._lock:
            return self._ended.get(run)


board = Board()
"""The one board of this process."""
