"""Parts of a local diffusers folder, loaded strictly: what diffusers only warns about is an error here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import diffusers
import torch
import transformers
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedModel

from ...support.json_files import json_table
from ...support.quoting import cause, listed
from .smaller import AS_IT_IS, Smaller, load_gguf, require_gradient
from .tokenizers import load_tokenizer
from .weight_names import variant_of, why

N = TypeVar("N", bound=ModelMixin)
_TEXT_PARTS = ("text_encoder", "tokenizer", "processor")
INDEX = "model_index.json"
_PLAIN = {"add_watermarker": False, "requires_safety_checker": False}
"""Rewards see the picture as it is."""


class Vae(Protocol):
    """A diffusers autoencoder."""

    config: Any

    def decode(self, z: Tensor, return_dict: bool = True) -> Any:
        """Latents ``[B, C, h, w]`` as pixels ``[B, 3, H, W]`` in -1..1, the first of a tuple; both in its own dtype."""
        ...


class ModelFilesError(ValueError):
    """A model folder that is not there, not whole, or another model's."""


def read_json(path: Path) -> dict[str, Any]:
    """One of the folder's configuration files. Raises ``ModelFilesError`` where there is none."""
    return json_table(path, ModelFilesError, "get the model folder again")


def require_folder(folder: Path, parts: tuple[str, ...]) -> None:
    """Raise unless ``folder`` and its sub-folders or files ``parts`` are there."""
    if not folder.is_dir():
        raise ModelFilesError(f"expected a model folder at {folder}, found none; give the path of a diffusers folder")
    missing = [part for part in parts if not (folder / part).exists()]
    if missing:
        raise ModelFilesError(f"{folder} lacks {listed(missing)}; the model folder is not whole, get it again")


@dataclass(frozen=True, kw_only=True)
class Index:
    """What a folder's ``model_index.json`` says.

    Attributes:
        pipeline: the class of its pipeline.
        parts: of what class each part is, by its name; those that the folder leaves out are not there.
        settings: further arguments of the pipeline.
        optional: text encoders whose folders may be missing, with their tokenizers.
    """

    folder: Path
    pipeline: type[DiffusionPipeline]
    parts: Mapping[str, str]
    settings: Mapping[str, Any]
    optional: tuple[str, ...] = ()

    @property
    def text_parts(self) -> tuple[str, ...]:
        """Text encoders and tokenizers."""
        absent = [encoder for encoder in self.optional if not (self.folder / encoder).is_dir()]
        left_out = {*absent, *(encoder.replace("text_encoder", "tokenizer") for encoder in absent)}
        return tuple(part for part in self.parts if part.startswith(_TEXT_PARTS) and part not in left_out)

    def require_text_parts(self) -> None:
        """Raise unless every text encoder that the pipeline has is in the folder."""
        takes, _ = DiffusionPipeline._get_signature_keys(self.pipeline)
        encoders = [name for name in takes if name.startswith("text_encoder") and name not in self.optional]
        unnamed = [name for name in encoders if name not in self.parts]
        if unnamed:
            raise ModelFilesError(
                f"{self.folder / INDEX} names no {listed(unnamed)}, through which a {self.pipeline.__name__} reads its "
                "prompts: save the whole pipeline again with save_pretrained"
            )
        require_folder(self.folder, tuple(part for part in self.text_parts if part.startswith("text_encoder")))

    def part(self, name: str) -> str:
        """The class of a part that has to be there."""
        if name not in self.parts:
            raise ModelFilesError(f"{self.folder / INDEX} names no {name}: get the folder again")
        return self.parts[name]


def read_index(folder: Path, optional: tuple[str, ...] = ()) -> Index:
    """The index of a pipeline's folder.

    Raises:
        ModelFilesError: it is none, or names classes that this version of diffusers does not have.
    """
    require_folder(folder, (INDEX, "scheduler"))
    found = read_json(folder / INDEX)
    name = found.get("_class_name")
    pipeline = getattr(diffusers, str(name), None)
    if not (isinstance(pipeline, type) and issubclass(pipeline, DiffusionPipeline)):
        raise ModelFilesError(
            f"expected the name of a diffusers pipeline in {folder / INDEX}, found {name}, which diffusers "
            f"{diffusers.__version__} does not have: update diffusers, or give the folder of another model"
        )
    parts, settings = {}, {}
    for key, value in found.items():
        if isinstance(value, list) and len(value) == 2:
            if value[1] is not None:
                parts[key] = str(value[1])
        elif not key.startswith("_"):
            settings[key] = value
    return Index(folder=folder, pipeline=pipeline, parts=parts, settings=settings, optional=optional)


