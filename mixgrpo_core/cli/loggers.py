"""A run shown elsewhere, beside its ``metrics.jsonl``: a training never ends because one of them does."""

import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from ..runs.reports import StepReport


class Logger:
    """Shows each report. Where it cannot, that is said once and the training goes on without it.

    Attributes:
        failed: that it could not, in words.
    """

    def __init__(self, failed: str) -> None:
        self.failed = failed
        self._open = False
        with self._or_without():
            self._open = self._begin()

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._open:
            with self._or_without():
                self._end()

    def write(self, report: StepReport) -> None:
        """Show one report."""
        if self._open:
            with self._or_without():
                self._show(report)

    @abstractmethod
    def _begin(self) -> bool:
        """Whether there is anything to show it on."""
        ...

    @abstractmethod
    def _show(self, report: StepReport) -> None: ...

    @abstractmethod
    def _end(self) -> None: ...

    @contextmanager
    def _or_without(self) -> Iterator[None]:
        """Go on without it where it fails: such libraries have errors of their own for that."""
        try:
            yield
        except Exception as error:
            self._open = False
            warnings.warn(f"{self.failed} ({error}): the training goes on without them", RuntimeWarning, stacklevel=3)
