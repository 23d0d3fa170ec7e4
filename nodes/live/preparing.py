"""What goes before a run: texts are encoded, the model and the rewards are tried. It takes a while, and may fail."""

from typing import Any

import comfy.model_management

from .board import board
from .events import Line, harmless, workflow_id


class Preparing:
    """A trainer that has no run yet; around all that it does.

    An error is told where the run would be, until `over`: from then on the run tells its own.

    Args:
        node: id of the trainer node on the canvas.
    """

    def __init__(self, node: str) -> None:
        self._line = Line(None, str(node), 0)
        self._said = ("preparing", "")
        self._over = False

    def __enter__(self) -> "Preparing":
        self._line.workflow = workflow_id()
        board.preparing = self
        self._tell("preparing")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._over or kind is None:
            return
        interrupted = issubclass(kind, comfy.model_management.InterruptProcessingException | KeyboardInterrupt)
        self._tell("interrupted" if interrupted else "failed", "" if interrupted else str(error))

    def over(self) -> None:
        """A run begins."""
        self._over = True
        board.preparing = None

    def snapshot(self) -> dict[str, Any]:
        """What it said last, for a page that is loaded meanwhile."""
        state, note = self._said
        about = {"node": self._line.node, "workflow": self._line.workflow, "serial": self._line.serial}
        return {"run": None, "state": state, "note": note, "pending": [], **about}

    def _tell(self, state: str, note: str = "") -> None:
        self._said = (state, note)
        with harmless():
            self._line.send("status", state=state, note=note, pending=[])
