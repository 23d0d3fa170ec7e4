"""A toy that makes images of several sizes and keeps the rows of its calls: which prompts went into one is seen."""

from collections.abc import Sequence
from typing import Any

from toy import ToyModel

from mixgrpo_core.models.pictures import maps_over_latents
from mixgrpo_core.support.seeds import seeded_noise
from mixgrpo_core.support.sized import Size, Sized

SQUARE, LONG = (2, 2), (1, 4)
"""Sizes, of which latents have as many elements."""


def of_sizes(prompts: Sequence[str], pattern: str) -> list[str]:
    """The prompts with the sizes of a pattern like ``ABAB``."""
    return [Sized(words, {"A": SQUARE, "B": LONG}[size]) for words, size in zip(prompts, pattern, strict=True)]


class SizedToy(ToyModel):
    """Keeps the rows of every call; those of `Apart` are of one prompt each."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.rows: list[int] = []

    def at(self, size: Size) -> "ToyModel":
        return _At(self, size)  # type: ignore[return-value]  # it is one in all but its latents

    def run(self, conds, body):
        def counted(velocity):
            def called(x, sigma, rows=None):
                self.rows.append(len(x))
                return velocity(x, sigma, rows)

            return body(called)

        return super().run(conds, counted)


class Apart(SizedToy):
    """No two prompts go into one call."""

    def kind(self, cond):
        return cond


class _At:
    """The toy at one of its sizes."""

    def __init__(self, whole: SizedToy, size: Size) -> None:
        self._whole, self.latent_shape = whole, (3, *size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def noise(self, seed: int, count: int):
        return seeded_noise(seed, (count, *self.latent_shape))

    def places(self, maps):
        return maps_over_latents(maps, self.latent_shape)
