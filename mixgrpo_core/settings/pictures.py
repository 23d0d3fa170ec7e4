"""Reference pictures and masks of prompts, read from their files when they are needed."""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..rewards.networks.reference_picture import Picture
from ..rewards.port import Context
from ..support.pictured import Pictured
from ..support.quoting import cause

_KEPT = 16  # pictures in memory: of one iteration and a little more


class FileContexts(Mapping[str, Context]):
    """What travels with prompts: the pictures of those that name some."""

    def __init__(self, prompts: Iterable[str]) -> None:
        self._prompts: dict[str, Pictured] = {one: one for one in prompts if isinstance(one, Pictured)}
        self._read = lru_cache(_KEPT)(_read)

    def __getitem__(self, prompt: str) -> Context:
        found = self._prompts[prompt]
        mask = self._read(found.mask).mean(-1) if found.mask else None
        return Context(reference=self._read(found.picture), mask=mask)

    def masked(self, prompt: str) -> bool:
        """Whether a prompt names a mask; nothing is read."""
        return prompt in self._prompts and bool(self._prompts[prompt].mask)

    def __iter__(self) -> Iterator[str]:
        return iter(self._prompts)

    def __len__(self) -> int:
        return len(self._prompts)


def without_reference(contexts: Mapping[str, Context], prompts: Iterable[str]) -> list[str]:
    """The prompts that have no reference picture; those of files are not read."""
    if isinstance(contexts, FileContexts):
        return [prompt for prompt in prompts if prompt not in contexts]
    return [prompt for prompt in prompts if contexts.get(prompt, Context()).reference is None]


def has_mask(contexts: Mapping[str, Context], prompt: str) -> bool:
    """Whether a prompt has a mask; those of files are not read."""
    if isinstance(contexts, FileContexts):
        return contexts.masked(prompt)
    return contexts.get(prompt, Context()).mask is not None


class References(Mapping[str, Tensor]):
    """The reference pictures ``[H, W, 3]`` of contexts, by prompt."""

    def __init__(self, contexts: Mapping[str, Context]) -> None:
        self._contexts = contexts

    def __getitem__(self, prompt: str) -> Tensor:
        found = self._contexts[prompt].reference
        if found is None:
            raise KeyError(prompt)
        return found

    def __iter__(self) -> Iterator[str]:
        return (prompt for prompt in self._contexts if self._contexts[prompt].reference is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def require_pictures(prompts: Iterable[str]) -> None:
    """Raise ``ValueError`` for a picture that is not there or is none; only the headers of files are read."""
    for prompt in prompts:
        for path in (prompt.picture, prompt.mask) if isinstance(prompt, Pictured) else ():
            if path and not Path(path).is_file():
                raise ValueError(f"expected the picture of {str(prompt)[:40]!r} at {path}, found nothing: correct it")
            try:
                if path:
                    Image.open(path).close()
            except (OSError, UnidentifiedImageError, ValueError) as error:
                raise ValueError(f"the picture of {str(prompt)[:40]!r} at {path} is none ({cause(error)})") from error


def _read(path: str) -> Tensor:
    return Picture(path).image
