"""Waiting for many answers in a way that can be ended at any moment."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
POLL = 0.05
"""Seconds between two looks at whether to go on."""


def run(work: Coroutine[Any, Any, T], cancelled: Callable[[], None] | None = None) -> T:
    """The result of ``work``, which runs in a thread of its own, for the caller's may have an event loop.

    ``cancelled`` is called again and again meanwhile. What it raises, and interrupts of the caller's thread, cancel the
    work, its requests in flight too, and are raised.
    """
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)
    done = threading.Event()  # joining a thread and being interrupted is not safe in Python 3.11
    threading.Thread(target=_finish, args=(loop, task, done), name="mixgrpo-judge", daemon=True).start()
    try:
        while not done.wait(POLL):
            if cancelled is not None:
                cancelled()
    except BaseException:
        with contextlib.suppress(RuntimeError):  # the loop has closed in this very moment
            loop.call_soon_threadsafe(task.cancel)
        done.wait(5)
        raise
    return task.result()


def _finish(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[Any]", done: threading.Event) -> None:
    try:
        loop.run_until_complete(asyncio.wait([task]))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
        done.set()