def is_flow(scheduler: Mapping[str, Any]) -> bool:
    """Whether a scheduler's settings are those of a flow model."""
    flow = "FlowMatch" in str(scheduler.get("_class_name")) or bool(scheduler.get("use_flow_sigmas"))
    return flow or scheduler.get("prediction_type") == "flow_prediction"


def require_flow(scheduler: Mapping[str, Any], folder: Path) -> None:
    """Raise unless a scheduler's settings are those of a flow model."""
    if not is_flow(scheduler):
        raise ModelFilesError(
            f"expected a flow model in {folder}, found one with the scheduler {scheduler.get('_class_name')}: its "
            "noise is of another kind. Use a flow model (SD3.5, FLUX, Qwen-Image, Z-Image, ...)"
        )


def pipeline_of(index: Index, **parts: object) -> DiffusionPipeline:
    """The folder's pipeline with these parts; others are left out."""
    modules, optional = DiffusionPipeline._get_signature_keys(index.pipeline)
    rest = {name: None for name in modules if name != "self"}
    settings = {name: value for name, value in {**index.settings, **_PLAIN}.items() if name in optional}
    return index.pipeline(**{**rest, **settings, **parts})


def load_network(folder: Path, expected: str, dtype: torch.dtype, smaller: Smaller = AS_IT_IS) -> ModelMixin:
    """A network of a folder, of the class that its index names."""
    config = read_json(folder / "config.json")
    found = config.get("_class_name")
    if found != expected:
        article = "an" if expected[0] in "AEIOS" else "a"  # SD3, SANA
        raise ModelFilesError(f"expected {article} {expected} in {folder}, found {found}; get the folder again")
    kind = getattr(diffusers, expected, None)
    if not (isinstance(kind, type) and issubclass(kind, ModelMixin)):
        raise ModelFilesError(
            f"diffusers {diffusers.__version__} has no {expected}, which {folder} needs: update diffusers"
        )
    if smaller.gguf is not None:
        return load_gguf(kind, folder, smaller.gguf, dtype)
    require_gradient(config, folder)
    return _load_diffusers(kind, folder, dtype, smaller.config())


def load_vae(folder: Path, expected: str) -> ModelMixin:
    """The autoencoder, in float32: it is small, and its rounding would be noise in every reward."""
    return load_network(folder, expected, torch.float32).requires_grad_(False).eval()


def load_text_part(index: Index, part: str, dtype: torch.dtype, encoder: PreTrainedModel | None) -> Any:
    """A text encoder, or the tokenizer of one. Raises `ModelFilesError`, or ``ValueError`` for a tokenizer."""
    kind = getattr(transformers, index.parts[part], None)
    if not isinstance(kind, type):
        raise ModelFilesError(
            f"expected a class of transformers for {part} in {index.folder / INDEX}, found {index.parts[part]}, which "
            f"transformers {transformers.__version__} does not have: update transformers"
        )
    if issubclass(kind, PreTrainedModel):
        return _load_text_encoder(kind, index.folder / part, dtype)
    return load_tokenizer(kind, index.folder / part, None if encoder is None else encoder.config)


def _load_diffusers(kind: type[N], folder: Path, dtype: torch.dtype, quantization: object) -> N:
    try:
        loaded = kind.from_pretrained(
            folder,
            torch_dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            variant=variant_of(folder),
            output_loading_info=True,
            quantization_config=quantization,
        )
    except ImportError as error:
        raise ModelFilesError(f"the weights in {folder} are quantised: {cause(error)}") from error
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ModelFilesError(f"the weights in {folder} do not load: {why(folder, error)}") from error
    model, info = cast("tuple[N, dict[str, Any]]", loaded)  # diffusers' types know the model alone
    _refuse(folder, {"misses": info["missing_keys"], "has unknown": info["unexpected_keys"]})
    return model


def _load_text_encoder(kind: type[PreTrainedModel], folder: Path, dtype: torch.dtype) -> PreTrainedModel:
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
    model, info = cast("tuple[PreTrainedModel, dict[str, Any]]", loaded)  # transformers' types know the model alone
    _refuse(folder, {"misses": info["missing_keys"], "has mis-shaped": [key[0] for key in info["mismatched_keys"]]})
    made: PreTrainedModel = model.requires_grad_(False).eval()
    return made


def _refuse(folder: Path, faults: Mapping[str, Iterable[str]]) -> None:
    told = [f"{word} {listed(sorted(keys))}" for word, keys in faults.items() if keys]
    if told:
        raise ModelFilesError(
            f"the weights in {folder} are another model's: the file {' and '.join(told)}; get the folder again"
        )
