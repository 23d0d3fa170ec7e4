"""What a sign is, and what it finds."""

from dataclasses import dataclass
from typing import Protocol

from .evidence import Evidence


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


class Sign(Protocol):
    """Looks at one thing. None where the run cannot tell, as before its first evaluation."""

    def __call__(self, run: Evidence) -> Finding | None: ...
