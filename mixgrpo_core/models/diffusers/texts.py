"""Prompts through the text encoders of a pipeline's folder, which are loaded at the first prompt and then let go."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor, nn
from transformers import __version__ as transformers_version

from ...support.digests import files_digest
from .family import NEGATIVE, Embeds, Family
from .loading import Index, ModelFilesError, load_text_part, pipeline_of
from .references import Reference

_PROMPTS = ("prompt", NEGATIVE, "num_images_per_prompt", "num_videos_per_prompt")


class TextEmbedder(Protocol):
    """What a pipeline's call is told of a prompt: tensors of one row, by argument."""

    def __call__(self, text: str, picture: Reference | None = None) -> Embeds:
        """The arguments of one prompt: tensors ``[1, ...]``. Raises ModelFilesError where a part is missing."""
        ...

    def negative(self, picture: Reference | None = None) -> Embeds:
        """The same of the empty prompt, as the negative of any other."""
        ...

    @property
    def sees(self) -> bool:
        """Whether it looks at the picture of a prompt, too."""
        ...

    @property
    def digest(self) -> str:
        """What tells it from other encoders; empty where encoding is cheap and nothing need be kept in files."""
        ...

    @property
    def limit(self) -> int | None:
        """Tokens of a prompt that are read at most; None where all are."""
        ...

    def by_encoder(self, made: Embeds) -> Mapping[str, Tensor]:
        """What each text encoder on its own said of a prompt, by a name for errors: ``[1, ...]`` in its own dtype."""
        ...

    def release(self) -> None:
        """Let go of the memory; the next prompt takes it again."""
        ...


class PipelineTexts:
    """Prompts as the pipeline of a folder encodes them, with what its call would give ``encode_prompt``.

    Text encoders that a folder leaves out stay out where the pipeline allows it: Stable Diffusion 3 puts zeros in the
    place of T5.
    """

    def __init__(
        self, index: Index, family: Family, parts: Mapping[str, nn.Module], dtype: torch.dtype, device: torch.device
    ) -> None:
        self._index, self._family, self._device = index, family, device
        self._computed = f"{family.returns} {dtype} {device.type}"
        self._load = partial(_text_pipeline, index, parts, dtype, device)
        self._pipeline: DiffusionPipeline | None = None
        index.require_text_parts()

    def __call__(self, text: str, picture: Reference | None = None) -> Embeds:
        made = self._encoded(text, picture, guided=False)
        return {name: made[name] for name in self._family.positives if name in made}

    def negative(self, picture: Reference | None = None) -> Embeds:
        if not self._family.negatives:
            return {NEGATIVE + name: made for name, made in self("", picture).items()}
        made = self._encoded("", picture, guided=True)
        return {name: tensor for name, tensor in made.items() if name.startswith(NEGATIVE)}

    @property
    def sees(self) -> bool:
        return self._family.shown is not None

    def _encoded(self, text: str, picture: Reference | None, *, guided: bool) -> dict[str, Tensor]:
        self._pipeline = pipeline = self._pipeline or self._load()
        takes = inspect.signature(pipeline.encode_prompt).parameters
        asked: dict[str, Any] = {
            name: item.default
            for name, item in inspect.signature(type(pipeline).__call__).parameters.items()
            if name in takes and item.default not in (item.empty, None) and not name.startswith(_PROMPTS)
        }
        asked.update({name: text for name, item in takes.items() if name.startswith("prompt") and _needed(item)})
        own = {"prompt": text, NEGATIVE + "prompt": "", "device": self._device, "do_classifier_free_guidance": guided}
        own["num_images_per_prompt"] = 1
        asked.update({name: value for name, value in own.items() if name in takes})
        if self._family.shown is not None and picture is not None:
            asked["image"] = self._family.shown(picture.image)
        with torch.no_grad():
            made = pipeline.encode_prompt(**asked)
        named = zip(self._family.returns, made, strict=True)  # None and an empty list are no say
        return {name: _one_row(value) for name, value in named if name and value is not None and len(value)}

    @property
    def digest(self) -> str:
        """Of the files of encoders and tokenizers, of how they are computed, and by which version."""
        folder = self._index.folder
        files = [file for part in self._index.text_parts for file in (folder / part).glob("**/*")]
        return f"{files_digest(folder, files)} {self._computed} {transformers_version}"

    @property
    def limit(self) -> int | None:
        """What the pipeline cuts prompts to."""
        found = inspect.signature(self._index.pipeline.__call__).parameters.get("max_sequence_length")
        limit = None if found is None else found.default
        return limit if isinstance(limit, int) else None

    def by_encoder(self, made: Embeds) -> Mapping[str, Tensor]:
        if self._family.said is not None:
            return self._family.said(self._index.folder, made)
        return {f"{name} (the text encoders in {self._index.folder})": tensor for name, tensor in made.items()}

    def release(self) -> None:
        self._pipeline = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _needed(item: inspect.Parameter) -> bool:
    return item.default is item.empty


def _one_row(made: Tensor | list[Tensor]) -> Tensor:
    """Of one prompt; a pipeline that takes lists gives one of them."""
    return made[0][None] if isinstance(made, list) else made


def _text_pipeline(
    index: Index, others: Mapping[str, nn.Module], dtype: torch.dtype, device: torch.device
) -> DiffusionPipeline:
    parts: dict[str, Any] = {}
    for part in sorted(index.text_parts, key=lambda name: not name.startswith("text_encoder")):
        encoder = parts.get(part.replace("tokenizer", "text_encoder"))
        try:
            loaded = load_text_part(index, part, dtype, encoder)
        except ModelFilesError:
            raise
        except ValueError as error:
            raise ModelFilesError(f"the tokenizer is not whole: {error}; get {index.folder / part} again") from error
        parts[part] = loaded.to(device) if isinstance(loaded, nn.Module) else loaded
    return pipeline_of(index, **others, **parts)
