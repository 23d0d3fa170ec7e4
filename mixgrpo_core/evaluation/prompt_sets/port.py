"""What a standard prompt set is: its files, its categories, its images, and what its own score needs."""

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from PIL import Image

from ...support.files import read_text


@dataclass(frozen=True, kw_only=True)
class Item:
    """One prompt of a set.

    Attributes:
        category: by which the set reports.
        key: by which the set's own scorer finds the prompt of an image.
        line: what stands in the set's file, where its scorer wants that beside the images.
    """

    prompt: str
    category: str
    key: str
    line: str = ""


class PromptSet(Protocol):
    """A standard set.

    Attributes:
        label: its name.
        looks: what it is on disk, in words.
        images: of a prompt, as its authors make them.
    """

    label: ClassVar[str]
    looks: ClassVar[str]
    images: ClassVar[int]

    @abstractmethod
    def is_at(self, path: Path) -> bool:
        """Whether ``path``, which exists, looks like this set."""
        ...

    @abstractmethod
    def read(self, path: Path) -> list[Item]:
        """The prompts, in the set's order. Raises ``ValueError`` naming the file and the line of what is none."""
        ...

    @abstractmethod
    def write(self, folder: Path, item: Item, pictures: Sequence[Image.Image]) -> None:
        """The images of one prompt, where the set's own scorer looks for them."""
        ...

    @abstractmethod
    def needs(self, rewards: Collection[str]) -> list[str]:
        """A sentence for each score of the set's authors that ``rewards``, names of classes, do not give."""
        ...


def lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file with their numbers from 1; empty ones are left out. Raises ``ValueError``."""
    try:
        text = read_text(path)
    except OSError as error:
        raise ValueError(f"cannot read {path} ({error.strerror}): check the path and its rights") from error
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def not_empty(found: Sequence[Item], path: Path) -> list[Item]:
    """``found``. Raises ``ValueError`` where there is nothing."""
    if not found:
        raise ValueError(f"{path} holds no prompts: get it again")
    return list(found)
