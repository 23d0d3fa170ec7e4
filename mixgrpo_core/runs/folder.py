"""A run on disk: what it was asked to do, what happened, and where to go on.

<run>/config.json               settings, format version
      metrics.jsonl             one StepReport per line, cut back to the checkpoint on resume
      checkpoints/000010.safetensors
      prompts/*.safetensors     what text encoders made of the prompts, where a model keeps it
      lora/last.safetensors     best.safetensors (by held-out reward, else by training reward), ema.safetensors,
                                kept.safetensors (chosen from the gallery)
      gallery/000010/           how a few prompts look after so many iterations, and the LoRA (`gallery`)
"""

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from ..settings.config import TrainConfig, from_dict
from ..settings.kinds import missing_guests
from ..support.files import exclusive, make_folder, write_atomically
from .checkpoint import Snapshot
from .checkpoints import Checkpoints
from .errors import RunError
from .metrics import MetricsFile, iterations_done
from .older import FORMAT, present_settings
from .reports import StepReport
from .settings_file import (
    NewerFormat,
    asked,
    changed_settings,
    checked_settings,
    read_settings,
    settings_of_newest,
)

R = TypeVar("R", bound="RunFolder")
LORAS = ("kept", "ema", "last", "best")
"""Kinds of LoRA files that a run may have, the one that is the run's first."""


