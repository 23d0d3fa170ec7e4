"""Prompts through text encoders, each once: what these make of them is kept, in main memory or in a run's folder."""

from collections.abc import Callable, Iterable
from pathlib import Path

from ...support.text_files import TextFiles
from ..told_apart import ToldApart
from .family import Embeds
from .references import Reference
from .texts import TextEmbedder

_NEGATIVE = "\0negative"  # no prompt


class KeptTexts:
    """What the pipeline is told of texts: tensors of one row by argument, on the CPU.

    Attributes:
        last: of the text that was asked for last; None before the first.
    """

    def __init__(self, encoder: TextEmbedder) -> None:
        self._encoder, self._files = encoder, TextFiles(encoder.digest)
        self.last: Embeds | None = None

    def __call__(self, text: str, picture: Reference | None = None) -> Embeds:
        self.last = self._kept(self._key(text, picture), lambda: self._encoder(text, picture))
        return self.last

    def negative(self, picture: Reference | None = None) -> Embeds:
        """The empty prompt as the negative of others."""
        return self._kept(self._key(_NEGATIVE, picture), lambda: self._encoder.negative(picture))

    def _key(self, text: str, picture: Reference | None) -> str:
        return f"{text}\0{picture.key}" if picture is not None and self._encoder.sees else text

    def _kept(self, text: str, encode: Callable[[], Embeds]) -> Embeds:
        kept = self._files.get(text)
        if kept is not None:
            return kept[0]
        made = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in encode().items()}
        self._files.put(text, made, {})
        return made

    def prepare(self, texts: Iterable[tuple[str, Reference | None]], *, negative: bool) -> None:
        """See every text encoded, with its picture, and let go of the encoders.

        Raises ``ValueError`` when one of them reads different texts as one.
        """
        apart = ToldApart(self._encoder.limit)
        for text, picture in texts:
            key = self._key(text, picture)
            apart.hear(key, self._encoder.by_encoder(self(text, picture)))
            if negative:
                self.negative(picture)
        self._encoder.release()

    def keep_in(self, folder: Path) -> None:
        """Files in ``folder`` hold them from now on, where reading these is less than encoding again."""
        if self._encoder.digest:
            self._files.keep_in(folder)
