"""The box of a run's ballots: files that outlive the process, replaced whole, so a reader never finds half of one."""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from ...support.files import TextFileError, exclusive, read_text, write_atomically
from .ballot import Ballot, BallotError, HeardError, State, check_image, from_json
from .final_latents import FinalLatents
from .voting import VoteScheme

KEPT = 32
"""Ballots whose pictures are kept; their votes all are. Only the last few iterations can ever be done again."""
LOCK_SECONDS = 5.0
_LEARNT = "the taste has learnt from this vote already"
_ID = re.compile(r"(?:\d{6,9}|scored)-\d{3,9}-[0-9a-f]{8}")

Pictures = Sequence[np.ndarray]
"""Images ``[h, w, 3]`` in uint8."""


class BallotBox:
    """The ballots in a folder; any number of boxes, threads and processes may share it.

    Args:
        kept: ballots whose pictures are kept.
    """

    def __init__(self, folder: Path, kept: int = KEPT) -> None:
        self.folder, self.kept = folder, kept

    def ids(self) -> list[str]:
        """Of all ballots, in order of their iteration."""
        return sorted(path.stem for path in self.folder.glob("*.json") if _ID.fullmatch(path.stem))

    def read(self, id: str) -> Ballot:
        """Raises ``FileNotFoundError`` (also for what is no id) or ``BallotError``."""
        path = self._file(id)
        try:
            return from_json(id, json.loads(read_text(path)))
        except (TextFileError, json.JSONDecodeError, RecursionError) as error:
            raise BallotError(f"{path} is no JSON ({error})") from error

    def pictures(self, id: str) -> list[Path]:
        """Where the images of a ballot are, in order; fewer where they were removed."""
        folder = self._file(id).with_suffix("")
        return sorted(folder.glob("*.png"), key=lambda path: (len(path.stem), path.stem))

    def opened(
        self,
        pictures: Pictures,
        prompt: str,
        way: VoteScheme,
        *,
        iteration: int | None,
        group: int,
        seconds: float,
        final: FinalLatents | None = None,
    ) -> Ballot:
        """The ballot of these pictures: a new one, or the one that there is of the same, with its votes.

        One that is still open is open for ``seconds`` from now on; one that was closed stays closed. ``final`` is kept
        beside it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        prefix = _prefix(iteration, group)
        new = Ballot(
            id=id_of(pictures, prompt, way, iteration=iteration, group=group),
            iteration=iteration,
            group=group,
            prompt=prompt,
            way=way,
            images=len(pictures),
        )
        with self._lock():
            ballot = self._known(new, pictures, prefix) or new
            if len(self.pictures(ballot.id)) != len(pictures):  # forgotten, or a process was killed while it wrote them
                self._store(ballot.id, pictures)
            if final is not None:
                final.save(self.folder, ballot.id)
            if ballot.open:
                ballot = self._write(replace(ballot, closes=time.time() + seconds))
            self._forget_old_pictures(ballot.id)
        return ballot

    def vote(self, id: str, votes: Mapping[int, int | None], end: State | None = None) -> Ballot:
        """Take votes for some images (None takes one back), and close the ballot where ``end`` says so.

        Votes that come after it was closed are kept, and marked late. ``State.SKIPPED`` throws the votes away.

        Raises:
            FileNotFoundError, BallotError: see `read`.
            HeardError: a taste has learnt from it.
            ValueError: an image or a vote that cannot be.
        """

        def voted(ballot: Ballot) -> Ballot:
            if ballot.heard is not None:
                raise HeardError(_LEARNT)
            for image, vote in votes.items():
                check_image(image, ballot.images)
                if vote is not None:
                    ballot.way.check(vote, ballot.images)
            merged = {image: vote for image, vote in {**ballot.votes, **votes}.items() if vote is not None}
            if not ballot.open:
                return replace(ballot, votes=merged, late=tuple(sorted({*ballot.late, *votes})))
            return replace(ballot, votes={} if end is State.SKIPPED else merged, state=end or State.OPEN)

        with self._lock():
            return self._write(voted(self.read(id)))

    def closing(self, ballot: Ballot, seconds: float) -> Ballot:
        """Say that a ballot closes in ``seconds`` from now, unless somebody closed it."""
        closes = time.time() + seconds
        return self._changed(ballot, lambda found: replace(found, closes=closes) if found.open else found)

    def close(self, ballot: Ballot, state: State) -> Ballot:
        """Close a ballot unless somebody did; with the votes that are in its file by now."""
        return self._changed(ballot, lambda found: replace(found, state=state) if found.open else found)

    def correct(self, ballot: Ballot, vote: int | None, after: int) -> Ballot:
        """Make a correction of a ballot of one image, said while iteration ``after`` was done; None takes it back.

        Raises:
            HeardError: a taste has learnt from it.
        """
        votes = {} if vote is None else {0: vote}

        def corrected(found: Ballot) -> Ballot:
            if found.heard is not None:
                raise HeardError(_LEARNT)
            return replace(found, votes=votes, state=State.DONE, after=after)

        return self._changed(ballot, corrected)

    def hear(self, ballot: Ballot, iteration: int) -> Ballot:
        """Write down before which iteration a taste learns from it, if anybody voted; the first time counts."""
        return self._changed(ballot, lambda b: replace(b, heard=iteration) if b.heard is None and b.votes else b)

    def note(self, ballot: Ballot, fallback: str) -> Ballot:
        """Write down what was done instead of counting votes."""
        return ballot if ballot.fallback == fallback else self._changed(ballot, lambda b: replace(b, fallback=fallback))

    def latest(self, ballot: Ballot) -> Ballot:
        """As its file is now; ``ballot`` itself where that is gone, or damaged by who edits it."""
        try:
            return self.read(ballot.id)
        except (OSError, BallotError):
            return ballot

    def _changed(self, ballot: Ballot, change: Callable[[Ballot], Ballot]) -> Ballot:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock():
            return self._write(change(self.latest(ballot)))

    def _known(self, new: Ballot, pictures: Pictures, prefix: str) -> Ballot | None:
        """The ballot that there is of the same pictures, exactly or to the eye (an update on a GPU rounds anew)."""
        names = sorted(self.folder.glob(f"{prefix}-*.json"), key=lambda path: path.stem != new.id)
        for path in names:
            try:
                found = self.read(path.stem)
            except (OSError, BallotError):
                continue
            same = (found.prompt, found.way, found.images) == (new.prompt, new.way, new.images)
            if same and (found.id == new.id or _look_alike(pictures, self.pictures(found.id))):
                return found
        return None

    def _file(self, id: str) -> Path:
        if not _ID.fullmatch(id):
            raise FileNotFoundError(f"{id!r} is no ballot of {self.folder}")
        return self.folder / f"{id}.json"

    def _write(self, ballot: Ballot) -> Ballot:
        ballot = replace(ballot, changes=ballot.changes + 1)
        write_atomically(self._file(ballot.id), json.dumps(ballot.to_json(), indent=1).encode())
        return ballot

    def _store(self, id: str, pictures: Pictures) -> None:
        """All of them or none: a process that is killed meanwhile leaves no ballot with half of its pictures."""
        partial, folder = self.folder / f".{id}.part", self.folder / id
        for old in (partial, folder):
            shutil.rmtree(old, ignore_errors=True)
        partial.mkdir()
        for index, picture in enumerate(pictures):
            Image.fromarray(picture).save(partial / f"{index}.png", compress_level=3)
        partial.rename(folder)

    def _forget_old_pictures(self, current: str) -> None:
        for id in self.ids()[: -self.kept]:
            if id != current:
                shutil.rmtree(self.folder / id, ignore_errors=True)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One writer at a time, in all processes; held for a read and a write and never while anybody waits.

        Raises:
            OSError: the folder cannot be written, or others held the lock for ``LOCK_SECONDS``.
        """
        until = time.monotonic() + LOCK_SECONDS
        while True:
            held = exclusive(self.folder / ".lock")
            try:
                held.__enter__()
                break
            except (BlockingIOError, PermissionError):
                if time.monotonic() > until:
                    raise
                time.sleep(0.005)
        try:
            yield
        finally:
            held.__exit__(None, None, None)


