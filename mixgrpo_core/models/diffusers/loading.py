"""Parts of a local diffusers folder, loaded strictly: what diffusers only warns about is an error here."""

import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from safetensors import SafetensorError
from torch import Tensor
from transformers import (  # type: ignore[attr-defined]  # version 5 has T5TokenizerFast at run time only
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedModel,
    T5EncoderModel,
    T5TokenizerFast,
)
from transformers import __version__ as transformers_version

from ...support.digests import files_digest
from ...support.files import read_text
from ...support.quoting import cause
from ..lora_names import some
from .tokenizers import T, load_tokenizer
from .weight_names import variant_of, why

Vae = AutoencoderKL | AutoencoderTiny
N = TypeVar("N", bound=ModelMixin)
M = TypeVar("M", bound=PreTrainedModel)
_CLIP_TOKENS, _T5_TOKENS = 77, 256  # that the pipeline reads of a prompt


class TextEmbedder(Protocol):
    """A prompt's token embeddings ``[1, S, C]`` and pooled embedding ``[1, P]``."""

    def __call__(self, text: str) -> tuple[Tensor, Tensor]: ...

    @property
    def digest(self) -> str:
        """What tells it from other encoders; empty where encoding is cheap and nothing need be kept in files."""
        ...

    @property
    def limit(self) -> int | None:
        """Tokens of a prompt that are read at most; None where all are."""
        ...

    def by_encoder(self, embeds: Tensor, pooled: Tensor) -> Mapping[str, Tensor]:
        """What each text encoder on its own said of a prompt, by a name for errors."""
        ...

    def release(self) -> None:
        """Let go of the memory; the next prompt takes it again."""
        ...


class ModelFilesError(ValueError):
    """A model folder that is not there, not whole, or another model's."""


def read_json(path: Path) -> dict:
    """One of the folder's configuration files."""
    try:
        found = json.loads(read_text(path))
    except FileNotFoundError as error:
        raise ModelFilesError(f"expected {path.name} in {path.parent}, found none; get the folder again") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFilesError(f"{path} cannot be read ({cause(error)}); get the model folder again") from error
    if not isinstance(found, dict):
        raise ModelFilesError(f"expected a table in {path}, found {type(found).__name__}; get the model folder again")
    return found


def require_folder(folder: Path, parts: tuple[str, ...]) -> None:
    """Raise unless ``folder`` and its sub-folders or files ``parts`` are there."""
    if not folder.is_dir():
        raise ModelFilesError(f"expected a model folder at {folder}, found none; give the path of a diffusers folder")
    missing = [part for part in parts if not (folder / part).exists()]
    if missing:
        raise ModelFilesError(f"{folder} lacks {some(missing)}; the model folder is not whole, get it again")


def load_transformer(folder: Path, dtype: torch.dtype) -> SD3Transformer2DModel:
    """The network of an SD3 folder."""
    found = read_json(folder / "config.json").get("_class_name")
    if found != SD3Transformer2DModel.__name__:
        raise ModelFilesError(f"expected an SD3Transformer2DModel in {folder}, found {found}; use a folder of SD3")
    return _load_diffusers(SD3Transformer2DModel, folder, dtype)


def load_vae(folder: Path) -> Vae:
    """The autoencoder, in float32: it is small, and its rounding would be noise in every reward."""
    found = read_json(folder / "config.json").get("_class_name")
    if found == AutoencoderKL.__name__:
        return _load_diffusers(AutoencoderKL, folder, torch.float32).requires_grad_(False).eval()
    if found == AutoencoderTiny.__name__:
        return _load_diffusers(AutoencoderTiny, folder, torch.float32).requires_grad_(False).eval()
    raise ModelFilesError(f"expected an AutoencoderKL or AutoencoderTiny in {folder}, found {found}; use SD3's own")


