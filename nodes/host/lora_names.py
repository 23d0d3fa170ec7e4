"""Which linear layers of a host model are trained, and what each is called in a LoRA file.

The names are read from the table with which the host itself loads LoRA files, so a file with these names fits the host
by construction. The host often fuses what diffusers keeps apart: one layer then holds several parts, each a range of
its rows. A model whose table is empty or does not fit keeps the host's own names (``diffusion_model.``...).
"""

import re
from dataclasses import dataclass, replace

import comfy.lora
import comfy.utils
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_base import BaseModel

from ...mixgrpo_core.models.lora_file import PREFIX
from ...mixgrpo_core.models.lora_layers import ALL, ATTENTION, USUAL, Layers, is_attention, list_of

_BLOCK = re.compile(r"diffusion_model\.(?:[A-Za-z_]\w*\.)+?\d+(?=\.)")
_NOT_TRAINED = re.compile(
    r"\.(?:\w+_)?mod[A-Z]*\.|modulation|norm|emb(?:ed\w*)?\b|guidance|caption|conditioner|context_processor"
)
"""Modules inside of lists that are no attention and no MLP of a block."""
_FLUX1_ONLY = re.compile(
    r"transformer_blocks\.\d+\.ff(_context)?\.net\.|single_transformer_blocks\.\d+\.(proj_|attn\.to_[qkv]$)"
)
_FLUX2_ONLY = re.compile(
    r"transformer_blocks\.\d+\.ff(_context)?\.linear_|single_transformer_blocks\.\d+\.attn\.to_(qkv_mlp_proj|out)$"
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows ``start`` to ``stop`` of a layer's weight, under their name in LoRA files (without ``.lora_A.weight``)."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A linear layer of the host and those of its parts that are trained, in the order of its rows.

    Attributes:
        path: from the host's model down: ``diffusion_model.joint_blocks.0.x_block.attn.qkv``.
        inputs: columns of the weight.
        rows: of the weight; the parts tile them, unless only some kinds of layers are trained.
    """

    path: str
    inputs: int
    rows: int
    parts: tuple[Part, ...]


def trained_layers(model: BaseModel, kind: Layers = USUAL) -> list[Layer]:
    """The attention and MLP layers of all blocks, in the order of the model's modules, or those of another kind.

    Raises:
        ValueError: the model has none.
    """
    found = _named(model, _sizes(model))
    if kind == ATTENTION:
        found = [replace(layer, parts=tuple(filter(_of_attention, layer.parts))) for layer in found]
    elif kind == ALL:
        unet = unet_names(model)  # whose blocks are other lists in diffusers
        lists = {list_of(unet.get(layer.path, layer.path)) for layer in found}
        more = _sizes(model, all_of_them=True)
        found = _named(model, {path: more[path] for path in more if list_of(unet.get(path, path)) in lists})
    layers = [layer for layer in found if layer.parts]
    if not layers:
        raise ValueError(
            f"expected a transformer whose blocks have attention and MLP layers for a LoRA to sit on, found "
            f"{type(model).__name__} without any: this model cannot be trained"
        )
    return layers


def _of_attention(part: Part) -> bool:
    return is_attention(part.name)


def _named(model: BaseModel, sizes: dict[str, tuple[int, int]]) -> list[Layer]:
    """Layers with their names in LoRA files; those that the host has no name for are left out, unless it is all."""
    named = {path: _tiled(parts, sizes[path][1]) for path, parts in _table(model, sizes).items()}
    unet = unet_names(model)
    if unet:
        named = {path: (Part(name=unet[path], start=0, stop=sizes[path][1]),) for path in sizes if path in unet}
    elif not named or not all(named.values()):
        named = {path: (Part(name=path, start=0, stop=rows),) for path, (_, rows) in sizes.items()}
    return [
        Layer(path=path, inputs=inputs, rows=rows, parts=named[path])
        for path, (inputs, rows) in sizes.items()
        if path in named
    ]


def unet_names(model: BaseModel) -> dict[str, str]:
    """Diffusers' names of the layers of a UNet, by path; the host's table has them with underscores. Empty for other
    networks."""
    if not isinstance(model.diffusion_model, UNetModel):
        return {}
    table = comfy.utils.unet_to_diffusers(model.model_config.unet_config)
    return {
        f"diffusion_model.{path.removesuffix('.weight')}": name.removesuffix(".weight")
        for name, path in table.items()
        if name.endswith(".weight")
    }


def block_of(path: str) -> str:
    """The block that a layer belongs to: ``diffusion_model.joint_blocks.0``."""
    found = _BLOCK.match(path)
    if found is None:
        raise ValueError(f"expected a layer inside of a block, found {path}")
    return found.group()


def _sizes(model: BaseModel, *, all_of_them: bool = False) -> dict[str, tuple[int, int]]:
    """Columns and rows by path, of attention and MLP layers or of all that are in a list. The host's quantised linear
    layers are no ``nn.Linear``."""
    found: dict[str, tuple[int, int]] = {}
    unet = isinstance(model.diffusion_model, UNetModel)
    for path, module in model.named_modules():
        usual = all_of_them or not _NOT_TRAINED.search(path.removeprefix("diffusion_model"))
        usual = usual and (all_of_them or not unet or ".transformer_blocks." in path)
        if not (usual and _BLOCK.match(path)):
            continue
        inputs, outputs = getattr(module, "in_features", None), getattr(module, "out_features", None)
        if isinstance(inputs, int) and isinstance(outputs, int) and hasattr(module, "weight"):
            found[path] = (inputs, outputs)
    return found


def _table(model: BaseModel, sizes: dict[str, tuple[int, int]]) -> dict[str, list[Part]]:
    """The diffusers names of the layers of ``sizes`` that the host knows, without another family's aliases."""
    aliases = _FLUX1_ONLY if model.model_config.unet_config.get("image_model") == "flux2" else _FLUX2_ONLY
    keys = comfy.lora.model_lora_keys_unet(model, {})
    found: dict[str, list[Part]] = {}
    for key, target in keys.items():
        name = key.removeprefix(PREFIX)
        if name == key or aliases.match(name) or f"{key}.0" in keys:  # some tools drop the 0 of `to_out.0`
            continue
        weight, rows, *rearranged = target if isinstance(target, tuple) else (target, None)
        path = weight.removesuffix(".weight")
        if path in sizes and not rearranged:
            start, count = (0, sizes[path][1]) if rows is None else rows[1:]
            found.setdefault(path, []).append(Part(name=name, start=start, stop=start + count))
    return found


def _tiled(parts: list[Part], rows: int) -> tuple[Part, ...]:
    """The parts in order, or none where they overlap or leave out rows: the table is then another model's."""
    ordered = tuple(sorted(parts, key=lambda part: part.start))
    edges = [0, *(part.stop for part in ordered)]
    return ordered if edges[-1] == rows and edges[:-1] == [part.start for part in ordered] else ()
