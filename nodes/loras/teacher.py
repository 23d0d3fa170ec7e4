"""A LoRA with the prompts that it is for: what Merge LoRAs makes one LoRA of."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ...mixgrpo_core.models.lora_reading import PlainLora, plain
from ..checks import require_wires
from ..host.texts import PromptSet
from ..sockets import LoraWeights, PromptsSocket, TeacherSocket
from .files import load, lora_files

WIRED = "by wire"


@dataclass(frozen=True, kw_only=True)
class LoraTeacher:
    """What travels from *LoRA Teacher* to *Merge LoRAs*.

    Attributes:
        name: of the LoRA.
        lora: as its file has it.
        prompts: that it is for; those that are held out are not trained on here either.
    """

    name: str
    lora: PlainLora
    prompts: PromptSet


class LoraTeacherNode(io.ComfyNode):
    """One LoRA of several that become one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_LoraTeacher",
            display_name="LoRA Teacher",
            category="MixGRPO",
            description=(
                "A LoRA and the prompts that it is for. Merge LoRAs makes one LoRA of several that does on each prompt "
                "what the LoRA for it does."
            ),
            search_aliases=["mixgrpo merge", "lora merge", "combine loras", "distill lora"],
            inputs=[
                _file_input(),
                PromptsSocket.Input("prompts", tooltip="What the LoRA is for: the prompts of its training, say."),
                io.LoraModel.Input(
                    "lora", optional=True, tooltip="A LoRA of MixGRPO Train, instead of a file: choose 'by wire'."
                ),
            ],
            outputs=[TeacherSocket.Output(display_name="teacher", tooltip="For Merge LoRAs.")],
        )

    @classmethod
    def validate_inputs(cls, lora_file=None, input_types: Mapping[str, str] | None = None) -> bool | str:
        wires = input_types or {}
        try:
            require_wires(cls.define_schema().inputs, wires)
            if lora_file is not None:
                _require(lora_file, "lora" in wires)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, lora_file=None, **_others) -> str:
        """A changed file is read again."""
        path = folder_paths.get_full_path("loras", lora_file) if lora_file in lora_files() else None
        return f"{Path(path).stat().st_mtime_ns}" if path else ""

    @classmethod
    def execute(cls, lora_file, prompts, lora=None) -> io.NodeOutput:
        _require(lora_file, lora is not None)
        if lora is None:
            return io.NodeOutput(LoraTeacher(name=Path(lora_file).stem, lora=load(lora_file), prompts=prompts))
        words = lora.metadata if isinstance(lora, LoraWeights) else {}
        name = words.get("modelspec.title") or "LoRA"
        return io.NodeOutput(LoraTeacher(name=name, lora=plain(lora, words, "the LoRA"), prompts=prompts))


def _file_input() -> io.Input:
    files = lora_files()
    return io.Combo.Input(
        "lora_file",
        options=[*files, WIRED],
        default=[*files, WIRED][0],
        tooltip="A LoRA file of any layout that ComfyUI loads and of any rank. Press R after adding one.",
    )


def _require(lora_file: str, wired: bool) -> None:
    """Raise ``ValueError`` unless there is one LoRA, of a file or by wire."""
    if wired and lora_file != WIRED:
        raise ValueError(f"lora_file: a LoRA comes by wire, too: choose {WIRED!r}, or take the wire off")
    if not wired and lora_file == WIRED:
        raise ValueError("lora_file: expected a LoRA by wire, found none: connect lora, or choose a file")
    if not wired and lora_file not in lora_files():
        raise ValueError(f"lora_file: no LoRA file {lora_file!r}: press R and choose it again")
