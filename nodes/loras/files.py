"""Nodes that write LoRA files: Save LoRA and Convert LoRA."""

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import folder_paths
import safetensors.torch
import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ...mixgrpo_core.models.lora_file import NATIVE, PREFIX
from ...mixgrpo_core.models.lora_names import DOWN, UP
from ...mixgrpo_core.models.lora_reading import PlainLora, plain, read_lora
from ...mixgrpo_core.support.files import write_atomically
from ...mixgrpo_core.support.quoting import listed
from ..host.family import require_flow_model
from ..host.lora_layouts import DIFFUSERS, LAYOUTS, rank_of, read
from ..live.canvas_run import loras_folder
from ..names import check_name, require_place
from ..sockets import LoraWeights, workflow_note
from ..training.cards import copy_card
from ..training.runs import require_writable

DTYPES = {"as it is": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_MOST_FILES = 10_000  # of one name


class SaveLora(io.ComfyNode):
    """Writes a LoRA to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_SaveLora",
            display_name="Save LoRA",
            category="MixGRPO",
            description=(
                "Writes a LoRA to output/loras/mixgrpo, where every LoRA loader finds it (press R). In diffusers names "
                "it works in ComfyUI and in diffusers. The workflow goes into the file."
            ),
            search_aliases=["mixgrpo save", "export lora", "lora file", "safetensors", "kohya", "diffusers"],
            inputs=[
                io.LoraModel.Input("lora", tooltip="The LoRA, from MixGRPO Train or another trainer."),
                _name("my-lora"),
                _layout(),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model that the LoRA was trained on. Needed unless the LoRA is in diffusers names and "
                    "stays so.",
                ),
                _dtype(),
                io.String.Input(
                    "trigger",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Words that call the LoRA, for LoRA managers. Leave it empty if it needs none.",
                ),
            ],
            outputs=[io.String.Output(display_name="file", tooltip="The file's name as LoRA loaders list it.")],
            hidden=[io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name=None, layout=DIFFUSERS, dtype="as it is"):
        return _valid(name, layout, dtype)

    @classmethod
    def execute(cls, lora, name, layout, model=None, dtype="as it is", trigger="") -> io.NodeOutput:
        given = lora.metadata if isinstance(lora, LoraWeights) else {}
        words = {**given, **workflow_note(cls.hidden.extra_pnginfo)}
        if trigger.strip():
            words["modelspec.trigger_phrase"] = trigger.strip()
        plain_lora = plain(lora, words, "the LoRA")
        file = write(laid_out(plain_lora, model, layout), name, layout, dtype)
        copy_card(lora.card if isinstance(lora, LoraWeights) else None, loras_folder().parent / file)
        return io.NodeOutput(file, ui=ui.PreviewText(f"saved as {file}{_without_text(plain_lora)}"))


class ConvertLora(io.ComfyNode):
    """Writes a LoRA file in another layout."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_ConvertLora",
            display_name="Convert LoRA",
            category="MixGRPO",
            description=(
                "Writes a LoRA file in another layout: names of diffusers, of ComfyUI or of kohya. What the LoRA does "
                "stays exactly the same."
            ),
            search_aliases=["lora layout", "lora to diffusers", "lora to kohya", "lora key not loaded", "lora format"],
            inputs=[
                io.Combo.Input(
                    "lora_file",
                    options=lora_files(),
                    tooltip="A LoRA file of any layout that ComfyUI loads. Press R after adding one.",
                ),
                io.Model.Input("model", tooltip="The model that the LoRA is for: it says how its layers are called."),
                _layout(),
                _name("converted"),
                _dtype(),
            ],
            outputs=[
                io.LoraModel.Output(display_name="lora", tooltip="The LoRA in the new layout."),
                io.String.Output(display_name="file", tooltip="The file's name as LoRA loaders list it."),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, lora_file=None, name=None, layout=DIFFUSERS, dtype="as it is"):
        if lora_file is not None and lora_file not in lora_files():
            return f"lora_file: no LoRA file {lora_file!r}: press R and choose it again"
        return _valid(name, layout, dtype)

    @classmethod
    def fingerprint_inputs(cls, lora_file="", **_others) -> str:
        """A changed file is read again."""
        path = folder_paths.get_full_path("loras", lora_file) if lora_file in lora_files() else None
        return f"{Path(path).stat().st_mtime_ns}" if path else ""

    @classmethod
    def execute(cls, lora_file, model, layout, name, dtype="as it is") -> io.NodeOutput:
        lora = load(lora_file)
        found = laid_out(lora, model, layout)
        file = write(found, name, layout, dtype)
        told = f"{lora_file} is now also {file}{_without_text(lora)}"
        return io.NodeOutput(found, file, ui=ui.PreviewText(told))


def laid_out(lora: PlainLora, model: Any, layout: str) -> LoraWeights:
    """The LoRA in a layout. ``model`` may be None for one that is in diffusers names and stays so.

    Raises:
        ValueError: a LoRA of another model or kind, or no model where one is needed.
    """
    tensors, metadata = lora.tensors, lora.metadata
    named = all(name.startswith(PREFIX) and name.endswith((DOWN, UP)) and NATIVE not in name for name in tensors)
    if model is None and layout == DIFFUSERS and tensors and named:
        return LoraWeights(tensors, metadata)
    if model is None:
        raise ValueError(
            f"connect the model that the LoRA was trained on: it is needed to write the layout {layout!r} of this LoRA"
        )
    with torch.inference_mode(False), torch.no_grad():
        found = LAYOUTS[layout](read(tensors, model.model), model.model)
    words = dict(metadata)
    words.setdefault("modelspec.architecture", f"{require_flow_model(model).architecture}/lora")
    return LoraWeights({name: _in_dtype(tensor, lora.dtype) for name, tensor in found.items()}, words)


def _without_text(lora: PlainLora) -> str:
    """Words on what stays out of the file."""
    if not lora.text:
        return ""
    return (
        f"\nwithout its {len(lora.text)} tensors of text encoders ({listed(list(lora.text))}), which are not "
        "converted: for them load the first file too, with strength_model 0"
    )


def write(lora: LoraWeights, name: str, layout: str, dtype: str) -> str:
    """Write a LoRA into ``output/loras/mixgrpo``; a file of that name stays and the new one gets a number.

    Returns:
        The name by which LoRA loaders list the file.
    """
    name = check_name(name, "name")
    folder = loras_folder()
    require_place(folder, f"{name}.safetensors", "name")
    require_writable((folder / name).parent)
    wanted = DTYPES[dtype]
    # clone: tensors that share memory are not what a safetensors file can hold
    tensors = {
        key: tensor.detach().to("cpu", wanted or tensor.dtype).clone(memory_format=torch.contiguous_format)
        for key, tensor in lora.items()
    }
    path = free_path(folder, name)
    words = _header(lora, path.stem, layout)
    try:
        write_atomically(path, safetensors.torch.save(tensors, words))
    except OSError as error:
        raise ValueError(
            f"cannot write {path} ({error.strerror or error}): make room or choose another output folder"
        ) from error
    return str(path.relative_to(folder.parent))


def load(lora_file: str) -> PlainLora:
    """A file out of the host's LoRA folders. Raises ``ValueError`` for one that is broken or of another kind."""
    if lora_file not in lora_files():
        raise ValueError(f"no LoRA file {lora_file!r}: press R and choose it again")
    path = folder_paths.get_full_path_or_raise("loras", lora_file)
    return read_lora(path)


def _header(lora: LoraWeights, title: str, layout: str) -> dict[str, str]:
    """The words of the file's header: those that the LoRA came with, and what is true of this file."""
    rank = str(rank_of(lora))
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.prediction_type": "flow",
        "modelspec.date": now,
        "ss_network_module": "networks.lora",
        **{key: word for key, word in lora.metadata.items() if isinstance(word, str)},
        "modelspec.title": title,
        "modelspec.implementation": "diffusers" if layout == DIFFUSERS else "comfyui" if layout != "kohya" else "kohya",
        "ss_output_name": title,
        "ss_network_dim": rank,
        "ss_network_alpha": rank,  # alpha is in B: a factor of 1
        "mixgrpo.layout": layout,
        "format": "pt",
    }


