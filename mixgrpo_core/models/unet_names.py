"""What the layers of a UNet (SDXL, Stable Diffusion 1.x and 2.x) are called in LoRA files.

Written is what every host reads, diffusers and ComfyUI too: the names of sd-scripts with diffusers' names of layers,

    lora_unet_<diffusers' name with _>.lora_down.weight [r, in], .lora_up.weight [out, r], .alpha = r

so that the change of a weight is ``B @ A``. Read are also diffusers' own (``unet.<name>``), of which ComfyUI drops
those with peft's endings, and the layers of the first Stable Diffusion (``input_blocks_4_1_..``), as most LoRAs of SDXL
have them.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .lora_alpha import ALPHA
from .lora_names import DOWN, UP

KOHYA = "lora_unet_"
UNET = "unet."
_OF_A_UNET = re.compile(r"(down_blocks|mid_block|up_blocks)[._]")
_FIRST = re.compile(
    r"(input_blocks_(?P<down>\d+)|middle_block|output_blocks_(?P<up>\d+))_1_(?P<rest>(transformer_blocks_|proj_).+)"
)
_IN_A_BLOCK = 3  # input blocks of one of diffusers': two layers and a change of size, in all of these models


def of_a_unet(layer: str) -> bool:
    """Whether a layer's name is one of a UNet's, with points or with underscores."""
    return _OF_A_UNET.match(layer) is not None


def as_written(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a UNet's LoRA, ``<layer>.lora_A.weight`` and ``<layer>.lora_B.weight``, under a file's names."""
    found = {}
    for name, tensor in state.items():
        layer = name.removesuffix(DOWN).removesuffix(UP)
        flat = KOHYA + layer.replace(".", "_")
        found[f"{flat}.lora_down.weight" if name.endswith(DOWN) else f"{flat}.lora_up.weight"] = tensor
        if name.endswith(DOWN):
            found[flat + ALPHA] = torch.tensor(float(len(tensor)))
    return found


def read_layer(name: str) -> str | None:
    """The layer of a tensor's name as diffusers has it, with underscores where the file has them; None where it is none
    of a UNet's transformer blocks."""
    bare = name.removeprefix(KOHYA).removeprefix(UNET)
    first = _FIRST.fullmatch(bare)
    if first is not None:
        return f"{_block(first)}_{first['rest']}"
    return bare if of_a_unet(bare) else None


def _block(first: re.Match[str]) -> str:
    if first["down"] is not None:
        block, layer = divmod(int(first["down"]) - 1, _IN_A_BLOCK)
        return f"down_blocks_{block}_attentions_{layer}"
    if first["up"] is not None:
        block, layer = divmod(int(first["up"]), _IN_A_BLOCK)
        return f"up_blocks_{block}_attentions_{layer}"
    return "mid_block_attentions_0"
