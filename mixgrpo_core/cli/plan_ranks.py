"""``mixgrpo plan --ranks N``: what several processes would do of a run, before any is started."""

from collections.abc import Sequence

from ..settings.config import TrainConfig
from ..training.workload import Dealt

_FLAG = "--ranks"


def taken(arguments: Sequence[str]) -> tuple[int, list[str]]:
    """The number of ranks that is asked about, 1 without the flag, and the other arguments.

    Raises ``ValueError`` for what is no number of ranks.
    """
    left = [word for pair in arguments for word in (pair.split("=", 1) if pair.startswith(f"{_FLAG}=") else [pair])]
    if _FLAG not in left:
        return 1, left
    place = left.index(_FLAG)
    asked = left[place + 1] if place + 1 < len(left) else "nothing"
    if not asked.isdecimal() or not 1 <= int(asked) <= 100_000:
        raise ValueError(f"expected a number of ranks after --ranks, found {asked}: say --ranks 2")
    return int(asked), left[:place] + left[place + 2 :]


def words(config: TrainConfig, ranks: int) -> str:
    """How the prompts of an iteration fall to ``ranks`` processes, and what that can save at best; empty for one."""
    if ranks == 1:
        return ""
    prompts = config.prompts_per_iteration
    at_once = -(-prompts // min(config.update_count, prompts))
    dealt = Dealt.of(config, ranks)
    sentence = (
        f"{ranks} ranks: at most {dealt.most} of {prompts} prompts each, so rollouts and scores go at best "
        f"{prompts / dealt.most:.3g} times as fast, and training {prompts / dealt.trained:.3g} times, where an update "
        f"has {at_once} prompts"
    )
    if ranks > prompts:
        return f"{sentence}. {ranks - prompts} ranks only wait: take more prompts per iteration, or fewer ranks"
    return sentence + "."