def id_of(pictures: Pictures, prompt: str, way: VoteScheme, *, iteration: int | None, group: int) -> str:
    """Of the ballot of these pictures."""
    return f"{_prefix(iteration, group)}-{_digest(pictures, prompt, way)}"


def _prefix(iteration: int | None, group: int) -> str:
    return f"{'scored' if iteration is None else f'{iteration:06}'}-{group:03}"


def _digest(pictures: Pictures, prompt: str, way: VoteScheme) -> str:
    digest = sha256(f"{way.name} {prompt}".encode())
    for picture in pictures:
        digest.update(repr(picture.shape).encode() + np.ascontiguousarray(picture).tobytes())
    return digest.hexdigest()[:8]


def _look_alike(pictures: Pictures, files: Sequence[Path]) -> bool:
    """Whether stored pictures differ from these by no more than rounding does: 2 of 255 on average, 32 at most."""
    if len(files) != len(pictures):
        return False
    for picture, file in zip(pictures, files, strict=True):
        try:
            stored = np.asarray(Image.open(file).convert("RGB"), dtype=np.int16)
        except (OSError, ValueError):
            return False
        if stored.shape != picture.shape:
            return False
        difference = np.abs(stored - picture)
        if difference.mean() > 2 or difference.max() > 32:
            return False
    return True
