"""``metrics.jsonl``: a report per line, each synced as it is written; what is no report is left out and told."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..support.files import append_line, write_atomically
from .errors import RunError
from .reports import StepReport, is_report


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What a file holds.

    Attributes:
        reports: in the order of the file.
        strange: numbers of the lines that are no report, from 1, but for a last one that a crash has torn.
    """

    reports: Sequence[dict[str, Any]] = ()
    strange: Sequence[int] = ()

    def missing(self, done: int) -> list[int]:
        """Which of the first ``done`` iterations have no report."""
        told = {report["iteration"] for report in self.reports}
        return [iteration for iteration in range(done) if iteration not in told]


class MetricsFile:
    """The file at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Metrics:
        """What it holds; nothing where there is no file. Raises ``RunError``."""
        if not self.path.exists():
            return Metrics()
        reports, strange = [], []
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise RunError(f"cannot read {self.path} ({error.strerror}): mend it, then resume") from error
        for number, line in enumerate(lines, 1):
            found = _parsed(line)
            if found is not None:
                reports.append(found)
            elif line.strip() and number < len(lines):
                strange.append(number)
        return Metrics(reports=reports, strange=strange)

    def add(self, report: StepReport) -> None:
        """Append a report; it is on the disk when this returns. Raises ``RunError``."""
        line = json.dumps(report.to_json())
        with self._writing("free space"):
            append_line(self.path, line)

    def cut(self, iteration: int) -> None:
        """Forget reports from ``iteration`` on, and warn of what is missing before it. Raises ``RunError``."""
        with self._writing("free space or mend it"):
            told = self.read()
            kept = [json.dumps(report) + "\n" for report in told.reports if report["iteration"] < iteration]
            write_atomically(self.path, "".join(kept).encode())
        missing = told.missing(iteration)
        faults = [f"line {in_words(told.strange)} is no report"] if told.strange else []
        faults += [f"it lacks iteration {in_words(missing)}"] if missing else []
        if faults:
            warnings.warn(
                f"{self.path} is damaged: {'; '.join(faults)}. Curves and summaries leave that out; the training goes "
                "by its checkpoint and misses nothing",
                RuntimeWarning,
                stacklevel=3,
            )

    @contextmanager
    def _writing(self, mend: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(f"cannot write {self.path} ({error.strerror}): {mend}, then resume") from error


def iterations_done(reports: Sequence[Mapping[str, Any]]) -> int:
    """How many iterations a run has done by its reports, of which a damaged file lacks some."""
    return max((report["iteration"] + 1 for report in reports), default=0)


def in_words(numbers: Sequence[int], most: int = 5) -> str:
    """``3, 7-9``: numbers that ascend, up to ``most`` stretches of them."""
    stretches: list[list[int]] = []
    for number in numbers:
        if stretches and stretches[-1][-1] == number - 1:
            stretches[-1][1:] = [number]
        else:
            stretches.append([number])
    words = ["-".join(map(str, stretch)) for stretch in stretches]
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line, parse_constant=_refused)
    except (ValueError, RecursionError):
        return None
    return found if is_report(found) else None


def _refused(constant: str) -> None:
    """NaN and its kin, which JSON does not know and the browser would not read."""
    raise ValueError(constant)
