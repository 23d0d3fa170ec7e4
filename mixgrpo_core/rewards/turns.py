"""Rewards that remember, on several ranks: they score in the order of the places and remember the same on all."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..support.ranks import Ranks
from .port import Reward


class Turns:
    """Hands what rewards remember from each place to the next.

    Rewards without a memory take no turns, nor does one rank alone.

    Args:
        count: places that will be scored, by all ranks.
    """

    def __init__(self, rewards: Mapping[str, Reward], ranks: Ranks, count: int) -> None:
        several = {name: reward for name, reward in rewards.items() if ranks.size > 1}
        self._remembering = {name: reward for name, reward in several.items() if remembers(reward.state_dict())}
        self._ranks, self._count, self._next = ranks, count if self._remembering else 0, 0

    @contextmanager
    def at(self, place: int) -> Iterator[None]:
        """Inside, ``place`` is scored: what comes before it has been, wherever."""
        self._until(min(place, self._count))
        yield
        if self._remembering:
            self._hand({name: reward.state_dict() for name, reward in self._remembering.items()})

    def finish(self) -> None:
        """Wait for the places that others score last."""
        self._until(self._count)

    def _until(self, place: int) -> None:
        while self._next < place:
            self._hand(None)

    def _hand(self, own: Mapping[str, Any] | None) -> None:
        found = next(states for states in self._ranks.all_gather(own) if states is not None)
        if own is None:
            for name, state in found.items():
                self._remembering[name].load_state_dict(state)
        self._next += 1


def remembers(state: object) -> bool:
    """Whether there is anything in a state but empty tables."""
    return any(map(remembers, state.values())) if isinstance(state, Mapping) else True
