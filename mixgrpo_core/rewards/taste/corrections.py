"""Clicks that say that a taste is wrong about an image: votes in files, so that none is lost.

Each is a ballot of one picture in the folder of the run's taste, kept by the ballots' own rules. Before an iteration
the taste hears those that are new, and the ballot then says before which: an iteration that is done again after a kill
hears what it heard the first time, and nothing that was said later.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from ..people.ballot import BallotError
from ..people.ballot_box import BallotBox, id_of
from ..people.voting import Thumbs
from .looks import Look
from .opinions import MOST, Opinions
from .sources import opinions_of, read_picture

_WAY = Thumbs()


class Corrections:
    """Those in a folder."""

    def __init__(self, folder: Path) -> None:
        self._box = BallotBox(folder, kept=MOST)

    def say(self, picture: np.ndarray, prompt: str, *, liked: bool, iteration: int, place: int, now: int) -> None:
        """A person likes, or does not like, a ``picture`` (``[h, w, 3]`` in uint8) of an iteration.

        Args:
            place: tells the picture from others of the iteration.
            now: the iteration that is being done; the taste hears it before a later one.

        Raises:
            HeardError: the taste has learnt from what was said of it before.
            OSError: it could not be written.
        """
        ballot = self._box.opened([picture], prompt, _WAY, iteration=iteration, group=place, seconds=0.0)
        self._box.correct(ballot, 1 if liked else -1, now)

    def take_back(self, id: str) -> None:
        """Raises as `say`, and ``FileNotFoundError`` where nothing was said."""
        ballot = self._box.read(id)
        self._box.correct(ballot, None, ballot.after or 0)

    def said(self, id: str) -> str | None:
        """``"waits"`` for the next iteration, ``"heard"``, or None where nothing was said of that picture."""
        try:
            ballot = self._box.read(id)
        except (OSError, BallotError):
            return None
        return "heard" if ballot.heard is not None else "waits" if ballot.votes else None

    @property
    def waiting(self) -> int:
        """How many are heard before the next iteration."""
        return [self.said(id) for id in self._box.ids()].count("waits")

    def heard(self, iteration: int, look: Look, known: Collection[str]) -> Iterator[tuple[str, Opinions]]:
        """What a taste that knows those of the ids ``known`` hears before an iteration, and its id."""
        for id in self._box.ids():
            if id in known:
                continue
            try:
                ballot = self._box.read(id)
                if ballot.after is not None and iteration <= ballot.after:  # it is done again: that was said later
                    continue
                ballot = self._box.hear(ballot, iteration)
                if ballot.heard is None or iteration < ballot.heard:  # taken back, or heard later
                    continue
                opinions = opinions_of(ballot, [read_picture(file) for file in self._box.pictures(id)], look)
            except (BallotError, OSError, ValueError, IndexError):
                continue  # damaged by who edits it, or being written: it is looked at again
            yield id, opinions


def correction_id(picture: np.ndarray, prompt: str, *, iteration: int, place: int) -> str:
    """By which a picture ``[h, w, 3]`` in uint8 is known here."""
    return id_of([picture], prompt, _WAY, iteration=iteration, group=place)
