"""The port of a vision-language model: questions with images in, answers with the first token's alternatives out.

    chat.ask([Question(text, (image,), max_tokens=1, alternatives=20)]) -> [Answer("Yes", {"Yes": -.1, "No": -2.3})]

Who answers is another matter: a model in this process (`LocalChat`), or a server that somebody named in a file on
this machine (`Endpoint`).
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Question:
    """One question about some images.

    Attributes:
        text: what is asked, after the images.
        images: ``[H, W, 3]`` in 0..1 on the CPU, in the order in which they are shown.
        max_tokens: of the answer.
        alternatives: how many alternatives of the answer's first token are wanted with their log-probs; 0 for none.
    """

    text: str
    images: tuple[Tensor, ...]
    max_tokens: int
    alternatives: int = 0


@dataclass(frozen=True)
class Answer:
    """What came back. It is read by attribute: a client of a server is no part of this package and has its own class.

    Attributes:
        text: of the answer.
        first: log-probs of the first token's alternatives, likeliest first; empty where they are not offered.
        problem: why there is no answer; empty when there is one.
    """

    text: str
    first: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""


class Chat(Protocol):
    """A model that answers questions about images."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """The model's name and its place, without secrets."""
        ...

    @abstractmethod
    def check(self) -> None:
        """See that it is there. Raises a sentence that says what is wrong, and how to mend it."""
        ...

    @abstractmethod
    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """The answers, in the order of the questions. What fails has a ``problem``; only interrupts are raised."""
        ...
