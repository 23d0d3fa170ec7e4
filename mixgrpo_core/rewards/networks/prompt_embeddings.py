"""Embeddings of prompts, each made once: the network that makes them is needed only while prompts are new."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class PromptEmbedder(Protocol):
    """Prompts to embeddings, by a network that can be let go."""

    @property
    @abstractmethod
    def width(self) -> int:
        """D, numbers in an embedding."""
        ...

    @abstractmethod
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """``[N, D]``, float32."""
        ...

    @abstractmethod
    def release(self) -> None:
        """Let the network go; asked again, it is read again."""
        ...


class PromptEmbeddings:
    """A cache by prompt, on the CPU."""

    def __init__(self, embedder: PromptEmbedder) -> None:
        self._embedder = embedder
        self._known: dict[str, Tensor] = {}

    def prepare(self, prompts: Sequence[str]) -> None:
        """Embeds what is new among ``prompts``, and lets the network go."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known and not is_empty(prompt)]
        if not new:
            return
        try:
            self._known |= zip(new, self._embedder.embed(new).cpu(), strict=True)
        finally:
            self._embedder.release()

    def of(self, prompts: Sequence[str]) -> Tensor:
        """``[N, D]`` on the CPU; zeros for empty prompts. Prompts that were not prepared are, now."""
        self.prepare(prompts)
        nothing = torch.zeros(self._embedder.width)
        return torch.stack([self._known.get(prompt, nothing) for prompt in prompts])


def is_empty(prompt: str) -> bool:
    """Whether a prompt says nothing that an image could show."""
    return not prompt.strip()
