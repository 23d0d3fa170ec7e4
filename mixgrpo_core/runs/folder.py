"""A run on disk: what it was asked to do, what happened, and where to go on.

<run>/config.json               settings, format version
      metrics.jsonl             one StepReport per line, cut back to the checkpoint on resume
      checkpoints/000010.safetensors
      lora/last.safetensors     best.safetensors (by held-out reward), ema.safetensors
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from ..settings.config import TrainConfig, differences, from_dict, to_dict
from ..settings.kinds import guests_of, missing_guests
from ..support.files import exclusive, write_atomically
from ..support.setting import settings_of
from .checkpoint import CorruptCheckpoint, Snapshot, read_checkpoint, write_checkpoint
from .older import FORMAT, READABLE, present_settings
from .reports import StepReport

FREE = tuple(name for name, told in settings_of(TrainConfig) if told.may_change)
"""Settings that may differ when a run is gone on with."""


R = TypeVar("R", bound="RunFolder")


class RunError(RuntimeError):
    """A run folder that cannot be used; the sentence says why and what to do."""


class RunFolder:
    """Open with ``create`` or ``open``; everything it writes is whole or not there."""

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path = path
        self.config = config

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
            path.mkdir(parents=True, exist_ok=True)
            started = datetime.now(timezone.utc).isoformat(timespec="seconds")
            run = cls(path, {"format": FORMAT, "started": started, **_asked(config, setup)})
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
        """Open a run that ``create`` made. Raises ``RunError`` when there is none."""
        path = Path(path)
        try:
            config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is not a run folder: expected a readable config.json in it ({error})") from error
        found = config.get("format") if isinstance(config, dict) else None
        if found not in READABLE:
            raise RunError(
                f"{path} was written in format {found}; this version reads {' and '.join(map(str, READABLE))}"
            )
        return cls(path, config)

    @classmethod
    def open_or_create(
        cls: type[R], path: str | Path, config: TrainConfig, setup: Mapping[str, Any] | None = None
    ) -> R:
        """The run at ``path`` if there is one, else a new one: a script that is started again goes on."""
        return cls.open(path) if (Path(path) / "config.json").exists() else cls.create(path, config, setup)

    def require(self, config: TrainConfig, setup: Mapping[str, Any] | None = None) -> None:
        """Refuse to go on with other settings than the run was started with.

        More iterations extend it, and the sizes of batches, how often and how many checkpoints are written, and what
        guards it (``FREE``) may change; with other batches a resumed run equals the uninterrupted one to rounding and
        not bit for bit. Settings of an older version are compared under their present names (`present_settings`).

        Raises:
            RunError: names every setting that differs.
        """
        new = {**self.config, "format": FORMAT, **_asked(config, setup)}
        free = dict.fromkeys(FREE)
        changed = differences({**self._present_train(), **free}, {**new["train"], **free})
        changed += differences(self.config["setup"], json.loads(json.dumps(new["setup"])))
        if changed:
            raise RunError(
                f"{self.path} is a run of other settings ({'; '.join(changed)}): resume it with its own, or start a "
                "new run folder"
            )
        if new != self.config:
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

    def _present_train(self) -> dict[str, Any]:
        """The settings as they would be written today. Classes that are not registered are left as they were spelled:
        in Python a run may use one without, though no command can then open it."""
        present = present_settings(self.config)
        try:
            return to_dict(from_dict(present))
        except ValueError:
            return {**to_dict(TrainConfig()), **present}

    @property
    def started(self) -> datetime:
        return datetime.fromisoformat(self.config["started"])

    @property
    def checkpoints(self) -> list[Path]:
        """Checkpoint files, newest first."""
        files = (self.path / "checkpoints").glob("*.safetensors")
        return sorted((path for path in files if path.stem.isdecimal()), reverse=True)

    def latest(self) -> Snapshot | None:
        """The newest whole checkpoint; a corrupt one is passed over with a warning."""
        for path in self.checkpoints:
            try:
                return read_checkpoint(path)
            except CorruptCheckpoint as error:
                warnings.warn(f"{error}; falling back to the checkpoint before it", RuntimeWarning, stacklevel=2)
        if self.checkpoints:
            raise RunError(
                f"none of the {len(self.checkpoints)} checkpoints in {self.path} can be read: start a new run"
            )
        return None

    def save(self, snapshot: Snapshot, keep: int) -> None:
        """Write a checkpoint, then drop old ones but for the newest ``keep`` and the best, and those ahead of it.

        Ahead are only files that could not be read: they must not count as the newest.
        """
        folder = self.path / "checkpoints"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_checkpoint(folder / f"{snapshot.iteration:06}.safetensors", snapshot)
        except OSError as error:
            raise RunError(
                f"cannot write a checkpoint to {folder} ({error.strerror}): free space or mend the folder, then "
                "resume; the checkpoints that are there are whole"
            ) from error
        best = snapshot.values["notes"].get("best", {}).get("iteration")
        behind = [path for path in self.checkpoints if int(path.stem) <= snapshot.iteration]
        for path in {*self.checkpoints} - {*behind[:keep]}:
            if int(path.stem) != best:
                path.unlink(missing_ok=True)

    def lora(self, name: str) -> Path:
        """Where the LoRA file ``name`` (``last``, ``best``, ``ema``) belongs."""
        return self.path / "lora" / f"{name}.safetensors"

    def record(self, report: StepReport) -> None:
        """Append a report to ``metrics.jsonl``."""
        try:
            with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(report.to_json()) + "\n")
        except OSError as error:
            raise RunError(
                f"cannot write {self.path / 'metrics.jsonl'} ({error.strerror}); free space, then resume"
            ) from error

    def metrics(self) -> list[dict[str, Any]]:
        """The recorded reports, oldest first; a line torn by a crash ends the list."""
        path = self.path / "metrics.jsonl"
        reports: list[dict[str, Any]] = []
        if not path.exists():
            return reports
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                reports.append(json.loads(line))
            except ValueError:
                break
        return reports

    def cut_metrics(self, iteration: int) -> None:
        """Forget reports from ``iteration`` on: those iterations will be done again."""
        try:
            kept = [json.dumps(report) + "\n" for report in self.metrics() if report["iteration"] < iteration]
            write_atomically(self.path / "metrics.jsonl", "".join(kept).encode())
        except OSError as error:
            raise RunError(
                f"cannot write {self.path / 'metrics.jsonl'} ({error.strerror}): free space or mend it, then resume"
            ) from error

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

    def sweep(self) -> None:
        """Remove what a killed process left half written. Only for who goes on with the run."""
        for path in self.path.rglob(".*.tmp"):
            path.unlink(missing_ok=True)

    def _write_config(self) -> None:
        write_atomically(self.path / "config.json", json.dumps(self.config, indent=1).encode())


def _asked(config: TrainConfig, setup: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a run is asked to do, and the modules of the registered classes that it uses."""
    train, setup = to_dict(config), dict(setup or {})
    guests = guests_of([*_texts(train), *_texts(setup.get("rewards"))])
    return {"train": train, "setup": setup, **({"guests": guests} if guests else {})}


def _texts(value: object) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)
