"""Prompts that come with a picture: an instruction, and what it is about."""

import json
from collections.abc import Mapping

from .sized import Size, Sized, resized, size_of, with_option

_KNOWN = frozenset({"prompt", "image", "mask", "width", "height"})


class Pictured(Sized):
    """A prompt with a reference picture, perhaps a mask, and perhaps a size of its own.

    Two with the same words and other pictures are two prompts, wherever prompts are told apart; as text they are words.

    Attributes:
        picture: the path of the reference, or what else tells it from others.
        mask: the same of the mask; empty without one.
    """

    picture: str
    mask: str

    def __new__(cls, words: str, picture: str, mask: str = "", size: Size | None = None) -> "Pictured":
        made = str.__new__(cls, words)
        made.picture, made.mask, made.size = picture, mask, size
        return made

    def of_size(self, size: Size | None) -> "Pictured":
        """The same with another size, or with the run's."""
        return Pictured(str(self), self.picture, self.mask, size)

    @property
    def _key(self) -> tuple[object, ...]:
        return str(self), self.picture, self.mask, self.size


def reworded(prompt: str, words: str) -> str:
    """Other words with what the prompt comes with."""
    if isinstance(prompt, Pictured):
        return Pictured(words, prompt.picture, prompt.mask, prompt.size)
    return resized(words, size_of(prompt))


def spelled(prompt: str) -> str:
    """A prompt as one text that ``unspelled`` reads: with what it comes with, as a line of a .jsonl file has it."""
    if not isinstance(prompt, Sized):
        return prompt
    picture, mask = (prompt.picture, prompt.mask) if isinstance(prompt, Pictured) else ("", "")
    pictures = {name: path for name, path in (("image", picture), ("mask", mask)) if path}
    sides = {} if prompt.size is None else {"width": prompt.size[1], "height": prompt.size[0]}
    return json.dumps({"prompt": str(prompt), **pictures, **sides}, ensure_ascii=False)


def unspelled(text: str) -> str:
    """What ``spelled`` wrote, or a line with a size (`with_option`); any other text is a prompt as it stands.

    Raises:
        ValueError: a size that is none.
    """
    if isinstance(text, Sized):
        return text
    if not text.lstrip().startswith("{"):
        return with_option(text)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if (
        not isinstance(found, dict)
        or not _KNOWN >= found.keys() > {"prompt"}
        or ("mask" in found and "image" not in found)
    ):
        return text
    words, size = str(found["prompt"]), size_in(found)
    if "image" not in found:
        return resized(words, size)
    return Pictured(words, str(found["image"]), str(found.get("mask", "")), size)


def size_in(entry: Mapping[str, object]) -> Size | None:
    """The size of an entry of a file, by its ``width`` and ``height``; None where it has neither.

    Raises:
        ValueError: one of them alone, or no whole numbers of pixels.
    """
    width, height = (_pixels(entry.get(side)) for side in ("width", "height"))
    if width is None and height is None:
        return None
    if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
        return height, width
    raise ValueError(
        f"expected a width and a height in pixels, found width {entry.get('width')!r} and height "
        f"{entry.get('height')!r}: give both, or neither for the run's own size"
    )


def _pixels(said: object) -> int | str | None:
    """A number of pixels out of a file; None where there is none, and words where it is another thing."""
    if said is None or said == "":
        return None
    whole = float(said) if isinstance(said, int | float) and not isinstance(said, bool) else None
    if whole is not None and whole.is_integer():
        return int(whole)
    words = str(said).strip()
    return int(words) if words.isascii() and words.isdecimal() and len(words) < 6 else words or None
