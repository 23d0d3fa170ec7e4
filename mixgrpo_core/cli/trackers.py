"""A run on a tracker, wandb or trackio: libraries that the user has, imported when one is asked for."""

import math
from collections import defaultdict
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, Protocol, cast
from uuid import uuid4

from ..runs.folder import RunFolder
from ..runs.reports import StepReport
from ..support.files import read_text, write_atomically
from .loggers import Logger
from .scalars import scalars

TrackerName = Literal["wandb", "trackio"]
PROJECT = "mixgrpo"
_NOTE = "tracker.txt"
"""In the run folder: by which name the tracker knows the run, so that a resumed run goes on there."""


class _Library(Protocol):
    """What the two libraries have in common, as both document it."""

    def init(self, *, project: str, name: str, config: Mapping[str, Any], resume: str) -> Any: ...
    def log(self, data: Mapping[str, Any], step: int) -> Any: ...
    def finish(self) -> Any: ...


def require_tracker(name: TrackerName | None) -> None:
    """Raise ``ImportError`` where the library that is asked for is not there."""
    if name is not None and find_spec(name) is None:
        raise ImportError(f"--tracker {name} needs the package {name}: pip install {name}, or leave the tracker out")


class Tracker(Logger):
    """Sends scalars of each report to a tracker, under the project ``mixgrpo``.

    The library's own settings hold: where it sends them, or that it stays offline.
    """

    def __init__(self, library: TrackerName, run: RunFolder, setup: Mapping[str, Any]) -> None:
        """``setup``: what the tracker shows as the run's configuration, as JSON values."""
        self._name, self._run, self._setup = library, run, setup
        super().__init__(f"{library} takes no reports")

    def _begin(self) -> bool:
        self._library = cast(_Library, import_module(self._name))
        known = _known_as(self._run)
        if self._name == "wandb":  # tells runs apart by an id, trackio by the name
            wandb = cast(Any, self._library)
            wandb.init(
                project=PROJECT,
                name=self._run.path.name,
                id=known,
                config=self._setup,
                resume="allow",
                dir=str(self._run.path),
            )
        else:
            name = f"{self._run.path.name}-{known}"
            self._library.init(project=PROJECT, name=name, config=self._setup, resume="allow")
        return True

    def _show(self, report: StepReport) -> None:
        by_step: dict[int, dict[str, Any]] = defaultdict(dict)
        for name, value, step in scalars(report):
            if math.isfinite(value):
                by_step[step][name] = value
        for alarm in report.warnings:
            by_step[report.iteration + 1][f"guards/{alarm.guard}"] = f"{alarm.level}: {alarm.sentence}"
        for step in sorted(by_step):  # steps only rise
            self._library.log(by_step[step], step=step)

    def _end(self) -> None:
        self._library.finish()


def _known_as(run: RunFolder) -> str:
    note = run.path / _NOTE
    if not note.is_file():
        write_atomically(note, uuid4().hex[:8].encode())
    return read_text(note).strip()