class RunFolder:
    """Open with ``create`` or ``open``; everything it writes is whole or not there."""

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path = path
        self.config = config
        self._kept, self._told = Checkpoints(path), MetricsFile(path / "metrics.jsonl")
        self._written = True  # whether config.json is what ``config`` says

    @classmethod
    def create(cls: type[R], path: str | Path, config: TrainConfig, setup: Mapping[str, Any] | None = None) -> R:
        """Start a new run at ``path``, which must not exist or be empty.

        Args:
            setup: what else must be the same on resume (model, prompts, rewards), as JSON values.

        Raises:
            RunError: the path holds something, or cannot be written.
        """
        path = Path(path)
        cls.require_free(path)
        try:
            make_folder(path)
            started = datetime.now(timezone.utc).isoformat(timespec="seconds")
            run = cls(path, {"format": FORMAT, "started": started, **asked(config, setup)})
            run._write_config()
        except OSError as error:
            raise RunError(
                f"cannot write a run to {path} ({error.strerror}): choose a folder you may write to"
            ) from error
        return run

    @staticmethod
    def require_free(path: str | Path) -> None:
        """Raise ``RunError`` when a new run cannot be made at ``path`` because something is there."""
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise RunError(f"cannot write a run to {path} (it is a file): choose a folder")
        if path.exists() and any(entry.suffix != ".tmp" for entry in path.iterdir()):
            raise RunError(f"{path} exists and is not empty: choose another folder, or resume the run that is there")

    @classmethod
    def open(cls: type[R], path: str | Path) -> R:
        """Open a run that ``create`` made. Settings that cannot be read are taken from its newest checkpoint.

        Raises:
            RunError: there is no run, or nothing that says what it was asked to do.
        """
        path = Path(path)
        try:
            return cls(path, read_settings(path / "config.json"))
        except NewerFormat as error:
            raise RunError(f"{path} cannot be read: {error}. Use the version that wrote it") from error
        except (OSError, ValueError) as error:
            run = cls(path, {})
            found = settings_of_newest(run.checkpoints)
            if found is None:
                raise RunError(
                    f"{path} is not a run folder: expected a readable config.json in it ({error})"
                ) from error
            run.config, run._written = found[1], False
            warnings.warn(
                f"{path / 'config.json'} cannot be used ({error}): the settings are those that {found[0].name} holds a "
                "copy of",
                RuntimeWarning,
                stacklevel=2,
            )
            return run

    @classmethod
    def open_or_create(
        cls: type[R], path: str | Path, config: TrainConfig, setup: Mapping[str, Any] | None = None
    ) -> R:
        """The run at ``path`` if there is one, else a new one: a script that is started again goes on."""
        there = cls(Path(path), {})
        is_run = (there.path / "config.json").exists() or bool(there.checkpoints)
        return cls.open(path) if is_run else cls.create(path, config, setup)

    def require(self, config: TrainConfig, setup: Mapping[str, Any] | None = None) -> None:
        """Refuse to go on with other settings than the run was started with.

        More iterations extend it, and the sizes of batches, how often and how many checkpoints are written, and what
        guards it (``MAY_CHANGE``) may change; with other batches a resumed run equals the uninterrupted one to rounding
        and not bit for bit. Settings of an older version are compared under their present names (`present_settings`).

        Raises:
            RunError: names every setting that differs.
        """
        new = {**self.config, "format": FORMAT, **asked(config, setup)}
        changed = changed_settings(self.config, new)
        if changed:
            raise RunError(
                f"{self.path} is a run of other settings ({'; '.join(changed)}): resume it with its own, or start a "
                "new run folder"
            )
        if new != self.config or not self._written:
            self.config = new
            self._write_config()

    def require_guests(self) -> None:
        """Raise ``RunError`` when a class that the run uses and that is not the core's own has not been registered.

        It is not looked for: opening a run imports nothing.
        """
        missing = missing_guests(self.config.get("guests", {}))
        if missing:
            names, modules = (", ".join(dict.fromkeys(words)) for words in (missing, missing.values()))
            flags = " ".join(f"--import {module}" for module in dict.fromkeys(missing.values()))
            raise RunError(
                f"{self.path} uses {names} of {modules}, which is not imported here: add {flags} to the command, or "
                "start ComfyUI with the custom node that brings it"
            )

    @property
    def settings(self) -> TrainConfig:
        """What the run was asked to do, as this version knows it.

        Raises:
            RunError: the settings cannot be read, in one sentence.
        """
        self.require_guests()
        try:
            return from_dict(present_settings(self.config))
        except ValueError as error:
            raise RunError(f"the settings of {self.path} cannot be read: {error}") from error

    @property
    def started(self) -> datetime:
        """When the run was begun, with its time zone."""
        return datetime.fromisoformat(self.config["started"])

    @property
    def checkpoints(self) -> list[Path]:
        """Checkpoint files, newest first."""
        return self._kept.files

    @property
    def done(self) -> int:
        """Iterations that the newest checkpoint holds; 0 for a run without one."""
        return self._kept.done

    def require_checkpoints(self) -> None:
        """Raise ``RunError`` where the run has trained and its checkpoints are gone: it would begin anew over its LoRA.

        A run that was stopped before its first checkpoint has left nothing, and begins.
        """
        left = [self.lora(name) for name in LORAS if self.lora(name).exists()]
        if self.metrics():
            left.append(self._told.path)
        if left and not self.checkpoints:
            raise RunError(
                f"expected the checkpoints of {self.path} in {self.path / 'checkpoints'}, found none, though it has "
                f"trained ({left[0]}): put that folder back, or start a new run, elsewhere or after moving these files "
                "away; it may start from the LoRA"
            )

    def latest(self) -> Snapshot | None:
        """The newest whole checkpoint; a corrupt one is passed over with a warning. None before a run's first.

        Raises:
            RunError: they are gone, or none can be read.
        """
        self.require_checkpoints()
        snapshot = self._kept.latest()
        if snapshot is not None and snapshot.iteration == self.done:
            self._tell_gone(snapshot.iteration)
        return snapshot

    def _tell_gone(self, newest: int) -> None:
        """Warn where more iterations were recorded after the newest checkpoint than a kill can have cost.

        While one is written in a thread, the run goes on, at most until the next is due.
        """
        recorded = iterations_done(self.metrics())
        asked = self.config.get("train", {}).get("checkpoint_every")
        if recorded - newest > 2 * (asked if type(asked) is int else TrainConfig().checkpoint_every):
            warnings.warn(
                f"{self.path} goes on after iteration {newest}, though {recorded} have been done: the checkpoints of "
                "the others are gone. They are done again",
                RuntimeWarning,
                stacklevel=3,
            )

    def require_own(self, settings: object) -> None:
        """Raise ``RunError`` where the settings that came with a checkpoint are not this run's: it is another run's."""
        if settings is None:  # an older version kept no copy
            return
        changed = changed_settings(checked_settings(settings), self.config)
        if changed:
            raise RunError(
                f"{self.path} holds a checkpoint of a run of other settings ({'; '.join(changed)}): put its own "
                "checkpoints and config.json back, or start a new run folder"
            )

    def save(self, snapshot: Snapshot, keep: int) -> None:
        """Write a checkpoint, then drop old ones but for the newest ``keep`` and the best."""
        self._kept.save(replace(snapshot, settings=self.config), keep)

    def lora(self, name: str) -> Path:
        """Where the LoRA file ``name`` (one of ``LORAS``) belongs."""
        return self.path / "lora" / f"{name}.safetensors"

    def record(self, report: StepReport) -> None:
        """Append a report to ``metrics.jsonl``."""
        self._told.add(report)

    def metrics(self) -> list[dict[str, Any]]:
        """The recorded reports, oldest first. Lines that are none, such as one torn by a crash, are left out."""
        return list(self._told.read().reports)

    def cut_metrics(self, iteration: int) -> None:
        """Forget reports from ``iteration`` on: those iterations will be done again. What is missing is said."""
        self._told.cut(iteration)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only process that goes on with this run. Raises ``RunError`` when another does."""
        with ExitStack() as stack:
            try:
                stack.enter_context(exclusive(self.path / ".lock"))
            except OSError as error:
                raise RunError(
                    f"{self.path} cannot be locked ({error.strerror}): another process may be training in it; wait for "
                    "it or stop it"
                ) from error
            yield

    @property
    def texts(self) -> Path:
        """Where a model may keep what its text encoders made of the run's prompts. It can be made again."""
        return self.path / "prompts"

    def rewrite(self, config: TrainConfig, setup: Mapping[str, Any]) -> None:
        """Say anew what a run that has not begun is asked to do."""
        self.config = {**self.config, **asked(config, setup)}
        self._write_config()

    def discard(self) -> None:
        """Take away a run that has not begun: its settings and its encoded prompts, and the folder if that is all."""
        shutil.rmtree(self.texts, ignore_errors=True)
        (self.path / "config.json").unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()

    def sweep(self) -> None:
        """Remove what a killed process left half written. Only for who goes on with the run."""
        for path in (*self.path.rglob(".*.tmp"), *self.path.rglob(".tmp??????")):  # the latter are safetensors' own
            path.unlink(missing_ok=True)

    def _write_config(self) -> None:
        write_atomically(self.path / "config.json", json.dumps(self.config, indent=1).encode())
        self._written = True
