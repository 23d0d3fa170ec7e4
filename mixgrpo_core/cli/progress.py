"""Progress in the terminal: the run with the time left, what is going on inside an iteration, and the last reward."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from ..runs.reports import Event, StepReport
from ..runs.reports import Progress as PhaseProgress
from ..training.pace import Pace


class RunProgress:
    """Two bars: the run and the current iteration. ``observe`` is the core's observer."""

    def __init__(self, bars: "_Bars", pace: Pace, done: int) -> None:
        self._bars, self._pace = bars, pace
        total = None if pace.work.iterations < 0 else pace.work.iterations
        self._run = bars.add_task("training", total=total, completed=done, pace=pace)
        self._inner = bars.add_task("", total=1, visible=False)

    def observe(self, event: Event) -> None:
        self._pace.hear(event)
        if isinstance(event, PhaseProgress):
            phase = f"  {event.phase}"
            self._bars.update(self._inner, visible=True, description=phase, completed=event.done, total=event.total)

    def note(self, words: str) -> None:
        """A line above the bars."""
        self._bars.console.print(f"       {words}", style="yellow", highlight=False, markup=False, soft_wrap=True)

    def report(self, report: StepReport) -> None:
        words, console = headline(report), self._bars.console
        self._bars.note = words
        self._pace.finished(report)
        self._bars.update(self._run, completed=report.iteration + 1)
        if report.evaluations or not console.is_terminal:
            console.print(f"{report.iteration + 1:>5}  {words}", highlight=False, markup=False, soft_wrap=True)
        for alarm in report.warnings:
            style = "bold red" if alarm.level == "stop" else "yellow"
            console.print(f"       {alarm}", style=style, highlight=False, markup=False, soft_wrap=True)
        for failure in report.failures:
            console.print(f"       {failure}", style="yellow", highlight=False, markup=False, soft_wrap=True)


class _Bars(Progress):
    """Bars with a line of words below them, which is cut off and never takes the bars' room."""

    note = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self.note, style="dim", no_wrap=True, overflow="ellipsis")


class _Times(ProgressColumn):
    """Time spent and left, of the run alone."""

    def render(self, task: Task) -> Text:
        if "pace" not in task.fields or task.elapsed is None:
            return Text("")
        left = task.fields["pace"].seconds_left(int(task.completed))
        words = "" if left is None else f"  left {_clock(left)}"
        return Text(f"{_clock(task.elapsed)}{words}", style="cyan")


_FOREVER = 1e9  # seconds


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds))) if seconds < _FOREVER else "years"


@contextmanager
def run_progress(pace: Pace, done: int, console: Console) -> Iterator[RunProgress]:
    """Bars on a terminal, gone at the end; a line per report in a log file."""
    widest = Column(min_width=len("  evaluation"))  # or the bars would jump from phase to phase
    columns = (
        TextColumn("{task.description}", table_column=widest),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Times(),
    )
    with _Bars(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        yield RunProgress(bars, pace, done)


def headline(report: StepReport) -> str:
    """``reward 0.71 ± 0.12  held out 0.74  window 0-4``; a dash for a reward without any valid score."""
    words = [
        f"{name} {_number(stats.mean)}" + (f" ± {stats.spread:.3f}" if stats.valid > 1 else "")
        for name, stats in report.rewards.items()
    ]
    if report.evaluations:
        means = " ".join(f"{name} {_number(stats.mean)}" for name, stats in report.evaluations[-1].rewards.items())
        words.append(f"held out: {means}")
    return "  ".join([*words, f"window {report.window[0]}-{report.window[1]}"])


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
