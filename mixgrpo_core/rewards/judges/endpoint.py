"""A judge behind an address: named here, described in a file on this machine, asked by a package of its own.

A configuration or a workflow that comes from elsewhere can only name an endpoint; where pictures go is decided by
whoever owns the machine. Nothing in this package opens a connection.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar

from ...support.aside import require_wanted
from .chat import Answer, Question

CLIENT = "mixgrpo_judge"
INSTALL = "pip install ./judge (in the folder of the MixGRPO repository)"


@dataclass(frozen=True)
class Endpoint:
    """The judge that ``name`` stands for.

    Attributes:
        name: in the file of endpoints.
        file: that file; empty for the user's own (``mixgrpo_judge.default_file()`` says where it is).
        cache: file that keeps answers between runs; empty keeps them for this process only.
        cancelled: called while answers are waited for; what it raises ends the waiting.
    """

    elsewhere: ClassVar[bool] = True

    name: str
    file: str = ""
    cache: str = field(default="", repr=False)
    cancelled: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    @property
    def identity(self) -> str:
        made: str = self._client.identity
        return made

    def check(self) -> None:
        """Raises a sentence: the client is not installed, no such endpoint, nothing answers there, no such model."""
        self._client.check()

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        found = self._client.ask(questions, cancelled=self._go_on)
        return [Answer(answer.text, dict(answer.first), answer.problem) for answer in found]

    def _go_on(self) -> None:
        require_wanted()
        if self.cancelled is not None:
            self.cancelled()

    @cached_property
    def _client(self) -> Any:
        return client_package().open_chat(self.name, file=self.file, cache=self.cache)


def client_package() -> Any:
    """The client's module.

    Raises:
        ImportError: it is not installed; says how to.
    """
    try:
        return import_module(CLIENT)
    except ModuleNotFoundError as error:
        if error.name != CLIENT:
            raise
        raise ImportError(f"a judge behind an address needs the package mixgrpo-judge: {INSTALL}") from error
