"""How something changes over the iterations of a run, found without looking at all of them."""

import heapq
from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

K = TypeVar("K")
LOOKS = 2000
"""Iterations that are looked at at most; up to so many, all are."""


def course(at: Callable[[int], K], iterations: int) -> list[tuple[int, K]]:
    """From which iteration on what is so: (iteration, ``at`` it), ascending, from 0.

    Of a longer run an even half of the looks comes first, and then the longest stretches whose ends differ are halved.
    So what moves slowly, as windows do, is found to the iteration; of what changes all the time it is a sample.
    """
    if iterations <= LOOKS:
        seen = {iteration: at(iteration) for iteration in range(iterations)}
    else:
        even = LOOKS // 2
        seen = {place: at(place) for place in (number * (iterations - 1) // even for number in range(even + 1))}
        _halve(seen, at)
    changes: list[tuple[int, K]] = []
    for place in sorted(seen):
        if not changes or seen[place] != changes[-1][1]:
            changes.append((place, seen[place]))
    return changes


def _halve(seen: dict[int, K], at: Callable[[int], K]) -> None:
    """Look into stretches whose ends differ, until there is none or the looks are spent."""
    places = sorted(seen)
    stretches = [(a - b, a, b) for a, b in pairwise(places)]
    heapq.heapify(stretches)
    while stretches and len(seen) < LOOKS:
        _, first, last = heapq.heappop(stretches)
        middle = (first + last) // 2
        if seen[first] == seen[last] or middle == first:
            continue
        seen[middle] = at(middle)
        for a, b in ((first, middle), (middle, last)):
            heapq.heappush(stretches, (a - b, a, b))
