"""Progress in the terminal: iterations with reward, window and time left, and what is going on inside one."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..step_report import Event, StepReport
from ..step_report import Progress as PhaseProgress


class RunProgress:
    """Two bars: the run and the current iteration. ``observe`` is the core's observer."""

    def __init__(self, bars: Progress, iterations: int, done: int) -> None:
        self._bars = bars
        self._run = bars.add_task("training", total=iterations, completed=done, note="")
        self._inner = bars.add_task("", total=1, note="")

    def observe(self, event: Event) -> None:
        if isinstance(event, PhaseProgress):
            self._bars.update(self._inner, description=f"  {event.phase}", completed=event.done, total=event.total)

    def report(self, report: StepReport) -> None:
        self._bars.update(self._run, completed=report.iteration + 1, note=headline(report))


@contextmanager
def run_progress(iterations: int, done: int, console: Console) -> Iterator[RunProgress]:
    """Bars on a terminal; a line per report in a log file."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    left = (TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, *left, console=console, disable=not console.is_terminal) as bars:
        yield RunProgress(bars, iterations, done)


def headline(report: StepReport) -> str:
    """``reward 0.71 ± 0.12  held out 0.74  window 0-4``."""
    words = [f"{name} {stats.mean:.3f} ± {stats.spread:.3f}" for name, stats in report.rewards.items()]
    if report.evaluations:
        means = " ".join(f"{name} {stats.mean:.3f}" for name, stats in report.evaluations[-1].rewards.items())
        words.append(f"held out: {means}")
    return "  ".join([*words, f"window {report.window[0]}-{report.window[1]}"])
