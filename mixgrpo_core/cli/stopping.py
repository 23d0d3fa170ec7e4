"""Being stopped from outside: Ctrl-C, ``kill``, the time limit of a batch system, a terminal that is closed.

Only the command line listens to signals: inside another program, such as ComfyUI, they are that program's.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # the last is Ctrl-Break, on Windows
_HANGUP = getattr(signal, "SIGHUP", None)
_TOGETHER = 2.0
"""Seconds: systems send two signals at once, and the second would come into the first's way to the checkpoint."""
_SAVING = b"\nstopping: the checkpoint is being written, which is not cut short\n"


class Stopped(KeyboardInterrupt):
    """A signal asked the command to stop, as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    @property
    def status(self) -> int:
        """The exit status that shells give to a process that such a signal ended."""
        return 128 + self.number


def status_of(stop: KeyboardInterrupt) -> int:
    """The exit status of a command that was stopped; 130 for a Ctrl-C that nobody listened to."""
    return stop.status if isinstance(stop, Stopped) else 128 + signal.SIGINT


@contextmanager
def stopped_by_signals() -> Iterator["Listener"]:
    """Inside, a signal that asks to stop raises ``Stopped``; more of them let what is being saved be saved.

    What is ignored when the command starts stays so: ``nohup`` has it outlive its terminal, and a shell has a command
    in the background not hear its Ctrl-C. ``kill`` (SIGTERM) is always heard.
    """
    listener = Listener([stream for stream in (1, 2) if _is_terminal(stream)])
    if threading.current_thread() is not threading.main_thread():  # only that one may listen
        yield listener
        return
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN or number == signal.SIGTERM:
            signal.signal(number, listener.hear)
    try:
        yield listener
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


class Listener:
    """Hears signals; ``terminals`` are the streams that end with the terminal.

    Attributes:
        stop: what the last signal raised. Compiled code that is in the way may make another error of it.
    """

    def __init__(self, terminals: list[int]) -> None:
        self.stop: Stopped | None = None
        self._terminals, self._raised_at = terminals, float("-inf")

    def hear(self, number: int, frame: FrameType | None) -> None:
        if number == _HANGUP:  # nobody reads any more, and writing would raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in self._terminals:
                os.dup2(nowhere, stream)
            os.close(nowhere)
        now, before = time.monotonic(), self._raised_at
        if before > float("-inf"):
            with suppress(OSError):
                os.write(2, _SAVING)
        if now - before > _TOGETHER:
            self._raised_at, self.stop = now, Stopped(number)
            raise self.stop


def _is_terminal(stream: int) -> bool:
    try:
        return os.isatty(stream)
    except OSError:  # it is closed
        return False
