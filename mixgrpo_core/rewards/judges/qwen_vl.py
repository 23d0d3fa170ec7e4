"""Networks of the Qwen-VL family: the folder's network, tokenizer and image settings, by ``transformers``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...support.files import read_text
from ...support.paths import user_path
from ...support.vocabulary import require_files, require_vocabulary
from ..networks.filling import of_folder
from ..networks.weight_files import WeightsError, read_json
from .chat import Question

FAMILY = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
"""Values of ``model_type``."""
_SMALLEST = 4  # pixels of a side; transformers 4 takes an image of 1 x 1 x 3 for another one


@dataclass(frozen=True, eq=False)
class Read:
    """A question as a network takes it: token ids ``[L]``, patches ``[P, C]`` and their grids ``[n, 3]``."""

    ids: Tensor
    patches: Tensor
    grids: Tensor


class Reader:
    """Tokenizer and image settings of a folder.

    The folder's own processor class is not used: it asks for a video reader, and that for torchvision.
    """

    def __init__(self, folder: str, config: Mapping[str, Any]) -> None:
        from transformers import AutoImageProcessor, AutoTokenizer

        here = user_path(folder)
        try:
            require_files(here, ("preprocessor_config.json",))
            require_files(here, ("tokenizer.json",), ("vocab.json", "merges.txt"))
        except ValueError as error:
            raise WeightsError(f"{error}: get the whole folder") from error
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(here, local_files_only=True, trust_remote_code=False)
            self._images = AutoImageProcessor.from_pretrained(here, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # whatever a broken file makes of it
            raise WeightsError(f"the tokenizer or image settings in {folder} cannot be read: {error}") from error
        try:
            require_vocabulary(len(self._tokenizer), _rows(config, len(self._tokenizer)))
        except ValueError as error:
            raise WeightsError(f"the tokenizer in {folder} is not whole: {error}; get the whole folder") from error
        self._mark_id = config.get("image_token_id", -1)
        mark = self._tokenizer.convert_ids_to_tokens(self._mark_id) if self._mark_id >= 0 else None
        self._template = self._tokenizer.chat_template or _template_beside(here)
        if not isinstance(mark, str) or not mark or not self._template:
            raise WeightsError(
                f"the tokenizer in {folder} has no image token or no chat template: get the whole folder"
            )
        self._mark = mark
        self.padding = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else 0

    def read(self, question: Question, longest_side: int) -> Read:
        """Raises ``ValueError`` for images that the network cannot take."""
        pictures = [_picture(image, longest_side) for image in question.images]
        seen = self._images(images=pictures, return_tensors="pt")
        grids = seen["image_grid_thw"]
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": question.text}]
        message: dict[str, Any] = {"role": "user", "content": content}
        text = self._tokenizer.apply_chat_template(
            [message],
            chat_template=self._template,
            add_generation_prompt=True,
            tokenize=False,
            enable_thinking=False,
        )
        pieces = cast(str, text).split(self._mark)  # tokens only where they are asked for
        if len(pieces) != len(pictures) + 1:
            raise ValueError(f"expected {len(pictures)} places for images, found {len(pieces) - 1}")
        tokens = [int(grid.prod()) // self._images.merge_size**2 for grid in grids]
        text = "".join(piece + count * self._mark for piece, count in zip(pieces, [*tokens, 0], strict=True))
        ids = self._tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
        return Read(ids, seen["pixel_values"], grids)

    def padded(self, read: Sequence[Read]) -> dict[str, Tensor]:
        """What ``generate`` takes for several questions, which end at the same place."""
        length = max(len(one.ids) for one in read)
        ids = torch.full((len(read), length), self.padding)
        mask = torch.zeros_like(ids)
        for row, one in enumerate(read):
            ids[row, length - len(one.ids) :] = one.ids
            mask[row, length - len(one.ids) :] = 1
        inputs = {"input_ids": ids, "attention_mask": mask}
        inputs["pixel_values"] = torch.cat([one.patches for one in read])
        inputs["image_grid_thw"] = torch.cat([one.grids for one in read])
        if _takes_kinds():
            inputs["mm_token_type_ids"] = (ids == self._mark_id).int()
        return inputs

    def words(self, ids: Tensor) -> list[str]:
        return [text.strip() for text in self._tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def alternatives(self, log_probs: Tensor, ids: Tensor) -> dict[str, float]:
        """Log-probs by token, likeliest first; those of tokens that read the same are joined."""
        joined: dict[str, Tensor] = {}
        texts = self._tokenizer.batch_decode([[token] for token in ids.tolist()])
        for log_prob, text in zip(log_probs.cpu(), texts, strict=True):
            joined[text] = torch.logaddexp(joined[text], log_prob) if text in joined else log_prob
        return {text: float(log_prob) for text, log_prob in sorted(joined.items(), key=lambda entry: -entry[1])}


def load_network(folder: str, dtype: torch.dtype) -> nn.Module:
    """The network on the CPU, every weight from the folder.

    Raises:
        WeightsError: weights are missing, or of other shapes.
    """
    from transformers import AutoModelForImageTextToText

    return of_folder(AutoModelForImageTextToText, user_path(folder), dtype=dtype)


def _picture(image: Tensor, longest_side: int) -> Any:
    """``[H, W, 3]`` in 0..1 as a PIL image, shrunk where it is larger, and enlarged where there is hardly a pixel."""
    from PIL import Image

    if not torch.isfinite(image).all():
        raise ValueError("the image holds NaN or infinity")
    picture = Image.fromarray(image.clamp(0, 1).mul(255).round().to(torch.uint8).numpy())
    factor = min(longest_side / max(picture.size), 1.0) if longest_side else 1.0
    factor = max(factor, _SMALLEST / min(picture.size))
    if factor == 1:
        return picture
    width, height = (max(1, round(side * factor)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def _template_beside(folder: Path) -> str:
    """The chat template of a folder whose tokenizer has none; older and newer folders keep it in files of their own."""
    if (folder / "chat_template.json").is_file():
        return str(read_json(folder / "chat_template.json").get("chat_template", ""))
    jinja = folder / "chat_template.jinja"
    return read_text(jinja) if jinja.is_file() else ""


def _rows(config: Mapping[str, Any], default: int) -> int:
    """Of the table of embeddings; newer configurations have them among the text's."""
    made: int = (config.get("text_config") or config).get("vocab_size", default)
    return made


def _takes_kinds() -> bool:
    """Whether this transformers (5 and later) wants the kind of every token beside the tokens."""
    from transformers import __version__

    return int(__version__.partition(".")[0]) >= 5
