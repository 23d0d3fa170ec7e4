"""Between a run that waits for votes and the browsers: the ballot is shown, the wait can be broken off."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.model_management

from ...mixgrpo_core.rewards.people.ballot import Ballot
from ...mixgrpo_core.rewards.people.ballot_box import BallotBox
from ...mixgrpo_core.rewards.people.votes import votes_at
from ...mixgrpo_core.rewards.port import Reward
from ...mixgrpo_core.rewards.taste.beliefs import Hearing
from ...mixgrpo_core.rewards.taste.reward import tastes_at
from ...mixgrpo_core.rewards.wrappers.transforms import afresh
from .events import Line, harmless, reference
from .tasting import TASTE

VOTES = "votes"
"""Folder of the ballots in a run's folder."""


def of_the_run(reward: Reward, folder: Path, voting: Callable[[Ballot], None], tasting: Hearing) -> Reward:
    """The reward as a run in ``folder`` has it: it remembers nothing yet, and its votes and tastes are there."""
    return tastes_at(votes_at(afresh(reward), folder / VOTES, voting), folder / TASTE, tasting)


class CutShort(BaseException):
    """The run is to be paused or stopped while it waits for votes; no ``Exception``, for rewards' own are guarded."""


class Voting:
    """What a `HumanVote` tells its ballots to.

    Args:
        line: to the browser.
        folder: the run's.
        status: says what the run is doing.
        leaving: whether the run is to be paused or stopped.
    """

    def __init__(
        self, line: Line, folder: Path, status: Callable[[str, str], None], leaving: Callable[[], bool]
    ) -> None:
        self._line, self._status, self._leaving = line, status, leaving
        self._box = BallotBox(folder / VOTES)
        self._shown: Ballot | None = None
        self._waiting = 0

    def __call__(self, ballot: Ballot) -> None:
        """Raises the host's interrupt or `CutShort` as soon as the user asks for it."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        if ballot.open and self._leaving():
            raise CutShort
        with harmless():
            self._tell_state(ballot)
            self.show(ballot)

    def show(self, ballot: Ballot) -> None:
        """Tell the browsers, unless they know it as it is or as it became since."""
        shown = self._shown
        older = shown is not None and shown.id == ballot.id and ballot.changes < shown.changes
        if ballot != shown and not older:
            self._shown = ballot
            self._line.send("ballot", **self._payload(ballot))

    @property
    def asks(self) -> bool:
        """Whether a ballot is open; the training may be doing something else meanwhile."""
        return self._shown is not None and self._shown.open

    def wait(self, groups: int) -> None:
        """So many groups wait for votes, that which is shown among them."""
        before, self._waiting = self._behind, groups
        if self._shown is not None and self._shown.open and self._behind != before:
            self._line.send("ballot", **self._payload(self._shown))

    @property
    def _behind(self) -> int:
        """Groups that wait behind the one that is shown."""
        return max(self._waiting - 1, 0)

    def on_vote(self, ballot: Ballot) -> None:
        """A vote came over HTTP: other browsers see it, too, late ones as well. Old ballots are left alone."""
        if self._shown is not None and self._shown.id == ballot.id:
            self.show(ballot)

    def snapshot(self) -> dict[str, Any] | None:
        """The ballot that was shown last, with the seconds that are left by now."""
        return None if self._shown is None else self._payload(self._shown)

    def _payload(self, ballot: Ballot) -> dict[str, Any]:
        return {**payload(ballot, self._box), "behind": self._behind if ballot.open else 0}

    def _tell_state(self, ballot: Ballot) -> None:
        before = None if self._shown is None or self._shown.id != ballot.id else self._shown
        if before is None and ballot.open:
            self._status("voting", "")
        elif before is not None and before.open and not ballot.open:
            self._status("scoring", "")


def payload(ballot: Ballot, box: BallotBox) -> dict[str, Any]:
    """A ballot as JSON values for the browser: its file's, and where its pictures are."""
    pictures = [reference(path) for path in box.pictures(ballot.id)]
    return {"id": ballot.id, **ballot.to_json(), "seconds_left": ballot.seconds_left, "pictures": pictures}
