"""Whether an image shows the words that its prompt puts in quotes.

    score = 1 - distance / length                        of the wanted text, in lower case and without spaces; 0 to 1

The distance is 0 where the wanted text is somewhere in what was read; else Levenshtein's, at most the length. (As in
Flow-GRPO, arXiv 2505.05470, which takes the first quoted text only.)
"""

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from ...support.aside import require_wanted
from ..port import RewardBatch, RewardInfo, Scores, StatelessReward
from .rapid_ocr import RapidOCRReader

_APOSTROPHE = r"(?<=\w)['\u2019](?=\w)"
_LONGEST = "{1,300}"  # nobody wants more words in a picture; without a bound, marks that are never closed take long
_QUOTED = re.compile(
    f'"([^"]{_LONGEST})"'
    f"|[\u201c\u201e\u201d]([^\u201c\u201d]{_LONGEST})[\u201c\u201d]"  # double: English, German, Swedish
    f"|\u00ab([^\u00bb]{_LONGEST})\u00bb|\u300c([^\u300d]{_LONGEST})\u300d"  # French, Japanese
    f"|(?<!\\w)'((?:[^']|{_APOSTROPHE}){_LONGEST})'(?!\\w)"
    f"|\u2018((?:[^\u2019]|{_APOSTROPHE}){_LONGEST})\u2019(?!\\w)"
)


class Reader(Protocol):
    """Reads what is written in a picture."""

    @abstractmethod
    def prepare(self) -> None:
        """Checks that it can read. Raises ValueError that says what is missing."""
        ...

    @abstractmethod
    def read(self, image: np.ndarray) -> list[str]:
        """``[H, W, 3]`` uint8, red first, to its lines, from top to bottom."""
        ...


@dataclass(frozen=True)
class TextAccuracy(StatelessReward):
    """How much of the quoted text of the prompt can be read in the image, 0 to 1. Not differentiable.

    A prompt without quoted text has no score. Several quoted texts count as one, in their order or in any. Images
    plastered with the text are its cheat: combine it with a reward for the picture.

    Attributes:
        reader: does the reading.
    """

    reader: Reader = field(default=RapidOCRReader())

    about = RewardInfo(
        expected=(0.0, 1.0),
        licence="Apache-2.0 (RapidOCR with PaddleOCR's networks)",
        spread_floor=0.01,
        aside=True,
    )

    def prepare(self, prompts: Sequence[str]) -> None:
        """Checks the reader and the prompts.

        Raises:
            ValueError: the reader lacks something, or no prompt has quoted text.
        """
        self.reader.prepare()
        if prompts and not any(map(wanted_texts, prompts)):
            raise ValueError(
                f"expected prompts with the wanted words in quotes, such as 'a sign that says \"OPEN\"', found none "
                f"among {len(prompts)}"
            )

    def __call__(self, batch: RewardBatch) -> Scores:
        pictures = batch.images.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
        wanted = [wanted_texts(prompt) for prompt in batch.prompts]
        found = []
        for picture, texts in zip(pictures, wanted, strict=True):
            require_wanted()  # reading takes a while
            found.append(accuracy("".join(self.reader.read(picture)), texts) if texts else float("nan"))
        silent = not all(wanted)
        note = "the prompt has no quoted text" if silent else ""
        values = torch.tensor(found)
        return Scores(values, values.isfinite(), note, abstained=silent)


def wanted_texts(prompt: str) -> list[str]:
    """What stands in quotes, straight or curly, in lower case and without spaces."""
    spans = (_plain("".join(filter(None, found))) for found in _QUOTED.findall(prompt))
    return [span for span in spans if span]


def accuracy(read: str, wanted: Sequence[str]) -> float:
    """1 where ``wanted`` (see `wanted_texts`) is in what was ``read``, down to 0."""
    read, whole = _plain(read), "".join(wanted)
    in_any_order = sum(_missing(read, text) for text in wanted)
    return 1 - min(_missing(read, whole), in_any_order) / len(whole)


def levenshtein(one: str, other: str) -> int:
    """The fewest insertions, deletions and replacements of characters that make ``other`` of ``one``."""
    letters = np.array(list(map(ord, other)), dtype=np.int64)
    places = np.arange(len(other) + 1)
    row = places
    for count, letter in enumerate(map(ord, one), start=1):
        replaced_or_deleted = np.minimum(row[:-1] + (letters != letter), row[1:] + 1)
        # An insertion costs 1 more than the place to the left: the least so far, less its place.
        row = np.minimum.accumulate(np.concatenate(([count], replaced_or_deleted)) - places) + places
    return int(row[-1])


def _missing(read: str, wanted: str) -> int:
    """Characters of ``wanted`` that are not there, 0 to all of them."""
    return 0 if wanted in read else min(levenshtein(read, wanted), len(wanted))


def _plain(text: str) -> str:
    return "".join(text.lower().split())
