"""The line of progress text: ``iteration 12/300 - sampling 3/8 - window 4-7 - 41 min left``."""

from collections.abc import Sequence

from ...mixgrpo_core.rewards.people.ballot import Ballot
from ...mixgrpo_core.runs.reports import Progress

_PHASES = {"rollout": "sampling", "train": "updating", "evaluation": "held-out samples"}


def progress_text(event: Progress, iterations: int, trained: Sequence[int], seconds_left: float | None) -> str:
    """One line; ``trained`` are the indices of the iteration's trained steps, ascending."""
    parts = [f"iteration {event.iteration + 1}/{iterations}", f"{_PHASES[event.phase]} {event.done}/{event.total}"]
    if trained:
        parts.append(f"window {trained[0]}-{trained[-1]}")
    if seconds_left is not None:
        parts.append(f"{duration(seconds_left)} left")
    return " - ".join(parts)


def voting_text(ballot: Ballot) -> str:
    """``iteration 12 - waiting for your vote, 2 of 8 images - 43 s left``."""
    at = "" if ballot.iteration is None else f"iteration {ballot.iteration + 1} - "
    voted = f"{len(ballot.votes)} of {ballot.images} images"
    return f"{at}waiting for your vote, {voted} - {duration(ballot.seconds_left)} left"


def duration(seconds: float) -> str:
    """``50 s``, ``41 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
