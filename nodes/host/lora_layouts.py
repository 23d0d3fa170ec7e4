"""LoRA files in three layouts, without a change of what they do.

    diffusers        transformer.<diffusers' name>.lora_A.weight [r, in], .lora_B.weight [out, r]
    ComfyUI native   diffusion_model.<ComfyUI's name>.lora_A.weight, .lora_B.weight
    kohya            lora_unet_<ComfyUI's name with _>.lora_down.weight, .lora_up.weight, .alpha = r

A factor alpha / r of a file is multiplied into B, so that the change of a weight is exactly ``B @ A`` in each of them.
Files are read through the host's own table of names: what the host can load can be converted.

The host often fuses layers that diffusers keeps apart (q, k and v are three ranges of rows of one ``qkv``). Where the
parts share their A, the fused B is theirs one above the other; else A is theirs one above the other and B has them on
its diagonal, and the rank is the sum of theirs. Taking a fused layer apart undoes either.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import comfy.lora
import comfy.lora_convert
import torch
from comfy.model_base import BaseModel
from comfy.weight_adapter import LoRAAdapter
from torch import Tensor

from ...mixgrpo_core.models.lora_file import NATIVE, PREFIX, LoraFile, in_file, lora_of
from ...mixgrpo_core.models.lora_names import DOWN, UP
from ...mixgrpo_core.models.lora_reading import PlainLora
from ...mixgrpo_core.models.unet_names import KOHYA, UNET, of_a_unet
from ...mixgrpo_core.support.quoting import listed
from .lora_names import Part, trained_layers, unet_names


@dataclass(frozen=True, kw_only=True)
class LoraLayer:
    """The LoRA of the rows ``start`` to ``stop`` of a layer of the host: the change of these rows is ``up @ down``.

    Attributes:
        path: of the layer, from the host's model down: ``diffusion_model.joint_blocks.0.x_block.attn.qkv``.
        down: A, ``[r, in]``. up: B, ``[stop - start, r]``. Both float32 on the CPU.
    """

    path: str
    start: int
    stop: int
    down: Tensor
    up: Tensor


def read(state: Mapping[str, Tensor], model: BaseModel) -> list[LoraLayer]:
    """The pieces of a LoRA file of any layout that the host loads on ``model``.

    Raises:
        ValueError: a file of another model, or one with more in it than a plain LoRA of linear layers.
    """
    targets = comfy.lora.model_lora_keys_unet(model, {})
    given = comfy.lora_convert.convert_lora({_host_name(name, targets): tensor for name, tensor in state.items()})
    try:
        adapters = comfy.lora.load_lora(given, targets, log_missing=False)
    except KeyError as error:
        raise ValueError(f"the LoRA is not whole: {error} is missing beside its partner; get it again") from error
    rows = _rows(model)
    pieces, known = [], set()
    for target, adapter in adapters.items():
        piece = _piece(target, adapter, rows)
        _require_fit(piece, model)
        pieces.append(piece)
        known |= adapter.loaded_keys
    unread = sorted(set(given) - known)
    if unread or not pieces:
        raise ValueError(
            f"expected a LoRA of this model ({type(model).__name__}), found {len(unread)} tensors that it has no place "
            f"for{f', such as {listed(unread)}' if unread else ' and nothing else'}: connect the model that the LoRA "
            "was made for"
        )
    return sorted(pieces, key=lambda piece: (piece.path, piece.start))


def _host_name(name: str, targets: Mapping[str, object]) -> str:
    """The name of a tensor as the host's table has it: peft leaves ``transformer.`` away, and the host drops a UNet's
    names of diffusers."""
    if name.startswith(PREFIX + NATIVE):  # a model without names of diffusers is trained under ComfyUI's own
        return name.removeprefix(PREFIX)
    layer = name.removesuffix(DOWN).removesuffix(UP)
    bare = layer.removeprefix(UNET)
    if of_a_unet(bare):
        return KOHYA + bare.replace(".", "_") + name.removeprefix(layer)
    return PREFIX + name if layer not in targets and PREFIX + layer in targets else name


def lora_for(lora: PlainLora, model: BaseModel, names: Collection[str], where: str) -> LoraFile:
    """The LoRA under the names of a policy on ``model``; ``names`` are those of its tensors.

    Raises:
        ValueError: as ``read``, or layers for which the host knows no name of the policy's.
    """
    if not all(name.removeprefix(PREFIX) in names for name in lora.tensors):  # of another layout, or other layers
        native = any(name.startswith(NATIVE) for name in names)
        make = to_native if native else named_as_in_diffusers
        lora = replace(lora, tensors=make(read(lora.tensors, model), model))
    return lora_of(lora.tensors, lora.metadata, where)


def _piece(target: str | tuple, adapter: object, rows: Mapping[str, int]) -> LoraLayer:
    weight, place, change = (*target, None)[:3] if isinstance(target, tuple) else (target, None, None)
    path = weight.removesuffix(".weight")
    if not isinstance(adapter, LoRAAdapter) or any(item is not None for item in adapter.weights[3:]):
        raise ValueError(
            f"expected a plain LoRA (A and B), found another kind of adapter, or of a bias or a norm, on {path}"
        )
    up, down, alpha = adapter.weights[:3]
    if up.ndim != 2 or down.ndim != 2 or path not in rows:
        raise ValueError(f"expected a LoRA of linear layers, found one of another kind of layer on {path}")
    up, down = up.detach().to("cpu", torch.float32), down.detach().to("cpu", torch.float32)
    if alpha is not None:
        up = up * (alpha / down.shape[0])
    if change is not None:  # the host turns the rows of some weights round; A stays, so B is turned
        up = change(up)
    start, count = (0, rows[path]) if place is None else place[1:]
    if len(up) != count:
        raise ValueError(f"the LoRA has {len(up)} rows for {path}, expected {count}: it is another model's")
    return LoraLayer(path=path, start=start, stop=start + count, down=down, up=up)


def _require_fit(piece: LoraLayer, model: BaseModel) -> None:
    """The host would read matrices of other sizes, too, and fail where it uses them."""
    (rank, width), wanted = piece.down.shape, getattr(model.get_submodule(piece.path), "in_features", None)
    if piece.up.shape[1] != rank or wanted not in (None, width):
        raise ValueError(
            f"the LoRA has A {list(piece.down.shape)} and B {list(piece.up.shape)} for {piece.path} of {wanted} "
            "columns: it is another model's, or not whole"
        )


def to_diffusers(pieces: Iterable[LoraLayer], model: BaseModel) -> dict[str, Tensor]:
    """The layout that ComfyUI and diffusers read; raises as `named_as_in_diffusers`."""
    return in_file(named_as_in_diffusers(pieces, model))


def named_as_in_diffusers(pieces: Iterable[LoraLayer], model: BaseModel) -> dict[str, Tensor]:
    """Pairs A and B of diffusers' layers.

    Raises:
        ValueError: layers for which the host knows no name of diffusers.
    """
    names = _diffusers_names(model)
    unnamed = sorted({piece.path for piece in pieces if piece.path not in names})
    if unnamed:
        raise ValueError(
            f"ComfyUI knows no diffusers names for {listed(unnamed)} of {type(model).__name__}: choose the layout "
            "'ComfyUI native'"
        )
    state = {}
    for path, group in _by_path(pieces).items():
        for name, down, up in _taken_apart(group, names[path]):
            state[name + DOWN], state[name + UP] = down, up
    return state


def to_native(pieces: Iterable[LoraLayer], model: BaseModel) -> dict[str, Tensor]:
    """ComfyUI's own names; ranks of fused layers may grow."""
    state = {}
    for path, down, up in _whole_layers(pieces, model):
        state[path + DOWN], state[path + UP] = down, up
    return state


