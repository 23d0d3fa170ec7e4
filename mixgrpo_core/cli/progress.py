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


class RunProgress:
    """Two bars: the run and the current iteration. ``observe`` is the core's observer."""

    def __init__(self, bars: "_Bars", iterations: int | None, done: int) -> None:
        self._bars = bars
        self._run = bars.add_task("training", total=iterations, completed=done, before=done, spent=0.0)
        self._inner = bars.add_task("", total=1, visible=False)

    def observe(self, event: Event) -> None:
        if isinstance(event, PhaseProgress):
            phase = f"  {event.phase}"
            self._bars.update(self._inner, visible=True, description=phase, completed=event.done, total=event.total)

    def note(self, words: str) -> None:
        """A line above the bars."""
        self._bars.console.print(f"       {words}", style="yellow", highlight=False, markup=False, soft_wrap=True)

    def report(self, report: StepReport) -> None:
        words, console = headline(report), self._bars.console
        self._bars.note = words
        self._bars.update(self._run, completed=report.iteration + 1, spent=self._bars.tasks[self._run].elapsed or 0.0)
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
    """Time spent and left, of the run alone. rich's own estimate forgets what is over 30 s old, as iterations are."""

    def render(self, task: Task) -> Text:
        if "before" not in task.fields or task.elapsed is None:
            return Text("")
        made, spent = task.completed - task.fields["before"], task.fields["spent"]
        if not made or task.total is None:
            return Text(_clock(task.elapsed), style="cyan")
        left = spent / made * (task.total - task.completed) - (task.elapsed - spent)
        return Text(f"{_clock(task.elapsed)}  left {_clock(max(left, 0))}", style="cyan")


_FOREVER = 1e9  # seconds


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds))) if seconds < _FOREVER else "years"


@contextmanager
def run_progress(iterations: int | None, done: int, console: Console) -> Iterator[RunProgress]:
    """Bars on a terminal, gone at the end; a line per report in a log file. Without ``iterations`` there is no end."""
    widest = Column(min_width=len("  evaluation"))  # or the bars would jump from phase to phase
    columns = (
        TextColumn("{task.description}", table_column=widest),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Times(),
    )
    with _Bars(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        yield RunProgress(bars, iterations, done)


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
