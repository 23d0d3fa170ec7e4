"""TensorBoard events beside a run, when tensorboard is installed."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..runs.reports import StepReport
from .loggers import Logger
from .scalars import scalars

if TYPE_CHECKING:
    pass


class EventLog(Logger):
    """Writes scalars of each report to ``<run>/tensorboard``; does nothing without tensorboard.

    ``done`` iterations are kept; what an earlier process wrote of later ones, which are done again, is not shown.
    """

    def __init__(self, run: Path, done: int) -> None:
        self._again = done + 1 if done else 0  # points stand at iterations done; the first evaluation stands at 0
        self._folder = run / "tensorboard"
        super().__init__(f"TensorBoard's events cannot be written to {self._folder}")

    def _begin(self) -> bool:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return False
        self._writer: SummaryWriter = SummaryWriter(str(self._folder), purge_step=self._again)
        return True

    def _show(self, report: StepReport) -> None:
        for name, value, step in scalars(report):
            self._writer.add_scalar(name, value, step)
        for alarm in report.warnings:
            self._writer.add_text(f"guards/{alarm.guard}", f"{alarm.level}: {alarm.sentence}", report.iteration + 1)

    def _end(self) -> None:
        self._writer.close()
