"""Pictures beside the text of a prompt, for text encoders that see, where torchvision is missing.

The processor of Qwen2-VL wants a part for videos, which wants torchvision. A picture needs neither.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import BatchFeature, PreTrainedTokenizerBase, Qwen2VLImageProcessorPil

_PICTURE = "<|image_pad|>"
_QWEN = ("Qwen2VLProcessor", "Qwen2_5_VLProcessor")


def wants_torchvision(kind: type) -> bool:
    """Whether a processor's class does not load here without it."""
    return kind.__name__ in _QWEN and find_spec("torchvision") is None


class PictureProcessor:
    """Texts with the tokens of their pictures, and the pictures in patches, as Qwen2-VL's own makes them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, pictures: Qwen2VLImageProcessorPil) -> None:
        self.tokenizer, self.image_processor = tokenizer, pictures

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, folder: Path) -> "PictureProcessor":
        """That of a folder. Raises ``OSError`` or ``ValueError`` where it is not whole."""
        return cls(tokenizer, Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True))

    def __call__(
        self,
        text: list[str],
        images: Image.Image | list[Image.Image] | None = None,
        videos: None = None,
        padding: bool | str = True,
        return_tensors: str = "pt",
        max_length: int | None = None,
        truncation: bool = False,
    ) -> BatchFeature:
        """Tokens and patches of texts whose places for pictures are filled in their order."""
        seen: dict[str, Any] = {}
        if images is not None:
            seen = dict(self.image_processor(images=images, return_tensors=return_tensors))
            counts = iter((seen["image_grid_thw"].prod(1) // self.image_processor.merge_size**2).tolist())
            text = [_filled(each, counts) for each in text]
        made = self.tokenizer(
            text, padding=padding, return_tensors=return_tensors, max_length=max_length, truncation=truncation
        )
        return BatchFeature({**made, **seen})


def _filled(text: str, counts: Any) -> str:
    """``text`` with as many tokens for each picture as it has parts."""
    first, *rest = text.split(_PICTURE)
    return first + "".join(_PICTURE * next(counts) + each for each in rest)
