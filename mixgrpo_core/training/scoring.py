"""The scoring of an iteration's groups; rewards that may do it beside the rollouts of the next ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from ..rewards.port import Reward, RewardBatch, Scores, about
from ..rewards.scoring import Failure, score
from ..rewards.turns import Turns, remembers
from ..support.aside import Aside, Task
from ..support.ranks import Ranks

Found: TypeAlias = tuple[dict[str, Scores], list[Failure]]


@dataclass(frozen=True)
class Scored:
    """A group's scores, of which some may still be on their way."""

    names: tuple[str, ...]
    here: Found
    aside: Task[Found] | None

    @property
    def done(self) -> bool:
        """Whether nobody has to wait for them."""
        return self.aside is None or self.aside.done

    def result(self) -> Found:
        """Scores and failures in the order of the rewards, once they are there."""
        scores, failures = self.here if self.aside is None else _joined(self.here, self.aside.result())
        order = {name: place for place, name in enumerate(self.names)}
        return {name: scores[name] for name in self.names}, sorted(failures, key=lambda one: order[one.reward])


def _joined(one: Found, other: Found) -> Found:
    return {**one[0], **other[0]}, [*one[1], *other[1]]


class Scoring:
    """Scores the groups of one iteration, in the order in which they are given; a context, which ends what is left.

    Rewards that declare it (`RewardInfo.aside`) score in a thread, each group after the one before it, so that they see
    what they would see here. On several ranks those that remember something take their turns here.

    Attributes:
        aside: whether there are any.
    """

    def __init__(self, rewards: Mapping[str, Reward], ranks: Ranks, count: int) -> None:
        self._names = tuple(rewards)
        self._elsewhere = {
            name: reward
            for name, reward in rewards.items()
            if about(reward).aside and (ranks.size == 1 or not remembers(reward.state_dict()))
        }
        self._here = {name: reward for name, reward in rewards.items() if name not in self._elsewhere}
        self._turns, self._worker = Turns(self._here, ranks, count), Aside()
        self._begun: list[Task[Found]] = []
        self.aside = bool(self._elsewhere)

    def begin(self, batch: RewardBatch) -> Scored:
        """Score a group; its number is its place."""
        piece = None
        if self.aside:
            piece = self._worker.do(partial(score, self._elsewhere, batch))
            self._begun.append(piece)
        with self._turns.at(batch.group):
            here = score(self._here, batch)
        return Scored(self._names, here, piece)

    def look(self) -> None:
        """Raise what scoring has raised meanwhile: an interrupt, say."""
        for piece in self._begun:
            if piece.failed:
                piece.result()

    def finish(self) -> None:
        """All groups have been given."""
        self._turns.finish()

    def __enter__(self) -> "Scoring":
        return self

    def __exit__(self, *exception: object) -> None:
        self._worker.give_up()
