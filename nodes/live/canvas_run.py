"""Runs of the canvas: where they lie, and their LoRA files, where every LoRA loader finds them."""

from collections.abc import Iterator
from pathlib import Path

import folder_paths

from ...mixgrpo_core import RunFolder

_DEEPEST = 4
"""Folders in which a name may lie that runs are looked for in."""


def runs_folder() -> Path:
    """Where all runs of the canvas live: ``output/mixgrpo``."""
    return Path(folder_paths.get_output_directory()) / "mixgrpo"


def all_runs() -> Iterator[Path]:
    """The folders of all runs."""
    for depth in range(1, _DEEPEST + 1):
        for file in runs_folder().glob("/".join(["*"] * depth) + "/config.json"):
            yield file.parent


def loras_folder() -> Path:
    """``output/loras/mixgrpo``; ComfyUI lists ``output/loras`` in its LoRA loaders."""
    return Path(folder_paths.get_output_directory()) / "loras" / "mixgrpo"


def lora_file(run: str, name: str) -> Path:
    """Where the LoRA file ``name``, one of ``LORAS``, of a run belongs."""
    return loras_folder() / f"{run}-{name}.safetensors"


def name_of(path: Path) -> str:
    """The name of the run that lies there: its place in the runs' folder."""
    root, path = runs_folder().resolve(), path.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


class CanvasRun(RunFolder):
    """A run whose LoRA files lie in ``loras_folder``, named after it."""

    @property
    def name(self) -> str:
        """The run's place in the runs' folder."""
        return name_of(self.path)

    def lora(self, name: str) -> Path:
        """Where the LoRA file ``name``, one of ``LORAS``, belongs."""
        return lora_file(self.name, name)
