"""What of a report is drawn over time: names, values and the iterations that they stand at."""

from collections.abc import Iterator

from ..runs.reports import StepReport


def scalars(report: StepReport) -> Iterator[tuple[str, float, int]]:
    """Name, value and iterations done. An evaluation stands where it was made: the first before any iteration."""
    step = report.iteration + 1
    for evaluation in report.evaluations:
        for name, stats in evaluation.rewards.items():
            yield f"held_out/{name}", stats.mean, evaluation.iteration
    for name, stats in report.rewards.items():
        yield f"reward/{name}", stats.mean, step
        for figure in ("within_group", "tied"):
            value = getattr(stats, figure)
            if value is not None:
                yield f"{figure}/{name}", value, step
    for name, value in report.update.figures.items():
        yield f"update/{name}", value, step
    yield "update/flat_groups", report.flat_groups, step
    for phase, seconds in report.seconds.items():
        yield f"seconds/{phase}", seconds, step
