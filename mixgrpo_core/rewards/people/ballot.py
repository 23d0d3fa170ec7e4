"""A ballot: a group of images that people vote on, and the form of its file.

A ballot is a JSON file and a folder of PNG files beside it, in the folder ``votes`` of a run::

    votes/000012-000-3fa4c2d1.json
        {"format": 1, "iteration": 12, "group": 0, "prompt": "a red circle", "way": "thumbs", "images": 4,
         "state": "open", "closes": 1790000000.0, "votes": {"0": 1, "3": -1}, "late": [], "fallback": "",
         "changes": 3}
    votes/000012-000-3fa4c2d1/0.png, 1.png, ...

Any program, or a text editor, may vote while ``state`` is "open": change ``votes`` (image, counted from 0: 1 or -1 for
"thumbs", the place from 1 for "ranking"), and set ``state`` to "done" (images without a vote were left out on purpose)
or "skipped".
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .voting import VOTE_SCHEMES, VoteScheme

FORMAT = 1
_CORRECTION = ("after", "heard")


class BallotError(ValueError):
    """A ballot's file is none."""


class HeardError(ValueError):
    """A vote on a ballot that a taste has learnt from: it cannot be changed any more."""


class State(Enum):
    """What became of a ballot."""

    OPEN = "open"
    DONE = "done"
    SKIPPED = "skipped"
    OVER = "time is up"


@dataclass(frozen=True, kw_only=True)
class Ballot:
    """A group that is, or was, voted on.

    Attributes:
        id: name of its file.
        iteration: of the training; None outside of one.
        group: the group's number within the iteration; of a correction, what tells its picture from others there.
        prompt: of its images.
        way: how people vote.
        images: how many there are.
        state: open, or how it was closed.
        closes: when it closes (seconds since 1970), for people; the run has a clock of its own.
        votes: by image, from 0; see ``way``.
        late: images whose vote came, or changed, after the ballot was closed.
        fallback: what was done instead of counting votes; empty where they counted.
        changes: how often its file was written; of two that are told late, the one with more is the newer.
        after: the iteration that was being done when a correction was said; None for what is none.
        heard: the iteration before which a taste learnt from it, where it is a correction; it cannot be changed then.
    """

    id: str
    iteration: int | None
    group: int
    prompt: str
    way: VoteScheme
    images: int
    state: State = State.OPEN
    closes: float = 0.0
    votes: Mapping[int, int] = field(default_factory=dict)
    late: tuple[int, ...] = ()
    fallback: str = ""
    changes: int = field(default=0, compare=False)
    after: int | None = None
    heard: int | None = None

    @property
    def open(self) -> bool:
        return self.state is State.OPEN

    @property
    def full(self) -> bool:
        """Every image has a vote."""
        return len(self.votes) == self.images

    @property
    def seconds_left(self) -> float:
        """Until it closes; 0 for one that is closed."""
        return max(0.0, self.closes - time.time()) if self.open else 0.0

    def to_json(self) -> dict[str, Any]:
        """The values of its file."""
        values = {
            name: getattr(self, name)
            for name in ("iteration", "group", "prompt", "images", "closes", "fallback", "changes")
        }
        votes = {str(image): self.votes[image] for image in sorted(self.votes)}
        written = {"state": self.state.value, "way": self.way.name, "votes": votes, "late": list(self.late)}
        correction = {name: when for name in _CORRECTION if (when := getattr(self, name)) is not None}
        return {"format": FORMAT, **values, **written, **correction}


def check_image(image: object, images: int) -> None:
    """Raise ``ValueError`` unless ``image`` is the number of one of ``images`` images."""
    if not isinstance(image, int) or not 0 <= image < images:
        raise ValueError(f"the ballot has images 0..{images - 1}, found {image!r}")


def from_json(id: str, found: Any) -> Ballot:
    """The ballot of a file's values. Raises ``BallotError`` with what is wrong with them."""
    try:
        if found["format"] != FORMAT:
            raise ValueError(f"expected format {FORMAT}, found {found['format']!r}")
        way, images = VOTE_SCHEMES[found["way"]], _whole(found["images"])
        votes = {int(image): _whole(vote) for image, vote in found["votes"].items()}
        for image, vote in votes.items():
            check_image(image, images)
            way.check(vote, images)
        return Ballot(
            id=id,
            iteration=None if found["iteration"] is None else _whole(found["iteration"]),
            group=_whole(found["group"]),
            prompt=str(found["prompt"]),
            way=way,
            images=images,
            state=State(found["state"]),
            closes=float(found["closes"]),
            votes=votes,
            late=tuple(_whole(image) for image in found["late"]),
            fallback=str(found["fallback"]),
            changes=_whole(found.get("changes", 0)),
            **{name: _whole(found[name]) for name in _CORRECTION if name in found},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BallotError(f"{id}.json is no ballot ({type(error).__name__}: {error})") from error


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"expected a whole number, found {value!r}")
    return value
