"""Work that is done beside other work, one piece after another, and can be given up."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_MOMENT = 0.05
"""Seconds between two looks at whether work is done: who waits can be interrupted."""
_here = threading.local()


class GivenUp(BaseException):
    """Nobody waits for this work any more."""


def require_wanted() -> None:
    """Raise ``GivenUp`` in work that is not wanted any more; elsewhere do nothing. Who waits for long calls it."""
    given_up = getattr(_here, "given_up", None)
    if given_up is not None and given_up.is_set():
        raise GivenUp


class Task(Generic[T]):
    """One piece of work."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work, self._done = work, threading.Event()
        self._failure: BaseException | None = None
        self._result: T

    def do(self) -> None:
        """In the thread."""
        try:
            self._result = self._work()
        except BaseException as error:  # raised again where it is waited for
            self._failure = error
        finally:
            self._done.set()

    @property
    def done(self) -> bool:
        """Whether it has come to its end."""
        return self._done.is_set()

    @property
    def failed(self) -> bool:
        """Whether it is done, and raised something."""
        return self._done.is_set() and self._failure is not None

    def result(self) -> T:
        """What it gives, once it is done; raises what it raised."""
        while not self._done.wait(_MOMENT):
            pass
        if self._failure is not None:
            raise self._failure
        return self._result


class Aside:
    """One thread, which does pieces of work in the order in which they were asked for."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[Task[Any] | None] = SimpleQueue()
        self._given_up = threading.Event()
        self._thread: threading.Thread | None = None

    def do(self, work: Callable[[], T]) -> Task[T]:
        """Ask for a piece of work."""
        piece = Task(work)
        self._asked.put(piece)
        if self._thread is None:  # a daemon: a process that ends waits for nobody's answer
            self._thread = threading.Thread(target=self._run, name="mixgrpo aside", daemon=True)
            self._thread.start()
        return piece

    def give_up(self) -> None:
        """Nothing of it is wanted any more: what is under way hears so where it looks, what waits is not begun."""
        self._given_up.set()
        self._asked.put(None)

    def end(self) -> None:
        """Give up, and wait until nothing is under way any more."""
        self.give_up()
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(_MOMENT)

    def _run(self) -> None:
        _here.given_up = self._given_up
        while (piece := self._asked.get()) is not None and not self._given_up.is_set():
            piece.do()
