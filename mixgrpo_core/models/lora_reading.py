"""LoRA files of diffusers, of peft and of other trainers: their tensors as plain pairs A and B, alpha in B.

Where a file says its alpha:

    <layer>.alpha                      a tensor: kohya and most others
    lora_adapter_metadata              JSON in the header: diffusers' ``save_lora_weights``
    adapter_config.json                beside ``adapter_model.safetensors``: peft's ``save_pretrained``
    nowhere                            the factor is 1; peft's own names without its settings are refused
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..support.file_kinds import what_it_is
from ..support.files import TextFileError, read_text
from ..support.paths import user_path
from ..support.quoting import cause, listed
from .lora_alpha import ALPHA, PeftSettings, alphas_of
from .lora_names import DOWN, UP, LoraFileError, renamed

ADAPTER_METADATA = "lora_adapter_metadata"
_PEFT_FILE, _PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PEFT = "base_model.model."
PREFIX = "transformer."
_TEXT = ("text_encoder", "lora_te", "text_model.", "text_encoders.", "clip_l.", "clip_g.", "t5xxl.", "te1.", "te2.")
_MOST_DIMENSIONS = 8
_OTHER_KINDS = {
    ".dora_scale": "DoRA, which rescales each whole weight",
    ".lora_magnitude_vector": "DoRA, which rescales each whole weight",
    ".lokr_": "LoKr, whose change is a Kronecker product of full rank",
    ".hada_": "LoHa, whose change is a product of two LoRAs, element by element",
    ".oft_": "OFT, which turns each weight",
    ".boft_": "BOFT, which turns each weight",
}


@dataclass(frozen=True, kw_only=True)
class PlainLora:
    """The pairs of a LoRA file, whatever its names are.

    Attributes:
        tensors: ``<layer>.lora_A.weight`` and ``<layer>.lora_B.weight`` with alpha in B, under the file's names of the
            layers without ``base_model.model.``; what is no pair stands under its own name. On the CPU, in the
            file's dtype, or float32 where a factor went into it.
        metadata: the header's strings without the alpha that is in B now.
        text: the names of tensors for text encoders, which are not in ``tensors``.
        dtype: of the file's matrices, float32 where they are of several.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    text: tuple[str, ...]
    dtype: torch.dtype


def read_lora(path: str | Path) -> PlainLora:
    """Read a LoRA file or a folder of peft.

    Raises:
        LoraFileError: no such file, a broken one, another kind of adapter than LoRA, numbers that are not finite, or
            an alpha that is not known.
    """
    path = _file(user_path(path))
    tensors, metadata = _read(path)
    settings = _peft_config(path)
    return plain(tensors, metadata, str(path), settings)


def plain(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], where: str, settings: Mapping[str, object] | None = None
) -> PlainLora:
    """The LoRA of a file's tensors and header; ``settings`` are those of peft beside it."""
    _require_lora(tensors, where)
    _require_finite(tensors, where)
    words = dict(metadata)
    said = words.pop(ADAPTER_METADATA, None)
    if settings is None and said is not None:
        settings = _object(said, f"{ADAPTER_METADATA} in the header of {where}")
    peft = None if settings is None else PeftSettings.read(settings, PREFIX, where)
    text = tuple(name for name in tensors if name.startswith(_TEXT))
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(_TEXT)}
    of_peft = any(name.startswith(_PEFT) for name in rest)
    if of_peft and peft is None and not any(name.endswith(ALPHA) for name in rest):
        raise LoraFileError(
            f"{where} has the names of peft, whose alpha stands in {_PEFT_CONFIG}, and there is none: put that file "
            f"beside it, with the tensors as {_PEFT_FILE}, or give the folder that peft wrote"
        )
    named = renamed({name.removeprefix(_PEFT): tensor for name, tensor in rest.items()}, where)
    dtypes = {tensor.dtype for name, tensor in named.items() if not name.endswith(ALPHA)}
    dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
    baked = _baked(named, peft, where)
    _require_finite(baked, where)  # an alpha can carry numbers beyond what float32 holds
    return PlainLora(tensors=baked, metadata=words, text=text, dtype=dtype)


