"""Work in a thread of its own, which whoever waits for it lets come to its end."""

import threading
from collections.abc import Callable
from contextlib import suppress

_MOMENT = 0.5
"""Seconds after which a thread has begun its work, if it ever does."""


class Background:
    """Does one piece of work at a time. What it raises is raised by the next ``wait`` or ``look``."""

    def __init__(self) -> None:
        self._task: _Task | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin ``work``, once what was begun before is done."""
        self.wait()
        self._task = _Task(work)
        with suppress(RuntimeError):  # the interpreter is about to end, and starts none: whoever waits does it
            threading.Thread(target=self._task.do, name="mixgrpo", daemon=False).start()

    def look(self) -> None:
        """Raise what the work has raised, if it is done; never waits."""
        if self._task is not None and self._task.done.is_set():
            self.wait()

    def wait(self) -> None:
        """Until the work is done: a Ctrl-C meanwhile is raised after it."""
        interrupt: KeyboardInterrupt | None = None
        while (task := self._task) is not None:
            try:
                while not task.done.wait(_MOMENT):
                    task.do()
                self._task = None
                if task.failure is not None:
                    raise task.failure
            except KeyboardInterrupt as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt


class _Task:
    """Work that is done once, by whoever comes first: a Ctrl-C may keep the thread from ever beginning."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.done, self._begun, self._work = threading.Event(), threading.Lock(), work
        self.failure: BaseException | None = None

    def do(self) -> None:
        """Do it, unless somebody has begun."""
        if not self._begun.acquire(blocking=False):
            return
        try:
            self._work()
        except BaseException as error:
            self.failure = error
        finally:
            self.done.set()


def in_peace(work: Callable[[], None]) -> None:
    """Do ``work`` to its end; a Ctrl-C meanwhile is raised after it."""
    background = Background()
    try:
        background.start(work)
    finally:
        background.wait()
