"""The gallery of a run: how a few prompts look after some of its iterations, and the LoRA of each of these.

<run>/gallery/000028/1.png 2.png ...     a picture per prompt, from the same noise every time
                     lora.safetensors    the LoRA that made them
                     entry.json          written last: a folder without it is none yet
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import SafetensorError, safe_open

from ..support.files import make_folder, replacing, write_atomically
from .errors import RunError
from .folder import RunFolder

ITERATION = "mixgrpo.iteration"
"""In the header of a gallery's LoRA: how many iterations have made it."""
_LARGEST = 768
"""Pixels: pictures are kept no wider and no higher."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the gallery has of one iteration.

    Attributes:
        iteration: iterations done.
        prompts: one per picture.
        asked: somebody asked for it; it may have been due as well.
        pictures: their files, in the order of the prompts.
        lora: the file of the LoRA that made them.
    """

    iteration: int
    prompts: Sequence[str]
    asked: bool
    pictures: Sequence[Path]
    lora: Path

    @property
    def bytes(self) -> int:
        """On the disk."""
        return sum(path.stat().st_size for path in (*self.pictures, self.lora) if path.exists())


class Gallery:
    """Of the run ``run``. One process adds to it; any may read it, and choose which LoRA is the run's."""

    def __init__(self, run: RunFolder) -> None:
        self.run, self.folder = run, run.path / "gallery"

    def entries(self) -> list[Entry]:
        """All that are whole, by iteration."""
        numbered = [path for path in self.folder.glob("*") if path.name.isdecimal()]
        found = [_read(path) for path in sorted(numbered, key=lambda path: int(path.name))]
        return [entry for entry in found if entry is not None]

    def entry(self, iteration: int) -> Entry | None:
        """That of an iteration, if there is one."""
        return _read(self.place(iteration))

    def place(self, iteration: int) -> Path:
        """The folder of an iteration."""
        return self.folder / f"{iteration:06}"

    def lora(self, iteration: int) -> Path:
        """Where the LoRA of an iteration belongs."""
        return self.place(iteration) / "lora.safetensors"

    def begin(self, iteration: int) -> Path:
        """Make room for an iteration's entry, whose LoRA and pictures are then written; ``add`` makes it one.

        Raises:
            OSError: the disk is full, or the folder read-only.
        """
        place = self.place(iteration)
        (place / "entry.json").unlink(missing_ok=True)
        make_folder(place)
        return place

    def add(self, iteration: int, pictures: Sequence[tuple[str, Image.Image]], *, asked: bool) -> None:
        """Write prompts with their pictures, and with that the entry. Raises ``OSError``."""
        place = self.place(iteration)
        for number, (_, picture) in enumerate(pictures, 1):
            small = picture.copy()
            small.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
            with replacing(place / f"{number}.png") as beside:
                small.save(beside, format="PNG")
        told = {"iteration": iteration, "prompts": [prompt for prompt, _ in pictures], "asked": asked}
        write_atomically(place / "entry.json", json.dumps(told, indent=1).encode())

    @property
    def kept(self) -> int | None:
        """The iteration whose LoRA was chosen to be the run's; None where none was: it is the last one.

        Raises:
            RunError: the file of that LoRA cannot be read.
        """
        path = self.run.lora("kept")
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                return int((file.metadata() or {})[ITERATION])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise RunError(
                f"{path} is not the LoRA of an iteration of {self.run.path}: keep one of the gallery again, or move "
                "the file away"
            ) from error

    def keep(self, iteration: int | None) -> Path | None:
        """Make the LoRA of an iteration the run's: a copy of it becomes ``lora("kept")``, which is returned.

        None takes that back, and the last one is the run's again. Either way the training goes on from its newest
        checkpoint, and no other file is touched.

        Raises:
            RunError: there is no such entry, or the file cannot be written.
        """
        path = self.run.lora("kept")
        entry = None if iteration is None else self.entry(iteration)
        if iteration is not None and entry is None:
            there = ", ".join(str(entry.iteration) for entry in self.entries()) or "none yet"
            raise RunError(f"the gallery of {self.run.path} has no iteration {iteration}: it has {there}")
        try:
            if entry is None:
                path.unlink(missing_ok=True)
                return None
            make_folder(path.parent)
            with replacing(path) as beside:
                shutil.copyfile(entry.lora, beside)
        except OSError as error:
            raise RunError(f"cannot write {path} ({error.strerror}): free space or mend the folder") from error
        return path


def result_of(run: RunFolder, *, averaged: bool) -> tuple[Path, int | None]:
    """The file of the run's LoRA, and the iteration whose LoRA was kept; None where it is the last, or its average."""
    kept = Gallery(run).kept
    if kept is not None:
        return run.lora("kept"), kept
    average = run.lora("ema")
    return average if averaged and average.exists() else run.lora("last"), None


def _read(place: Path) -> Entry | None:
    """The entry at ``place``; None where there is none, or one whose files are not all there."""
    try:
        told: dict[str, Any] = json.loads((place / "entry.json").read_bytes())
        prompts, asked = told["prompts"], told["asked"]
        iteration = int(place.name)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
        return None
    pictures = [place / f"{number}.png" for number in range(1, len(prompts) + 1)]
    lora = place / "lora.safetensors"
    if not all(path.exists() for path in (*pictures, lora)):
        return None
    return Entry(iteration=iteration, prompts=tuple(prompts), asked=bool(asked), pictures=pictures, lora=lora)
