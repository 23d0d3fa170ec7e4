"""A reward that is learnt from one person: it says what that person would like, and asks where it is not sure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...support.setting import require_finite
from ..embedders.similarity import ImageEncoder
from ..networks.places import Placement, Precision, Resident
from ..people.votes import HumanVote, HumanVoteAt
from ..people.voting import VoteScheme
from ..port import Reward, RewardBatch, RewardInfo, Scores, about
from ..wrappers.exchange import map_parts
from .asking import confidence, telling
from .beliefs import Believed, Hearing, liked, unheard
from .looks import ColoursAndEdges, Look
from .memory import TasteMemory
from .opinions import Opinions
from .taste import Taste

UNSURE = "the taste is not sure enough of this group"


@dataclass(frozen=True)
class TasteReward(Reward):
    """Logits that one person would like an image, by an ensemble of heads that was learnt from that person's votes.

    Ours. Where the heads agree too little on a group, it abstains: of the group's images ``asked`` go to the ballot,
    those whose votes tell most, and the votes score them; nobody is asked twice. What was said is learnt from before
    the next iteration: a refresh is a part of the run's state, so a run that is gone on with has the same taste at the
    same iteration. Held-out images are scored by the taste of the moment, and a refresh moves their figures.

    Attributes:
        file: a taste to begin with, of ``mixgrpo taste train``; without one it begins with asking.
        encoder: what it sees of pictures: that which the file was learnt on.
        ask: whom it asks: people (``HumanVote()``), or a slow reward; None asks nobody, and it abstains.
        asked: images of a group that are asked about.
        confidence: share of the spread within a group that the heads must agree on, 0 to 1; 0 asks until ``least``.
        least: images with votes under which it is never sure.
        most: groups that are asked about in a run; then it goes on alone. 0 is no bound.
        caution: standard deviations of the ensemble that are taken from its mean, compared within a group: what it
            knows little about counts as worse, or a run would find what the taste likes and the person does not.
        conditioned: a taste that begins here looks at the words of prompts, too.
        precision, place, batch: of the encoder's network.
        corrections: folder of ballots in which a person said that it is wrong, and of the newest taste's file; a
            trainer on the canvas gives the run's.
    """

    file: str = ""
    encoder: ImageEncoder = ColoursAndEdges()
    ask: Reward | None = None
    asked: int = 4
    confidence: float = 0.5
    least: int = 24
    most: int = 0
    caution: float = 2.0
    conditioned: bool = True
    precision: Precision = field(default="auto", repr=False)
    place: Placement = field(default=Resident(), repr=False)
    batch: int = field(default=16, repr=False)
    corrections: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        require_finite(self)
        if not 0 <= self.confidence <= 1:
            raise ValueError(f"confidence is a share of 0 to 1, found {self.confidence}")
        if self.asked < 2:
            raise ValueError(f"expected two images or more to ask about, found asked={self.asked}")
        if min(self.least, self.most) < 0 or self.caution < 0:
            raise ValueError(f"expected least, most and caution of 0 or more, found {self}")

    @property
    def about(self) -> RewardInfo:
        return RewardInfo(
            licence=self.encoder.licence,
            memory=self._memory_bytes,
            aside=isinstance(self.encoder, ColoursAndEdges) and self.ask is not None and about(self.ask).aside,
            held_out=self._told.taste is not None or bool(self.file),
        )

    @property
    def taste(self) -> Taste | None:
        """As it is at the moment; None while nothing was learnt."""
        return self._told.taste

    @property
    def figures(self) -> Mapping[str, float]:
        """How it goes: for the charts of a run."""
        return self._told.figures

    def prepare(self, prompts: Sequence[str]) -> None:
        """Begins anew, with the file's taste.

        Raises:
            ValueError: the file is no taste, or of another encoder, or there is neither a file nor anybody to ask.
        """
        if not self.file and self.ask is None:
            raise ValueError(
                "a taste without a file knows nothing, and this one asks nobody: give it the file of mixgrpo taste "
                "train, or somebody to ask, such as TasteReward(ask=HumanVote(folder='votes'))"
            )
        self._look.check()
        if self.file:
            self._told.begin(self._opened())
        else:
            self._told.begin(None)
        if self.ask is not None:
            self.ask.prepare(prompts)

    def __call__(self, batch: RewardBatch) -> Scores:
        """Raises ``ValueError`` for what the encoder cannot see."""
        iteration = batch.context.iteration
        if iteration is not None:
            self._told.refresh(iteration, self._look, self.corrections, conditioned=self.conditioned)
        if self.file and self._told.taste is None:  # scored without a training
            self._told.begin(self._opened())
        taste, features = self._told.taste, self._look.features(batch.images)
        logits = None if taste is None else taste.logits(features, batch.prompts)
        scores = self._scores(batch, features, logits)
        if iteration is not None:
            self._tell(batch, iteration, logits)
        return scores

    def _scores(self, batch: RewardBatch, features: Tensor, logits: Tensor | None) -> Scores:
        iteration, taste = batch.context.iteration, self._told.taste
        if logits is not None and (iteration is None or self._sure(taste, logits)):
            return Scores.of(self._values(logits))
        if iteration is None or self.ask is None or 0 < self.most <= self._told.questions:
            if logits is not None and self.ask is not None:
                return Scores.of(self._values(logits))
            return _unscored(len(batch.images), UNSURE)
        return self._asked(batch, features, logits, iteration)

    def _tell(self, batch: RewardBatch, iteration: int, logits: Tensor | None) -> None:
        """Who looks on hears what it believes of a group, once the group has its scores."""
        told, taste = self._told, self._told.taste
        self._told.hearing(
            Believed(
                iteration=iteration,
                group=batch.group,
                prompt=batch.prompts[0],
                images=batch.images,
                liked=None if taste is None or logits is None else liked(taste, logits),
                agreement=None if taste is None else taste.agreement,
                votes=told.votes,
                questions=told.questions,
                refreshed=int(told.refreshes[-1]["iteration"]) if told.refreshes else None,
            )
        )

    def heard_by(self, hearing: Hearing) -> "TasteReward":
        """Itself, with somebody who looks on."""
        self._told.hearing = hearing
        return self

    def state_dict(self) -> dict[str, Any]:
        whole = self._told.to_values()
        return whole if self.ask is None else {**whole, "ask": self.ask.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._told.load(state)
        if self.ask is not None:
            self.ask.load_state_dict(state["ask"])

    def _sure(self, taste: Taste | None, logits: Tensor) -> bool:
        if self.confidence == 0 and self.ask is None:
            return True
        return taste is not None and len(taste.opinions) >= self.least and confidence(logits) >= self.confidence

    def _values(self, logits: Tensor) -> Tensor:
        spread = (logits - logits.mean(1, keepdim=True)).std(0, unbiased=False)
        return logits.mean(0) - self.caution * (spread - spread.mean())

    def _asked(self, batch: RewardBatch, features: Tensor, logits: Tensor | None, iteration: int) -> Scores:
        """The votes on the images that tell most, which are remembered; the others have no score."""
        count = len(batch.images)
        few = min(self.asked, count)
        places = list(range(few)) if logits is None else telling(logits, few)
        assert self.ask is not None
        found = self.ask(batch.of(torch.as_tensor(places)))
        way = _way_of(self.ask)
        values, valid = found.values.detach().float().cpu(), found.valid.cpu()
        if way is None or found.abstained:  # else it is the fallback that scored, and nobody said anything
            said = torch.where(valid, values, torch.nan)
            ranked = way is None or way.groupwise
            opinions = Opinions.of_group(features[places], said, batch.prompts[0], ranked=ranked)
            self._told.hear(iteration, opinions)
        scores = _unscored(count, UNSURE)
        scores.values[places], scores.valid[places] = torch.where(valid, values, 0.0), valid
        return scores

    def _opened(self) -> Taste:
        taste = Taste.load(Path(self.file).expanduser())
        taste.require(self._look)
        return taste

    @property
    def _memory_bytes(self) -> int:
        try:
            return self._look.memory
        except ValueError:  # no such file yet
            return 0

    @cached_property
    def _look(self) -> Look:
        return Look(self.encoder, self.precision, self.place, self.batch)

    @cached_property
    def _told(self) -> TasteMemory:
        return TasteMemory()


def alone(reward: Reward) -> Reward:
    """The reward with tastes, also those within it, that ask nobody and never abstain: for images of no training."""
    made: Reward = map_parts(reward, TasteReward, lambda found: replace(found, ask=None, confidence=0.0))
    return made


def unattended(rewards: Mapping[str, Reward]) -> dict[str, Reward]:
    """Those that score any image, `alone`: people are asked about images of a training only."""
    return {name: alone(reward) for name, reward in rewards.items() if about(reward).held_out}


def tastes_at(reward: Reward, folder: Path, hearing: Hearing = unheard) -> Reward:
    """The reward with tastes, also those within it, whose corrections and newest file are in ``folder``; ``hearing``
    hears what they believe."""
    made: Reward = map_parts(
        reward, TasteReward, lambda found: replace(found, corrections=str(folder)).heard_by(hearing)
    )
    return made


def _unscored(count: int, note: str) -> Scores:
    return Scores(torch.zeros(count), torch.zeros(count, dtype=torch.bool), note, abstained=True)


def _way_of(ask: Reward) -> VoteScheme | None:
    """How people vote; None where it is a reward that is asked, whose scores compare within a group."""
    vote = ask.vote if isinstance(ask, HumanVoteAt) else ask
    return vote.way if isinstance(vote, HumanVote) else None
