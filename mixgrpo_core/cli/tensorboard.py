"""TensorBoard events beside a run, when tensorboard is installed."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ..runs.reports import StepReport

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class EventLog:
    """Writes scalars of each report to ``<run>/tensorboard``; does nothing without tensorboard.

    Where they cannot be written, that is said once and the training goes on: they are a drawing of ``metrics.jsonl``.

    ``done`` iterations are kept; what an earlier process wrote of later ones, which are done again, is not shown.
    """

    def __init__(self, run: Path, done: int) -> None:
        again = done + 1 if done else 0  # points stand at iterations done; the first evaluation stands at 0
        self._folder = run / "tensorboard"
        self._writer: SummaryWriter | None = None
        with self._or_without():
            self._writer = _writer(self._folder, again)

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer is not None:
            with self._or_without():
                self._writer.close()

    @contextmanager
    def _or_without(self) -> Iterator[None]:
        """Go on without events where they cannot be written; tensorboard has errors of its own for that."""
        try:
            yield
        except Exception as error:
            self._writer = None
            warnings.warn(
                f"TensorBoard's events cannot be written to {self._folder} ({error}): the training goes on without "
                "them",
                RuntimeWarning,
                stacklevel=3,
            )

    def write(self, report: StepReport) -> None:
        """Write one report's."""
        if self._writer is not None:
            with self._or_without():
                _write(self._writer, report)


def _write(writer: "SummaryWriter", report: StepReport) -> None:
    step = report.iteration + 1
    for name, stats in report.rewards.items():
        writer.add_scalar(f"reward/{name}", stats.mean, step)
        for figure in ("within_group", "tied"):
            if getattr(stats, figure) is not None:
                writer.add_scalar(f"{figure}/{name}", getattr(stats, figure), step)
    for evaluation in report.evaluations:
        for name, stats in evaluation.rewards.items():
            writer.add_scalar(f"held_out/{name}", stats.mean, evaluation.iteration)
    for name, value in report.update.figures.items():
        writer.add_scalar(f"update/{name}", value, step)
    for alarm in report.warnings:
        writer.add_text(f"guards/{alarm.guard}", f"{alarm.level}: {alarm.sentence}", step)
    writer.add_scalar("update/flat_groups", report.flat_groups, step)
    for phase, seconds in report.seconds.items():
        writer.add_scalar(f"seconds/{phase}", seconds, step)


def _writer(folder: Path, again: int) -> "SummaryWriter | None":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=again)
