"""Reading a run's folder for the live view. What cannot be read becomes a sentence, never an error."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import folder_paths
import torch
from torch import Tensor

from ...mixgrpo_core.runs.folder import LORAS, RunError, RunFolder
from ...mixgrpo_core.runs.metrics import MetricsFile, in_words, iterations_done
from ...mixgrpo_core.runs.model_card import BEFORE_AFTER
from ...mixgrpo_core.settings.config import SHOWN, UNTIL_STOPPED, to_dict
from ...mixgrpo_core.settings.course import course
from ..names import is_name
from .board import PlanOf
from .canvas_run import lora_file, name_of, runs_folder
from .diagnosis import diagnosis_payload
from .events import reference
from .gallery import gallery_payload
from .tasting import taste_payload


def find_run(name: str) -> Path | None:
    """The folder of a run: a plain name in the runs' folder, or in folders there, and no link; None otherwise."""
    if not is_name(name):
        return None
    path = runs_folder().resolve() / name
    return path if path.is_dir() and path.resolve() == path and holder(name) is None else None


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, whole or not."""
    return any((folder / part).exists() for part in ("config.json", "metrics.jsonl", "checkpoints"))


def holder(name: str) -> str | None:
    """The run whose folder holds what a name says: that is no run, but a part of one."""
    above = list(PurePosixPath(name).parents)[:-1]  # without the runs' folder itself
    return next((str(outer) for outer in above if is_run(runs_folder() / outer)), None)


def stored(path: Path) -> dict[str, Any]:
    """What a folder tells: ``config``, ``plan``, ``reports``, ``diagnosis``, ``result``, ``gallery``, ``taste``,
    ``problems``."""
    problems: list[str] = []
    reports = _reports(path, problems)
    config, plan = _settings(path, reports, problems)
    told = {"config": config, "plan": plan, "reports": reports, "problems": problems}
    told["diagnosis"] = diagnosis_payload(path, reports) if reports else None
    return {**told, "result": _result(path), "gallery": gallery_payload(path), "taste": taste_payload(path)}


def _result(path: Path) -> dict[str, Any] | None:
    """What came of a run: its LoRA files, the one that the trainer hands on first, and the picture of before and after.

    A file's ``listed`` is its name in the host's LoRA loaders; None where they do not look.
    """
    files = [file for kind in LORAS if (file := lora_file(name_of(path), kind)).exists()]
    if not files:
        return None
    grid = path / BEFORE_AFTER
    loras = [{"path": str(file), "listed": _listed(file)} for file in files]
    return {"loras": loras, "grid": reference(grid) if grid.exists() else None}


def _listed(file: Path) -> str | None:
    """The name of a LoRA file in the host's loaders."""
    for folder in folder_paths.get_folder_paths("loras"):
        if file.resolve().is_relative_to(Path(folder).resolve()):
            return str(file.resolve().relative_to(Path(folder).resolve()))
    return None


def drawn_plan(plan_of: PlanOf, sigmas: Tensor, iterations: int, done: int = 0) -> dict[str, Any]:
    """The plan as JSON values.

    Returns:
        ``sigmas``, the base grid; ``iterations``, -1 where it goes on until it is stopped; ``shown``, the iterations
        that are drawn; and ``windows``, a list of [iteration, first, stop]: from that iteration on, steps
        ``first .. stop - 1`` are trained (for scattered steps the hull). Of a long run some are looked at (`course`).
    """

    def window(iteration: int) -> tuple[int, int]:
        trained = plan_of(iteration, 0, sigmas).trained
        return (trained[0], trained[-1] + 1) if trained else (0, 0)

    shown = max(SHOWN, done + done // 4) if iterations == UNTIL_STOPPED else iterations
    return {
        "sigmas": [round(sigma, 5) for sigma in sigmas.tolist()],
        "iterations": iterations,
        "shown": shown,
        "windows": [[iteration, *place] for iteration, place in course(window, shown)],
    }


def _settings(
    path: Path, reports: Sequence[dict[str, Any]], problems: list[str]
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The settings and the plan, drawn over the grid that was used where the run has told it."""
    try:
        config = RunFolder.open(path).settings
        told = reports[-1].get("sigmas") if reports else None
        sigmas = torch.tensor(told) if isinstance(told, list) and len(told) == config.steps + 1 else config.sigmas()
        plan = drawn_plan(config.plan, sigmas, config.iterations, iterations_done(reports))
    except (RunError, KeyError, TypeError, ValueError) as error:
        problems.append(f"The run {name_of(path)!r} is shown without its window: {error}.")
        return None, None
    return to_dict(config), plan


def _reports(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    """All that is a report; a torn last line is nothing to speak of."""
    try:
        told = MetricsFile(path / "metrics.jsonl").read()
    except RunError as error:
        problems.append(f"The curves of {name_of(path)!r} cannot be read: {error}.")
        return []
    missing = told.missing(iterations_done(told.reports))
    faults = [f"line {in_words(told.strange)} is no report"] if told.strange else []
    faults += [f"it lacks iteration {in_words(missing)}"] if missing else []
    if faults:
        problems.append(
            f"metrics.jsonl of {name_of(path)!r} is damaged: {'; '.join(faults)}. The curves leave that out; training "
            "goes on from the last checkpoint all the same."
        )
    return list(told.reports)
