"""What people think of the images: a reward that asks them, and waits for no longer than it was told."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...support.aside import require_wanted
from ...support.setting import require_finite
from ..port import Reward, RewardBatch, RewardInfo, Scores, StatelessReward, about
from ..wrappers.exchange import map_parts
from .ballot import Ballot, State
from .ballot_box import BallotBox, Pictures
from .final_latents import FinalLatents
from .voting import Thumbs, VoteScheme

LARGEST = 768
"""Pixels of the longer side of the pictures that are shown."""
POLL_SECONDS = 0.2
SKIPPED = "skipped: the group teaches nothing"

Waiting = Callable[[Ballot], None]
"""Hears of a ballot as it is opened, at every look at it while a run waits, and once it is closed. What it raises ends
the wait at once, with the votes kept; ``BaseException`` ends the run, too."""


def unheard(ballot: Ballot) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class HumanVote(StatelessReward):
    """Shows each group to people and takes their votes; on the canvas in the live view, headless from files. Ours.

    A group is scored as soon as everybody is done: all images have a vote (and there were no ``second_thoughts``), or
    somebody says so. When the time is up what was voted counts; fewer than two votes say nothing, and ``fallback``
    scores the group, or it teaches nothing.
    While people look at a group the next prompts are rolled out. One group is shown after the other, and its time
    begins when it is shown.
    All of that is written down in the ballot (``ballot.py`` tells its form), so votes survive the process, and an
    iteration that is done again finds the votes for the same pictures, late ones too.

    Attributes:
        way: how people vote.
        shown: images of a group that are shown, the others get no score; 0 shows all.
        fallback: the reward of groups that nobody voted on in time; None lets them teach nothing.
        seconds: time for a group.
        second_thoughts: seconds that a group is still open when every image has a vote, from the last change on.
        folder: where the ballots are; a trainer on the canvas gives the run's own.
    """

    way: VoteScheme = Thumbs()
    shown: int = 0
    fallback: Reward | None = None
    seconds: float = field(default=300.0, repr=False)
    folder: str = field(default="", repr=False)
    second_thoughts: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        require_finite(self)
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"expected some seconds for the votes on a group, found {self.seconds}")
        if self.second_thoughts < 0:
            raise ValueError(f"expected no seconds or some for second thoughts, found {self.second_thoughts}")
        if self.shown < 0 or self.shown == 1:
            raise ValueError(f"expected two images or more to compare, or 0 for all, found {self.shown}")

    @property
    def about(self) -> RewardInfo:
        aside = self.fallback is None or about(self.fallback).aside
        return RewardInfo(expected=self.way.expected, groupwise=self.way.groupwise, held_out=False, aside=aside)

    def prepare(self, prompts: Sequence[str]) -> None:
        """Raises ``ValueError`` without a folder for the ballots."""
        if not self.folder:
            raise ValueError(
                "people are asked during a training; elsewhere give a folder for their ballots: "
                "HumanVote(folder='votes')"
            )
        if self.fallback is not None:
            self.fallback.prepare(prompts)

    def __call__(self, batch: RewardBatch) -> Scores:
        return self.ask(batch, BallotBox(Path(self.folder)), unheard)

    def ask(self, batch: RewardBatch, box: BallotBox, waiting: Waiting) -> Scores:
        """Put a group into the box, wait for the votes, and count them."""
        shown = batch.images[: self.shown or None]
        ballot = box.opened(
            shown_pictures(shown),
            batch.prompts[0],
            self.way,
            iteration=batch.context.iteration,
            group=batch.group,
            seconds=self.seconds,
            final=_final(batch, len(shown)),
        )
        ballot = self._wait(ballot, box, waiting)
        values = self.way.values(ballot.votes, ballot.images, rest=ballot.state is State.DONE)
        counts = int(values.isfinite().sum()) > 1
        judge = None if counts or ballot.state is State.SKIPPED else self.fallback
        waiting(box.note(ballot, "" if counts else f"scored by {judge!r}" if judge else SKIPPED))
        if judge is not None:
            return judge(batch)
        return _scores(values if counts else values * math.nan, len(batch.images))

    def _wait(self, ballot: Ballot, box: BallotBox, waiting: Waiting) -> Ballot:
        """Until it is closed, by people or by the clock. No lock is held meanwhile."""
        until = closes = time.monotonic() + self.seconds
        votes: Mapping[int, int] = {}
        while ballot.open:
            require_wanted()
            waiting(ballot)
            ballot = box.latest(ballot)
            now = time.monotonic()
            if ballot.open and ballot.votes != votes:
                votes = ballot.votes
                soon = min(until, now + self.second_thoughts) if ballot.full else until
                if closes != soon > now:
                    ballot = box.closing(ballot, soon - now)
                closes = soon
            if now >= closes:
                ballot = box.close(ballot, State.DONE if ballot.full else State.OVER)
            elif ballot.open:
                time.sleep(min(POLL_SECONDS, closes - now))
        return ballot

    def state_dict(self) -> dict[str, Any]:
        return {} if self.fallback is None else self.fallback.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.fallback is not None:
            self.fallback.load_state_dict(state)


@dataclass(frozen=True)
class HumanVoteAt(StatelessReward):
    """A `HumanVote` whose ballots have a place, and somebody who hears of them."""

    vote: HumanVote
    folder: Path
    waiting: Waiting = unheard

    @property
    def about(self) -> RewardInfo:
        return self.vote.about

    def prepare(self, prompts: Sequence[str]) -> None:
        if self.vote.fallback is not None:
            self.vote.fallback.prepare(prompts)

    def __call__(self, batch: RewardBatch) -> Scores:
        return self.vote.ask(batch, BallotBox(self.folder), self.waiting)

    def state_dict(self) -> dict[str, Any]:
        return self.vote.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.vote.load_state_dict(state)


def votes_at(reward: Any, folder: Path, waiting: Waiting) -> Any:
    """The reward with its votes, also those of rewards within it, cast in ``folder``; others come back as they are."""
    return votes_as(reward, lambda vote: HumanVoteAt(vote, folder, waiting))


def votes_as(reward: Any, other: Callable[[HumanVote], Reward]) -> Any:
    """The reward with another one for each `HumanVote`, also for those of rewards within it."""
    return map_parts(reward, HumanVote, other)


def shown_pictures(images: Tensor) -> Pictures:
    """Images ``[G, H, W, 3]`` in 0..1 as pictures of at most ``LARGEST`` pixels, made smaller where they are."""
    pixels = images.detach().float().clamp(0, 1).movedim(-1, 1)
    scale = LARGEST / max(pixels.shape[-2:])
    if scale < 1:
        pixels = interpolate(pixels, scale_factor=scale, mode="area")
    return list((pixels.movedim(1, -1) * 255).round().to(torch.uint8).cpu().numpy())


def _final(batch: RewardBatch, count: int) -> FinalLatents | None:
    """The latents of the first images; None where it is not known how they came to be."""
    first = batch.of(torch.arange(count))
    if first.latents is None or first.origin is None:
        return None
    return FinalLatents(latents=first.latents, origin=first.origin)


def _scores(values: Tensor, images: int) -> Scores:
    """Votes ``values`` on the first images of a group, which count where they are numbers."""
    known = torch.nn.functional.pad(values, (0, images - len(values)), value=math.nan)
    valid = known.isfinite()
    return Scores(known.nan_to_num(0.0), valid, "" if valid.all() else "nobody voted", abstained=True)
