"""The 160 captions of the shapes world.

    "a {size} {colour} {shape} {on the left | on the right | at the top | at the bottom | in the middle}"

4 colours x 4 shapes x 2 sizes x 5 places = 160 captions. 128 of them are for training, 32 are held out; each of the
16 colour-shape pairs occurs ten times in all and is held out exactly twice, so that no pair is new at test time.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..support.quoting import shown

COLOURS = ("red", "green", "blue", "yellow")
SHAPES = ("circle", "square", "triangle", "cross")
SIZES = ("small", "large")
PLACES = ("left", "right", "top", "bottom", "middle")

_PREPOSITION = {"left": "on", "right": "on", "top": "at", "bottom": "at", "middle": "in"}
_EXAMPLE = "a small red circle on the left"


@dataclass(frozen=True, kw_only=True)
class Caption:
    """What one drawing shows; `str()` is the sentence, `Caption.parse` its inverse."""

    colour: str
    shape: str
    size: str
    place: str

    def __post_init__(self) -> None:
        _expect("colour", self.colour, COLOURS)
        _expect("shape", self.shape, SHAPES)
        _expect("size", self.size, SIZES)
        _expect("place", self.place, PLACES)

    def __str__(self) -> str:
        where = f"{_PREPOSITION[self.place]} the {self.place}"
        return f"a {self.size} {self.colour} {self.shape} {where}"

    @classmethod
    def parse(cls, text: str) -> "Caption":
        """The caption that `text` spells. Case and extra spaces do not matter.

        Raises:
            ValueError: `text` is not one of the 160 captions; the message says what would be one.
        """
        words = text.lower().split()
        if len(words) != 7:
            raise ValueError(
                f"Expected a caption of 7 words like {_EXAMPLE!r}, found {len(words)} words in {shown(text)}. "
                "Write it as 'a SIZE COLOUR SHAPE on the PLACE'."
            )
        try:
            caption = cls(colour=words[2], shape=words[3], size=words[1], place=words[6])
        except ValueError as error:
            raise ValueError(f"{error} The caption was {shown(text)}.") from None
        if str(caption) != " ".join(words):
            raise ValueError(f"Expected {str(caption)!r}, found {text!r}. Use the expected spelling.")
        return caption


def _expect(what: str, found: str, allowed: Sequence[str]) -> None:
    if found not in allowed:
        raise ValueError(f"Expected a {what} out of {', '.join(allowed)}, found {found!r}. Use one of these words.")


def all_captions() -> tuple[Caption, ...]:
    """All 160 captions, in a fixed order."""
    return tuple(
        Caption(colour=colour, shape=shape, size=size, place=place)
        for colour, shape, size, place in itertools.product(COLOURS, SHAPES, SIZES, PLACES)
    )


def split_captions(seed: int = 0) -> tuple[tuple[Caption, ...], tuple[Caption, ...]]:
    """128 training captions and 32 held-out captions; the same for the same `seed`.

    Two of the ten captions of every colour-shape pair are held out, in different places.
    """
    shuffle = random.Random(seed)
    held_out: set[Caption] = set()
    for colour, shape in itertools.product(COLOURS, SHAPES):
        for place in shuffle.sample(PLACES, 2):
            size = shuffle.choice(SIZES)
            held_out.add(Caption(colour=colour, shape=shape, size=size, place=place))
    training = tuple(caption for caption in all_captions() if caption not in held_out)
    return training, tuple(caption for caption in all_captions() if caption in held_out)
