"""TensorBoard events beside a run, when tensorboard is installed."""

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ..runs.reports import StepReport

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class EventLog:
    """Writes scalars of each report to ``<run>/tensorboard``; does nothing without tensorboard.

    ``done`` iterations are kept; what an earlier process wrote of later ones, which are done again, is not shown.
    """

    def __init__(self, run: Path, done: int) -> None:
        again = done + 1 if done else 0  # points stand at iterations done; the first evaluation stands at 0
        self._writer = _writer(run / "tensorboard", again)

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, report: StepReport) -> None:
        if self._writer is None:
            return
        step = report.iteration + 1
        for name, stats in report.rewards.items():
            self._writer.add_scalar(f"reward/{name}", stats.mean, step)
            for figure in ("within_group", "tied"):
                if getattr(stats, figure) is not None:
                    self._writer.add_scalar(f"{figure}/{name}", getattr(stats, figure), step)
        for evaluation in report.evaluations:
            for name, stats in evaluation.rewards.items():
                self._writer.add_scalar(f"held_out/{name}", stats.mean, evaluation.iteration)
        for name, value in report.update.figures.items():
            self._writer.add_scalar(f"update/{name}", value, step)
        for alarm in report.warnings:
            self._writer.add_text(f"guards/{alarm.guard}", f"{alarm.level}: {alarm.sentence}", step)
        self._writer.add_scalar("update/flat_groups", report.flat_groups, step)
        for phase, seconds in report.seconds.items():
            self._writer.add_scalar(f"seconds/{phase}", seconds, step)


def _writer(folder: Path, again: int) -> "SummaryWriter | None":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=again)
