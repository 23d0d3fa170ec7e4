"""Speaking to the host: events to the browser, and the node's progress bar.

The host's own lines of text and preview pictures go by a node's number to whatever workflow a browser shows, so none
are sent: every event of ours names the workflow that was queued.

Without a server (tests in this process) nothing is sent and nothing fails.
"""

import itertools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.utils
import folder_paths
from server import PromptServer

_serials = itertools.count(1)


class Line:
    """What one node says about one run, or before it has one; every event names both, and the workflow that was queued.

    Events are numbered, over all runs: a browser that fetches a run's state can tell what is newer.
    """

    def __init__(self, run: str | None, node: str, iterations: int) -> None:
        self.run, self.node, self.serial = run, node, 0
        self.workflow: str | None = None
        self._iterations = iterations
        self._bar = comfy.utils.ProgressBar(max(iterations, 1), node_id=node)

    def send(self, name: str, **data: Any) -> None:
        """Send ``mixgrpo.<name>`` to every browser that is connected."""
        server = host()
        if server is not None:
            self.serial = next(_serials)
            about = {"run": self.run, "node": self.node, "workflow": self.workflow, "serial": self.serial}
            server.send_sync(f"mixgrpo.{name}", {**about, **data})

    def bar(self, done: int) -> None:
        """Move the node's progress bar to ``done`` iterations."""
        whole = self._iterations if self._iterations > 0 else done + 1  # a run without an end is never whole
        self._bar.update_absolute(done, whole)


@contextmanager
def harmless() -> Iterator[None]:
    """A view that fails must not end a training; the host's interrupt, no ``Exception``, passes."""
    try:
        yield
    except Exception:
        logging.exception("MixGRPO: the live view failed, the training goes on")


def host() -> PromptServer | None:
    """The running server, if there is one."""
    return getattr(PromptServer, "instance", None)


def workflow_id() -> str | None:
    """The id of the workflow whose prompt runs right now: node ids are unique only within one."""
    queue = getattr(host(), "prompt_queue", None)
    if queue is None:
        return None
    running, _ = queue.get_current_queue_volatile()
    for item in running:
        extra = item[3].get("extra_pnginfo")
        workflow = extra.get("workflow") if isinstance(extra, dict) else None
        if isinstance(workflow, dict) and isinstance(workflow.get("id"), str):
            return workflow["id"]
    return None


def reference(path: Path) -> dict[str, str] | None:
    """How the browser asks the host's ``/view`` for a file in its output or temp folder; None for one elsewhere."""
    for kind, folder in (("output", folder_paths.get_output_directory()), ("temp", folder_paths.get_temp_directory())):
        place = Path(os.path.abspath(path.parent))
        if place.is_relative_to(os.path.abspath(folder)):
            subfolder = place.relative_to(os.path.abspath(folder)).as_posix()
            return {"filename": path.name, "subfolder": subfolder, "type": kind}
    return None
