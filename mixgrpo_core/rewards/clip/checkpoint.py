"""A file or folder with a CLIP network, in open_clip's layout or transformers', whole or only one tower of it."""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from ...support.quoting import listed
from ..networks.tower import FilePart
from ..networks.weight_files import Weights, WeightsError
from . import architectures
from .architectures import Activation, Text, Vision
from .open_clip import sources

IMAGE = ("vision_model.", "visual_projection.")
TEXT = ("text_model.", "text_projection.")


class Checkpoint:
    """Parameters by the names of transformers' ``CLIPModel``.

    Attributes:
        path: of the file or folder.
        shapes: of every parameter.
    """

    def __init__(self, path: str | Path, activation: Activation = "auto") -> None:
        """Look into ``path``.

        Raises:
            WeightsError: not a weight file, no CLIP network, or tensors in it that belong to none.
        """
        self._weights = Weights(path)
        self._activation = activation
        self.path = self._weights.path
        self._sources, unknown = sources(self._weights.shapes)
        if not self._sources.keys() - {"logit_scale"}:
            raise WeightsError(
                f"expected a CLIP network in {self.path}, found tensors such as {listed(sorted(unknown))}"
            )
        if unknown:
            raise WeightsError(
                f"expected nothing but a CLIP network in {self.path}, found also {len(unknown)} tensors such as "
                f"{listed(sorted(unknown))}: it is another network"
            )
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: source.shape(self._weights.shapes[source.name]) for name, source in self._sources.items()
        }

    @property
    def vision(self) -> Vision:
        """The image tower. Raises WeightsError where there is none."""
        self._has(IMAGE, "an image tower")
        return architectures.vision(self.shapes, self._weights.config, self._activation)

    @property
    def text(self) -> Text:
        """The text tower. Raises WeightsError where there is none."""
        self._has(TEXT, "a text tower")
        return architectures.text(self.shapes, self._weights.config, self._activation)

    def part(self, tower: tuple[str, ...], build: Callable[[], nn.Module]) -> FilePart:
        """The parameters of ``IMAGE`` or ``TEXT``, for the network that ``build`` makes."""
        wanted = {name: source for name, source in self._sources.items() if name.startswith(tower)}

        def read() -> dict[str, Tensor]:
            stored = self._weights.read({source.name for source in wanted.values()})
            return {name: source.of(stored[source.name]) for name, source in wanted.items()}

        return FilePart(self.path, self._weights.identity, {name: self.shapes[name] for name in wanted}, read, build)

    def logit_scale(self) -> float:
        """The logarithm of the factor that the network was trained to have before its cosines.

        Raises:
            WeightsError: the file holds none.
        """
        if "logit_scale" not in self._sources:
            raise WeightsError(f"expected a tensor logit_scale in {self.path}, found none: it is no whole CLIP network")
        name = self._sources["logit_scale"].name
        return float(self._weights.read([name])[name])

    def _has(self, tower: tuple[str, ...], words: str) -> None:
        if not any(name.startswith(tower[0]) for name in self.shapes):
            raise WeightsError(
                f"expected {words} in {self.path}, found tensors such as {listed(sorted(self.shapes))} only: take the "
                "file of the whole network"
            )
