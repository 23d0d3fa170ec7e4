"""Prompts through text encoders, each once: what these make of them is kept, in main memory or in a run's folder."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ...support.text_files import TextFiles
from ..diffusers.loading import TextEmbedder
from ..told_apart import ToldApart


class KeptTexts:
    """Token embeddings ``[1, S, C]`` and pooled embedding ``[1, P]`` of texts, on the CPU.

    Attributes:
        tokens: S of the text that was asked for last; None before the first.
    """

    def __init__(self, encoder: TextEmbedder) -> None:
        self._encoder, self._files = encoder, TextFiles(encoder.digest)
        self.tokens: int | None = None

    def __call__(self, text: str) -> tuple[Tensor, Tensor]:
        kept = self._files.get(text)
        if kept is None:
            embeds, pooled = (made.detach().cpu().clone() for made in self._encoder(text))
            self._files.put(text, {"embeds": embeds, "pooled": pooled}, {})
        else:
            embeds, pooled = (kept[0][name] for name in ("embeds", "pooled"))
        self.tokens = embeds.shape[1]
        return embeds, pooled

    def prepare(self, texts: Sequence[str]) -> None:
        """See every text encoded, and let go of the encoders.

        Raises ``ValueError`` when one of them reads different texts as one.
        """
        apart = ToldApart(self._encoder.limit)
        for text in texts:
            apart.hear(text, self._encoder.by_encoder(*self(text)))
        self._encoder.release()

    def keep_in(self, folder: Path) -> None:
        """Files in ``folder`` hold them from now on, where reading these is less than encoding again."""
        if self._encoder.digest:
            self._files.keep_in(folder)