def to_kohya(pieces: Iterable[LoraLayer], model: BaseModel) -> dict[str, Tensor]:
    """The names of sd-scripts; ranks of fused layers may grow."""
    state = {}
    for path, down, up in _whole_layers(pieces, model):
        name = KOHYA + path.removeprefix(NATIVE).replace(".", "_")
        state[f"{name}.lora_down.weight"], state[f"{name}.lora_up.weight"] = down, up
        state[f"{name}.alpha"] = torch.tensor(float(len(down)))
    return state


Layout = Callable[[Iterable[LoraLayer], BaseModel], dict[str, Tensor]]
DIFFUSERS = "diffusers (works everywhere)"
LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {DIFFUSERS: to_diffusers, "ComfyUI native": to_native, "kohya": to_kohya}
)


def rank_of(state: Mapping[str, Tensor]) -> int:
    """The largest rank in a LoRA of any layout."""
    return max(len(tensor) for name, tensor in state.items() if name.endswith((DOWN, ".lora_down.weight")))


def _by_path(pieces: Iterable[LoraLayer]) -> dict[str, list[LoraLayer]]:
    found: dict[str, list[LoraLayer]] = defaultdict(list)
    for piece in pieces:
        found[piece.path].append(piece)
    return found


def _whole_layers(pieces: Iterable[LoraLayer], model: BaseModel) -> list[tuple[str, Tensor, Tensor]]:
    rows = _rows(model)
    return [(path, *fused(group, rows[path])) for path, group in _by_path(pieces).items()]


