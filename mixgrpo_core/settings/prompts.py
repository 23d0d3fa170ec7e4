"""Prompt files and their split into training and held-out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..support.seeds import derive_seed

LONGEST_LINE = 10_000


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Prompts to train on, and prompts that are only evaluated; no prompt is in both."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def read_prompts(
    train: str | Sequence[str], held_out: str | Sequence[str] | None = None, held_out_share: float = 0.1
) -> Prompts:
    """Prompts from files or lists, without duplicates.

    Args:
        train, held_out: the path of a file (.txt: a prompt per line; .jsonl: a ``prompt`` per line), or prompts.
        held_out_share: share taken from ``train`` when ``held_out`` is None, at least one prompt of two unless it is 0;
            which ones depends on the prompts alone.

    Raises:
        ValueError: a file that is missing, empty, not UTF-8, or has a line of over 10,000 characters.
    """
    if not 0 <= held_out_share < 1:
        raise ValueError(f"held_out_share lies in 0..1 (below 1), found {held_out_share}")
    pool = _unique(read_prompt_file(train) if isinstance(train, str) else train)
    if not pool:
        raise ValueError("expected prompts to train on, found none: set prompts.train to a file or a list")
    if held_out is not None:
        kept = _unique(read_prompt_file(held_out) if isinstance(held_out, str) else held_out)
        return Prompts(train=pool, held_out=kept)
    wanted = max(1, round(len(pool) * held_out_share)) if held_out_share else 0  # a few prompts hold out one, not none
    count = min(wanted, len(pool) - 1)
    taken = set(sorted(pool, key=lambda prompt: derive_seed("split", prompt))[:count])
    return Prompts(
        train=tuple(prompt for prompt in pool if prompt not in taken),
        held_out=tuple(prompt for prompt in pool if prompt in taken),
    )


def read_prompt_file(path: str | Path) -> list[str]:
    """The prompts of one file, blank lines and ``#`` comments left out."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ValueError(
            f"expected a prompt file at {path}, found nothing: check the path, or give the prompts themselves as a list"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    except OSError as error:
        raise ValueError(
            f"cannot read the prompt file {path} ({error.strerror}): check the path and its rights"
        ) from error
    prompts = []
    for number, line in enumerate(text.split("\n"), 1):  # splitlines() would also break a prompt at U+2028 and the like
        line = line.strip()
        if len(line) > LONGEST_LINE:
            raise ValueError(
                f"line {number} of {path} has {len(line)} characters; expected one prompt per line of at most "
                f"{LONGEST_LINE}: split it"
            )
        if line and not line.startswith("#"):
            prompts.append(_prompt(line, number, path))
    if not prompts:
        raise ValueError(f"{path} holds no prompts: write one per line")
    return prompts


def _prompt(line: str, number: int, path: Path) -> str:
    if path.suffix != ".jsonl":
        return line
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f'line {number} of {path} is not {{"prompt": "..."}}: {error}') from error
    if not isinstance(prompt, str):
        raise ValueError(f"line {number} of {path}: expected the prompt to be a string, found {type(prompt).__name__}")
    if not prompt.strip():
        raise ValueError(f"line {number} of {path}: expected a prompt with words, found none: remove the line")
    return prompt


def _unique(prompts: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(prompt.strip() for prompt in prompts))
