"""The gallery of a run as the browser draws it."""

from pathlib import Path
from typing import Any

from ...mixgrpo_core.runs.errors import RunError
from ...mixgrpo_core.runs.gallery import Entry, Gallery
from .canvas_run import CanvasRun
from .events import reference


def gallery_of(path: Path) -> Gallery:
    """That of the run at ``path``, whose settings need not be readable."""
    return Gallery(CanvasRun(path, {}))


def gallery_payload(path: Path) -> dict[str, Any]:
    """JSON values.

    Returns:
        ``entries``, each with its ``iteration``, ``prompts``, ``pictures`` as `reference` has them, ``asked``, and
        ``made``, which tells it from one that was there before; ``kept``, the iteration whose LoRA is the run's, None
        for the last; ``bytes`` on the disk; ``problem``, a sentence or nothing.
    """
    gallery, kept, problem = gallery_of(path), None, ""
    entries = gallery.entries()
    try:
        kept = gallery.kept
    except RunError as error:
        problem = f"{error}."
    size = sum(entry.bytes for entry in entries)
    return {"entries": [_told(entry) for entry in entries], "kept": kept, "bytes": size, "problem": problem}


def _told(entry: Entry) -> dict[str, Any]:
    return {
        "iteration": entry.iteration,
        "prompts": list(entry.prompts),
        "pictures": [reference(path) for path in entry.pictures],
        "asked": entry.asked,
        "made": entry.pictures[0].stat().st_mtime_ns if entry.pictures else 0,
    }
