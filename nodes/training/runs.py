"""Run folders on the canvas: state in ``output/mixgrpo/<run>``, LoRA files where every LoRA loader finds them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...mixgrpo_core import TrainConfig
from ...mixgrpo_core.models.lora_layers import USUAL, Layers
from ...mixgrpo_core.runs.folder import LORAS, RunError
from ...mixgrpo_core.support.files import write_atomically
from ..live.canvas_run import CanvasRun, lora_file, loras_folder, name_of, runs_folder
from ..live.runs import holder, is_run
from ..names import check_name, require_place

_MOST = 1000  # runs of one name


def require_name(name: str) -> str:
    """The name of a run, in its composed form.

    Raises:
        ValueError: it can be none, or another run or file is in its place; says which, and names ``run_name``.
    """
    name = check_name(name, "run_name")
    require_place(runs_folder(), name, "run_name")
    for kind in LORAS:
        require_place(loras_folder(), f"{name}-{kind}.safetensors", "run_name")
    outer = holder(name)
    if outer is not None:
        raise ValueError(f"run_name: {outer!r} is a run, and its folder holds no other: take another name")
    folder = runs_folder() / name
    inner = None if is_run(folder) else next(filter(is_run, folder.glob("*")), None)
    if inner is not None:
        raise ValueError(f"run_name: {name!r} is a folder of runs such as {name_of(inner)!r}: take another name")
    return name


def folders_of(name: str) -> Iterator[Path]:
    """Where runs of a name lie: ``name``, ``name-2``, ``name-3``, ..."""
    for number in range(1, _MOST):
        yield runs_folder() / (name if number == 1 else f"{name}-{number}")


def is_free(folder: Path) -> bool:
    """Whether a new run may be made there: LoRA files of a run whose folder was deleted are not written over."""
    return not folder.exists() and not any(lora_file(name_of(folder), kind).exists() for kind in LORAS)


def open_run(name: str, config: TrainConfig, setup: Mapping[str, Any]) -> tuple[CanvasRun, TrainConfig]:
    """The run to go on with: the newest of this name with the same settings, else a new one.

    More iterations extend a run. Fewer than it has done leave it as it is: the settings that come back say how many.

    Raises:
        RunError: the folder cannot be written, or that run's checkpoints are gone.
    """
    found = None
    for folder in folders_of(name):
        if is_free(folder):
            if found:
                found[0].require_checkpoints()
            return found or (CanvasRun.create(folder, config, setup), config)
        found = _matching(folder, config, setup) or found
    raise RunError(f"there are {_MOST} runs named {name}: give the run another name")


def _matching(folder: Path, config: TrainConfig, setup: Mapping[str, Any]) -> tuple[CanvasRun, TrainConfig] | None:
    try:
        run = CanvasRun.open(folder)
        longer = config if config.endless else replace(config, iterations=max(config.iterations, run.done))
        if config.decode_dtype == "auto":  # a run from before this was the default
            longer = replace(longer, decode_dtype=run.settings.decode_dtype)
        run.require(longer, setup)
    except RunError:  # a run of other settings, or one that cannot be read: it stays as it is
        return None
    return run, longer


def state_of_runs(name: str) -> list[tuple[str, int, int]]:
    """What there is of runs of a name: their newest checkpoints, and the LoRAs that were kept. A node that would change
    none need not run again."""
    found = []
    for folder in folders_of(name):
        if is_free(folder):
            break
        newest = max((folder / "checkpoints").glob("*.safetensors"), default=None)
        found.append((name_of(folder), _age(newest), _age(lora_file(name_of(folder), "kept"))))
    return found


def _age(path: Path | None) -> int:
    """When a file was written; 0 where there is none."""
    return path.stat().st_mtime_ns if path is not None and path.exists() else 0


def layers_told(layers: Layers) -> dict[str, str]:
    """Which layers carry the LoRA, where they are not the usual ones: runs from before there was a choice go on."""
    return {} if layers == USUAL else {"layers": layers}


class Settled:
    """By which fingerprint a node with a run name is known to the host's cache.

    The host compares it with the one from before the node ran. A run that came to its end changes nothing when it is
    queued again, so it keeps that fingerprint as long as its files are as it left them.
    """

    def __init__(self) -> None:
        self._ends: dict[str, tuple[str, str]] = {}
        self._count = 0

    def fingerprint(self, name: str) -> str:
        """That of the runs of a name as they are now."""
        state = repr(state_of_runs(name))
        left, fingerprint = self._ends.get(name, ("", ""))
        return fingerprint if state == left else f"{state} {self._count}"

    def left(self, name: str) -> None:
        """A run of that name was left before its end: the node is to run again, even where its files are as before."""
        self._count += 1
        self._ends.pop(name, None)

    def done(self, name: str, fingerprint: str) -> None:
        """A run of that name came to its end; ``fingerprint`` is from before it."""
        self._count += 1  # what was known before is not taken for it when the folder is gone again
        self._ends[name] = (repr(state_of_runs(name)), fingerprint)


settled = Settled()
"""Of this process, as the host's cache."""


def require_writable(*folders: Path) -> None:
    """Raise ``RunError`` unless files can be written to every folder: before hours of work, not after them."""
    for folder in folders:
        probe = folder / ".writable.tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(probe, b"")
            probe.unlink()
        except OSError as error:
            raise RunError(
                f"cannot write to {folder} ({error.strerror or error}): the run and its LoRA belong there. Mend the "
                "folder, or start ComfyUI with another --output-directory"
            ) from error
