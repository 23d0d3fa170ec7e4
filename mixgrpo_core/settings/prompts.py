"""Prompts and their split into training and held-out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..rewards.port import Context
from ..support.files import BYTE_ORDER_MARK
from ..support.pictured import reworded, unspelled
from ..support.seeds import derive_seeds
from ..support.sized import Sized, resized
from .pictures import FileContexts
from .prompt_files import read_prompt_file


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Prompts to train on, and prompts that are only evaluated; no prompt is in both."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def contexts(self) -> Mapping[str, Context]:
        """The reference pictures and masks of those that have some."""
        return FileContexts((*self.train, *self.held_out))


def read_prompts(
    train: str | Sequence[str], held_out: str | Sequence[str] | None = None, held_out_share: float = 0.1
) -> Prompts:
    """Prompts from files or lists, without duplicates.

    Args:
        train, held_out: the path of a file or a folder as ``read_prompt_file`` reads it, or prompts.
        held_out_share: share taken from ``train`` when ``held_out`` is None, at least one prompt of two unless it is 0;
            which ones depends on the prompts alone.

    Raises:
        ValueError: a file that is missing, empty, of another kind, or has a prompt of over 10,000 characters.
    """
    if not 0 <= held_out_share < 1:
        raise ValueError(f"held_out_share lies in 0..1 (below 1), found {held_out_share}")
    pool = _of_file(train) if isinstance(train, str) else _unique(train)
    if not pool:
        raise ValueError("expected prompts to train on, found none: set prompts.train to a file or a list")
    if held_out is not None:
        kept = _of_file(held_out) if isinstance(held_out, str) else _unique(held_out)
        return Prompts(train=pool, held_out=kept)
    wanted = max(1, round(len(pool) * held_out_share)) if held_out_share else 0  # a few prompts hold out one, not none
    count = min(wanted, len(pool) - 1)
    return split(pool, count)


def split(pool: Sequence[str], count: int, *keys: int | str) -> Prompts:
    """Hold out ``count`` of the prompts, which are all different; ``keys`` pick which, in any order of the pool.

    Those that differ in size alone are held out together, which may be some more or less.
    """
    if not count:
        return Prompts(train=tuple(pool), held_out=())
    of_one = [resized(prompt, None) for prompt in pool]
    if len(distinct := list(dict.fromkeys(of_one))) > 1:
        count = min(max(1, round(count * len(distinct) / len(pool))), len(distinct) - 1)
    else:  # the words are one prompt's: its sizes are what there is
        of_one = distinct = list(pool)
    numbers = np.array(derive_seeds(("split", *keys), distinct), dtype=np.int64)
    chosen = {distinct[place] for place in np.argpartition(numbers, count)[:count].tolist()}
    held_out = [one in chosen for one in of_one]
    return Prompts(
        train=tuple(prompt for prompt, out in zip(pool, held_out, strict=True) if not out),
        held_out=tuple(prompt for prompt, out in zip(pool, held_out, strict=True) if out),
    )


def _unique(prompts: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(_clean, prompts)))


def _clean(prompt: str) -> str:
    words = prompt.replace(BYTE_ORDER_MARK, "").strip()
    return reworded(prompt, words) if isinstance(prompt, Sized) else unspelled(words)


def _of_file(path: str) -> tuple[str, ...]:
    """As of a list, but what has no words is no mistake."""
    return tuple(prompt for prompt in _unique(read_prompt_file(path)) if prompt)