def _baked(named: Mapping[str, Tensor], peft: PeftSettings | None, where: str) -> dict[str, Tensor]:
    """The tensors with ``alpha / rank`` in B and without alphas."""
    alphas = alphas_of(named, where)
    found = {name: tensor for name, tensor in named.items() if not name.endswith(ALPHA)}
    orphans = sorted(layer for layer in alphas if layer + DOWN not in named and layer + UP not in named)
    if orphans:
        raise LoraFileError(
            f"{where} has an alpha for {listed(orphans)} but no lora_A and lora_B; it is not a whole LoRA"
        )
    for layer in (name.removesuffix(DOWN) for name in named if name.endswith(DOWN)):
        down, up = named[layer + DOWN], named.get(layer + UP)
        if not down.ndim or not len(down):
            raise LoraFileError(f"expected a LoRA of rank 1 or more in {where}, found rank 0 for {layer}: get it again")
        if up is None:
            continue
        factors = {alphas[layer] / len(down)} if layer in alphas else set()
        if peft is not None:
            factors.add(peft.scale(layer.removeprefix(PREFIX), len(down)))
        if len(factors) > 1:
            raise LoraFileError(
                f"{where} says two strengths of {layer}, {' and '.join(f'{one:g}' for one in sorted(factors))}: its "
                "alpha and its settings of peft disagree; keep the one that it was trained with"
            )
        for factor in factors - {1.0}:
            found[layer + UP] = up.float() * factor
    return found


def _file(path: Path) -> Path:
    if path.is_dir() and (path / _PEFT_FILE).is_file():
        return path / _PEFT_FILE
    if path.is_dir() and (path / "adapter_model.bin").is_file():
        raise LoraFileError(
            f"{path} holds adapter_model.bin, a pickle, which is not read: save it as adapter_model.safetensors"
        )
    if not path.is_file():
        found = f"a folder without {_PEFT_FILE}" if path.is_dir() else "nothing"
        raise LoraFileError(f"expected a LoRA file or a folder of peft at {path}, found {found}")
    return path


def _peft_config(file: Path) -> Mapping[str, object] | None:
    config = file.with_name(_PEFT_CONFIG)
    if file.name != _PEFT_FILE or not config.is_file():
        return None
    try:
        found = _object(read_text(config), str(config))
    except (OSError, TextFileError) as error:
        raise LoraFileError(f"{config} cannot be read ({cause(error)}): get it again") from error
    if found.get("peft_type", "LORA") != "LORA":
        raise LoraFileError(
            f"expected a LoRA in {config}, found {found['peft_type']}, whose change is no product of A and B: merge it "
            "into the model and start a new LoRA from that"
        )
    return found


def _object(text: str, where: str) -> Mapping[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LoraFileError(
            f"{where} is not JSON ({cause(error)}): without it the LoRA's strength is not known"
        ) from error
    if not isinstance(found, dict):
        raise LoraFileError(f"expected a JSON object as {where}, found a {type(found).__name__}")
    return found


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            # clone: the tensors of an open file are views of its map, and Windows replaces no mapped file
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        told = what_it_is(path) or f"{cause(error)}; it was cut short or is of another format, get it again"
        raise LoraFileError(f"{path} is not a whole safetensors file: {told}") from error


def _require_lora(tensors: Mapping[str, Tensor], where: str) -> None:
    for mark, kind in _OTHER_KINDS.items():
        found = sorted(name for name in tensors if mark in name)
        if found:
            raise LoraFileError(
                f"{where} is {kind} ({listed(found)}): no LoRA does the same. Load it into the model before the "
                "training (ComfyUI's Load LoRA before the trainer, or a model folder with it merged) and start a "
                "new LoRA there"
            )


def _require_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    for name, tensor in tensors.items():
        if tensor.ndim > _MOST_DIMENSIONS:
            raise LoraFileError(f"{where} holds {name} of {tensor.ndim} dimensions, which is no matrix of a LoRA")
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise LoraFileError(
                f"{where} holds numbers that are not finite (nan or inf) in {name}: its training failed or the file is "
                "damaged, take an earlier one"
            )