def free_path(folder: Path, name: str) -> Path:
    """Where a new file of a name goes: with a number behind it where there is one. Raises ``ValueError``."""
    numbered = (f"{name}-{number}" for number in range(2, _MOST_FILES))
    for stem in (name, *numbered):
        path = folder / f"{stem}.safetensors"
        if not path.exists():
            return path
    raise ValueError(f"there are {_MOST_FILES} files named {name}: choose another name")


def _in_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in the dtype that it came in, unless a factor that went into it would be rounded."""
    stored = tensor.to(dtype)
    return stored if torch.equal(stored.float(), tensor) else tensor


def _valid(name: str | None, layout: str | None, dtype: str | None) -> bool | str:
    for label, value, offered in (("layout", layout, LAYOUTS), ("dtype", dtype, DTYPES)):
        if value is not None and value not in offered:
            return f"{label}: expected one of {', '.join(offered)}, found {value!r}"
    try:
        if name is not None:
            require_place(loras_folder(), f"{check_name(name, 'name')}.safetensors", "name")
        require_writable(loras_folder())
    except (ValueError, RuntimeError) as error:
        return str(error)
    return True


def lora_files() -> list[str]:
    return [name for name in folder_paths.get_filename_list("loras") if name.lower().endswith((".safetensors", ".sft"))]


def _name(default: str) -> io.Input:
    return io.String.Input(
        "name",
        default=default,
        tooltip="Name of the file; portraits/anna is anna in the folder portraits. A file that exists is kept, the new "
        "one gets a number.",
    )


def _layout() -> io.Input:
    return io.Combo.Input(
        "layout",
        options=list(LAYOUTS),
        default=DIFFUSERS,
        tooltip="How the layers are called. diffusers names work in ComfyUI and in diffusers; the others are for tools "
        "that want them. Where ComfyUI fuses layers, ranks may grow threefold and more, with the file; what the LoRA "
        "does stays the same.",
    )


def _dtype() -> io.Input:
    return io.Combo.Input(
        "dtype",
        options=list(DTYPES),
        default="as it is",
        optional=True,
        advanced=True,
        tooltip="Numbers in the file. 16 bits halve the file and change the LoRA by about 0.2 %.",
    )
