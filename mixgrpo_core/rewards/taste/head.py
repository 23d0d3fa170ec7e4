"""The head of a taste: an ensemble of linear functions of what is seen, and of it together with the prompt's words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...support.seeds import derive_seed, seeded_noise
from .fitting import Said, most_likely
from .opinions import Opinions

MEMBERS = 8
_AMPLITUDE = 3.0  # of the prior: such functions tell an image from another with odds of about 20 to 1
_WORDS = 1.5  # how much more words may change than what holds for all prompts
_FLOOR = 0.1  # of the spread that counts as a feature's, in that of all: what never varied may not decide
_MARKS = ".,;:!?()[]\"'"


@dataclass(frozen=True, kw_only=True)
class Head:
    """Functions of images ``[n, D]`` and prompts.

    Attributes:
        weights: ``[E, 1 + W, D + 1]``: what holds for all prompts, then what each word adds; the last is a constant.
        mean, scale: ``[D]``, what features are centred on and divided by.
        words: the ``W`` words that are told apart, none where prompts do not matter.
    """

    weights: Tensor
    mean: Tensor
    scale: Tensor
    words: tuple[str, ...]

    def logits(self, features: Tensor, prompts: Sequence[str]) -> Tensor:
        """``[E, n]`` in float64, each member's: above 0 it thinks that the image is liked."""
        seen, texts = self._seen(features), _texts(prompts, self.words)
        return torch.einsum("nk,ekd,nd->en", texts, self.weights.double(), seen)

    def _seen(self, features: Tensor) -> Tensor:
        """``[n, D + 1]``"""
        return torch.nn.functional.pad((features.double() - self.mean) / self.scale, (0, 1), value=1.0)

    def to_values(self) -> dict[str, Any]:
        """As tensors and JSON values."""
        return {"weights": self.weights, "mean": self.mean, "scale": self.scale, "words": list(self.words)}

    @classmethod
    def from_values(cls, found: Any) -> "Head":
        """That which ``to_values`` gave."""
        tensors = {name: found[name] for name in ("weights", "mean", "scale")}
        return cls(words=tuple(found["words"]), **tensors)


def fitted(opinions: Opinions, *, conditioned: bool, members: int = MEMBERS, seed: int = 0) -> Head:
    """The head that says best what people said; with one member it is the most likely function, and no ensemble.

    Args:
        conditioned: the words of the prompts matter.
        members: E, an even number, or 1.
        seed: of the members' draws.
    """
    features = opinions.features.double()
    mean, spread = features.mean(0), features.std(0, unbiased=False)
    usual = spread.square().mean().sqrt().clamp(min=1e-6)
    scale = (spread + _FLOOR * usual) * len(spread) ** 0.5
    words = told_apart(opinions.prompts) if conditioned else ()
    blank = torch.zeros(1, 1 + len(words), len(mean) + 1, dtype=torch.float64)
    head = Head(weights=blank, mean=mean, scale=scale, words=words)
    seen, texts = _AMPLITUDE * head._seen(features), _texts(opinions.prompts, words)
    kernel = (seen @ seen.T) * (texts @ texts.T)
    better, worse, weights = opinions.pairs()
    said = Said(thumbs=opinions.thumbs, better=better, worse=worse, weights=weights)
    found = []
    for member in range(members):
        start, counts = torch.zeros_like(blank[0]), torch.ones(len(opinions), dtype=torch.float64)
        if members > 1:
            start = _draw("prior", seed, member // 2, blank[0].shape) * (1 if member % 2 else -1)
            counts = _draw_counts(seed, member, opinions.groups)
        offset = torch.einsum("nk,kd,nd->n", texts, start, seen)
        solved = most_likely(kernel, offset, said, counts)
        found.append(_AMPLITUDE * (start + torch.einsum("n,nk,nd->kd", solved, texts, seen)))
    return Head(weights=torch.stack(found).float(), mean=mean, scale=scale, words=words)


def told_apart(prompts: Sequence[str]) -> tuple[str, ...]:
    """Words that some prompts have and others do not; one that a single prompt has tells nothing of others."""
    distinct = [set(_split(prompt)) for prompt in dict.fromkeys(prompts)]
    counts = {word: sum(word in words for words in distinct) for word in sorted(set().union(*distinct))}
    return tuple(word for word, count in counts.items() if 1 < count < len(distinct))


def _texts(prompts: Sequence[str], words: Sequence[str]) -> Tensor:
    """``[n, 1 + W]``: 1, and the words that a prompt has, by the root of their number."""
    texts = torch.zeros(len(prompts), 1 + len(words), dtype=torch.float64)
    texts[:, 0] = 1.0
    place = {word: 1 + number for number, word in enumerate(words)}
    for row, prompt in enumerate(prompts):
        known = [place[word] for word in set(_split(prompt)) if word in place]
        texts[row, known] = _WORDS * max(1, len(known)) ** -0.5
    return texts


def _split(prompt: str) -> list[str]:
    return [word for part in prompt.lower().split() if (word := part.strip(_MARKS))]


def _draw(what: str, seed: int, member: int, shape: Sequence[int]) -> Tensor:
    return seeded_noise(derive_seed("taste", what, seed, member), tuple(shape)).double()


def _draw_counts(seed: int, member: int, groups: Tensor) -> Tensor:
    """``[n]``, how often each group's votes count: exponentially distributed, 1 in the mean."""
    generator = torch.Generator().manual_seed(derive_seed("taste", "votes", seed, member))
    return -torch.rand(int(groups.max()) + 1, generator=generator).clamp(min=1e-6).log().double()[groups]
