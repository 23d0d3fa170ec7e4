"""Prompts with a size of their own: ``a lighthouse at dusk --size 832x1216``, width before height as people say it."""

import math
import re
from collections.abc import Iterable, Sequence

Size = tuple[int, int]
"""Height and width in pixels."""

_OPTION = re.compile(r"(?:^|\s)--size(?=[\s=:]|$)(.*)$", re.IGNORECASE)
_PIXELS = re.compile(r"[\s=:]*(\d{1,5})\s*[xX*]\s*(\d{1,5})\s*")


class Sized(str):
    """A prompt with a size of its own, or with more (`Pictured`).

    Two with the same words and other sizes are two prompts, wherever prompts are told apart; as text they are words.

    Attributes:
        size: height and width; None is the run's.
    """

    size: Size | None

    def __new__(cls, words: str, size: Size | None) -> "Sized":
        made = super().__new__(cls, words)
        made.size = size
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sized) and self._key == other._key

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> tuple[type[str], tuple[object, ...]]:
        return type(self), self._key

    def of_size(self, size: Size | None) -> str:
        """The same with another size, or with the run's."""
        return str(self) if size is None else Sized(str(self), size)

    @property
    def _key(self) -> tuple[object, ...]:
        return str(self), self.size


def size_of(prompt: str) -> Size | None:
    """The prompt's own size; None is the run's."""
    return prompt.size if isinstance(prompt, Sized) else None


def resized(prompt: str, size: Size | None) -> str:
    """The prompt with another size, or with the run's; what else it comes with stays."""
    return prompt.of_size(size) if isinstance(prompt, Sized) else prompt if size is None else Sized(prompt, size)


def with_option(line: str) -> str:
    """A line's prompt, with the size that its end asks for as ``--size 832x1216``, width x height.

    Raises:
        ValueError: an option that says no size.
    """
    found = _OPTION.search(line)
    if found is None:
        return line
    pixels = _PIXELS.fullmatch(found[1])
    if pixels is None:
        raise ValueError(
            f"expected a width and height behind --size at the end of a prompt, as in --size 832x1216, found "
            f"{found[1].strip()[:40]!r}: correct it"
        )
    width, height = int(pixels[1]), int(pixels[2])
    return Sized(line[: found.start()].strip(), (height, width))


def largest(prompts: Iterable[str], own: Size) -> str:
    """The prompt whose images have the most pixels, the first of equals; ``own`` is the size of those without one."""
    return max(prompts, key=lambda prompt: math.prod(size_of(prompt) or own))


def typical(prompts: Sequence[str], own: Size) -> str:
    """The prompt whose images are nearest the mean of all in their pixels, the first of equals."""
    pixels = [math.prod(size_of(prompt) or own) for prompt in prompts]
    mean = sum(pixels) / len(pixels)
    return min(zip(prompts, pixels, strict=True), key=lambda pair: abs(pair[1] - mean))[0]
