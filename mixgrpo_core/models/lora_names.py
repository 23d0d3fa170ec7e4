"""What the tensors of LoRA files are called."""

from collections.abc import Mapping

from torch import Tensor

DOWN = ".lora_A.weight"
UP = ".lora_B.weight"
_PAIRS = (
    (".lora_A.default.weight", ".lora_B.default.weight"),  # a state of peft that nobody renamed
    (".lora_down.weight", ".lora_up.weight"),  # kohya
    (".lora.down.weight", ".lora.up.weight"),  # diffusers before peft
    (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),  # diffusers' first text encoders
    (".lora_A", ".lora_B"),
)
_ENDS = {end: ours for pair in _PAIRS for end, ours in zip(pair, (DOWN, UP), strict=True)}


class LoraFileError(ValueError):
    """A LoRA file that cannot be read as one, or cannot be written."""


def renamed(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The pairs of every trainer as ``<layer>.lora_A.weight`` and ``<layer>.lora_B.weight``; the layers stay."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        end = next((end for end in _ENDS if name.endswith(end)), None)
        ours = name if end is None else name.removesuffix(end) + _ENDS[end]
        if ours in found:
            raise LoraFileError(f"{where} holds {ours} twice, under two names: it is two LoRAs in one file")
        found[ours] = tensor
    return found