def _load_diffusers(kind: type[N], folder: Path, dtype: torch.dtype) -> N:
    try:
        loaded = kind.from_pretrained(
            folder,
            torch_dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            variant=variant_of(folder),
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ModelFilesError(f"the weights in {folder} do not load: {why(folder, error)}") from error
    model, info = cast("tuple[N, dict[str, Any]]", loaded)  # diffusers' types know the model alone
    _refuse(folder, {"misses": info["missing_keys"], "has unknown": info["unexpected_keys"]})
    return model


def _load_text_encoder(kind: type[M], folder: Path, dtype: torch.dtype) -> M:
    try:
        loaded = kind.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            variant=variant_of(folder),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are named below
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ModelFilesError(f"the weights in {folder} do not load: {why(folder, error)}") from error
    model, info = cast("tuple[M, dict[str, Any]]", loaded)  # transformers' types know the model alone
    _refuse(folder, {"misses": info["missing_keys"], "has mis-shaped": [key[0] for key in info["mismatched_keys"]]})
    return model.requires_grad_(False).eval()


def _refuse(folder: Path, faults: Mapping[str, Iterable[str]]) -> None:
    told = [f"{word} {some(sorted(keys))}" for word, keys in faults.items() if keys]
    if told:
        raise ModelFilesError(
            f"the weights in {folder} are another model's: the file {' and '.join(told)}; get the folder again"
        )


class PipelineTexts:
    """Prompts through the text encoders of an SD3 folder, which are loaded at the first prompt.

    A folder without ``text_encoder_3`` (T5) is complete: the pipeline puts zeros in its place, as it does for images.
    """

    def __init__(
        self, folder: Path, transformer: SD3Transformer2DModel, dtype: torch.dtype, device: torch.device
    ) -> None:
        require_folder(folder, ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
        self._device, self._folder, self._computed = device, folder, f"{dtype} {device.type}"
        self._pooled = read_json(folder / "text_encoder" / "config.json").get("projection_dim", 0)
        self._load = partial(_text_pipeline, folder, transformer, dtype, device)
        self._pipeline: StableDiffusion3Pipeline | None = None

    def __call__(self, text: str) -> tuple[Tensor, Tensor]:
        self._pipeline = self._pipeline or self._load()
        with torch.no_grad():
            embeds, _, pooled, _ = self._pipeline.encode_prompt(
                prompt=text, prompt_2=text, prompt_3=text, device=self._device, do_classifier_free_guidance=False
            )
        return embeds, pooled

    @property
    def digest(self) -> str:
        """Of the files of encoders and tokenizers, of how they are computed, and by which version."""
        files = [file for part in ("text_encoder*", "tokenizer*") for file in self._folder.glob(f"{part}/**/*")]
        return f"{files_digest(self._folder, files)} {self._computed} {transformers_version}"

    @property
    def limit(self) -> int:
        """What the pipeline cuts prompts to: T5 reads on where CLIP ends."""
        return _T5_TOKENS if _has_t5(self._folder) else _CLIP_TOKENS

    def by_encoder(self, embeds: Tensor, pooled: Tensor) -> Mapping[str, Tensor]:
        first, second = (f"{self._folder / name} with its tokenizer" for name in ("text_encoder", "text_encoder_2"))
        said = {first: pooled[:, : self._pooled], second: pooled[:, self._pooled :]}
        if _has_t5(self._folder):
            said[f"{self._folder / 'text_encoder_3'} with its tokenizer"] = embeds[:, _CLIP_TOKENS:]
        return said

    def release(self) -> None:
        self._pipeline = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _text_pipeline(
    folder: Path, transformer: SD3Transformer2DModel, dtype: torch.dtype, device: torch.device
) -> StableDiffusion3Pipeline:
    def encoder(kind: type[M], name: str) -> M:
        loaded = _load_text_encoder(kind, folder / name, dtype)
        return loaded.to(device)  # type: ignore[arg-type]  # transformers wraps `to`, whose type asks for its `self`

    def tokenizer(kind: type[T], name: str, encoder: PreTrainedModel) -> T:
        try:
            return load_tokenizer(kind, folder / name, encoder.config)
        except ValueError as error:
            raise ModelFilesError(f"the tokenizer is not whole: {error}; get {folder / name} again") from error

    clip, clip_2 = (encoder(CLIPTextModelWithProjection, name) for name in ("text_encoder", "text_encoder_2"))
    t5 = encoder(T5EncoderModel, "text_encoder_3") if _has_t5(folder) else None
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=None,  # type: ignore[arg-type]  # the pipeline takes None
        vae=None,  # type: ignore[arg-type]  # the pipeline takes None
        text_encoder=clip,
        tokenizer=tokenizer(CLIPTokenizer, "tokenizer", clip),
        text_encoder_2=clip_2,
        tokenizer_2=tokenizer(CLIPTokenizer, "tokenizer_2", clip_2),
        text_encoder_3=t5,  # type: ignore[arg-type]  # the pipeline takes None
        tokenizer_3=None if t5 is None else tokenizer(T5TokenizerFast, "tokenizer_3", t5),
    )


def _has_t5(folder: Path) -> bool:
    return (folder / "text_encoder_3").is_dir()
