"""What a sign is, and what it finds."""

from dataclasses import dataclass
from typing import Literal, Protocol

from .evidence import Evidence

Light = Literal["bad", "watch", "good"]
_BAD, _WATCH = 0.5, 0.25


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one sign says of a run.

    Attributes:
        sign: what was looked at, in a word or two.
        found: what it is like, one sentence with its numbers.
        change: what to do about it; empty where all is well.
        gravity: how surely this keeps the reward from rising, 0 (not at all) to 1.
    """

    sign: str
    found: str
    change: str = ""
    gravity: float = 0.0

    @property
    def light(self) -> Light:
        """How grave it is in a colour: red, yellow or green."""
        return "bad" if self.gravity >= _BAD else "watch" if self.gravity >= _WATCH else "good"

    @property
    def words(self) -> str:
        """What was found, and what to do about it."""
        found = f"{self.found[0].upper()}{self.found[1:]}"
        return f"{found}: {self.change}." if self.change else f"{found}."

    def to_json(self) -> dict[str, str | float]:
        """Its fields, its light and its words."""
        return {**vars(self), "light": self.light, "words": self.words}


class Sign(Protocol):
    """Looks at one thing. None where the run cannot tell, as before its first evaluation."""

    def __call__(self, run: Evidence) -> Finding | None:
        """What it finds, with its numbers."""
        ...