def fused(pieces: list[LoraLayer], rows: int) -> tuple[Tensor, Tensor]:
    """(A, B) of a whole layer of ``rows`` rows; rows that no piece covers do not change."""
    first = pieces[0].down
    if all(torch.equal(piece.down, first) for piece in pieces[1:]):
        up = torch.zeros(rows, len(first))
        for piece in pieces:
            up[piece.start : piece.stop] = piece.up
        return first, up
    down = torch.cat([piece.down for piece in pieces])
    up, column = torch.zeros(rows, len(down)), 0
    for piece in pieces:
        up[piece.start : piece.stop, column : column + len(piece.down)] = piece.up
        column += len(piece.down)
    return down, up


def _taken_apart(pieces: list[LoraLayer], parts: tuple[Part, ...]) -> list[tuple[str, Tensor, Tensor]]:
    """(name, A, B) of each part that changes."""
    by_rows = {(piece.start, piece.stop): piece for piece in pieces}
    wanted = {(part.start, part.stop): part.name for part in parts}
    if by_rows.keys() <= wanted.keys():  # the file has the parts as they are
        return [(wanted[place], piece.down, piece.up) for place, piece in by_rows.items()]
    down, up = fused(pieces, max(part.stop for part in parts))
    live = [part for part in parts if up[part.start : part.stop].any()] or list(parts)
    ranks = _diagonal(up, live)
    return [
        (part.name, down[ranks[i]].clone(), up[part.start : part.stop, ranks[i]].clone()) for i, part in enumerate(live)
    ]


def _diagonal(up: Tensor, parts: list[Part]) -> list[slice]:
    """The columns that belong to each part: blocks of one size where B has its parts on the diagonal, else all."""
    size, rest = divmod(up.shape[1], len(parts))
    blocks = [slice(i * size, (i + 1) * size) for i in range(len(parts))]
    left = up.clone()
    for part, block in zip(parts, blocks, strict=True):
        left[part.start : part.stop, block] = 0
    return [slice(None)] * len(parts) if rest or not size or left.any() else blocks


def _rows(model: BaseModel) -> dict[str, int]:
    """The number of rows of every linear layer; quantised ones of the host are no ``nn.Linear``."""
    return {path: module.out_features for path, module in model.named_modules() if hasattr(module, "out_features")}


def _diffusers_names(model: BaseModel) -> dict[str, tuple[Part, ...]]:
    """The parts of each layer that has diffusers names: those that are trained, and others with exactly one name."""
    keys = comfy.lora.model_lora_keys_unet(model, {})
    rows = _rows(model)
    unet = unet_names(model)
    if unet:
        return {path: (Part(name=unet[path], start=0, stop=rows[path]),) for path in unet if path in rows}
    others: dict[str, list[Part]] = defaultdict(list)
    for key, target in keys.items():
        path = target.removesuffix(".weight") if isinstance(target, str) else ""
        if key.startswith(PREFIX) and f"{key}.0" not in keys and path in rows:
            others[path].append(Part(name=key.removeprefix(PREFIX), start=0, stop=rows[path]))
    trained = {layer.path: layer.parts for layer in trained_layers(model)}
    if any(part.name.startswith(NATIVE) for parts in trained.values() for part in parts):
        return {}  # the host's table does not fit this model
    return {**{path: tuple(parts) for path, parts in others.items() if len(parts) == 1}, **trained}
