"""The half of an autoencoder that makes latents of pictures: by a configuration, or by the tensors of one file.

A file of its own (`ae.safetensors`, `sdxl_vae.safetensors`) has the names of latent-diffusion or those of diffusers,
and no configuration: its sizes are read off the shapes.
"""

import re
from collections.abc import Mapping
from typing import Any

from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn

from .loading import ModelFilesError

_FIRST_LAYERS = r"encoder\.down_blocks\.0\.resnets\.\d+\.conv1\.weight"
_HALF = ("encoder.", "quant_conv.")
_WHOLE_MODELS = ("first_stage_model.", "vae.")  # before the names where a whole model is in the file
_NAMES = (
    (r"\.down\.(\d+)\.block\.", r".down_blocks.\1.resnets."),
    (r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"^encoder\.norm_out\.", "encoder.conv_norm_out."),
)


def kind_of(config: Mapping[str, Any]) -> type[AutoencoderKL] | type[AutoencoderTiny]:
    """The class that a configuration names. Raises `ModelFilesError` for another than these two."""
    name = config.get("_class_name")
    kinds: dict[object, type[AutoencoderKL] | type[AutoencoderTiny]]
    kinds = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
    if name not in kinds:
        raise ModelFilesError(f"expected an AutoencoderKL or an AutoencoderTiny, found {name or 'another network'}")
    return kinds[name]


def encoding_half(config: Mapping[str, Any]) -> nn.Module:
    """The autoencoder of a configuration without what only decodes; its ``encode`` takes ``[B, 3, H, W]`` in -1..1.

    Raises:
        ModelFilesError: it is neither an AutoencoderKL nor an AutoencoderTiny.
    """
    kind: Any = kind_of(config)
    network = kind.from_config(dict(config))
    del network.decoder
    if kind is AutoencoderKL:
        network.post_quant_conv = None
    made: nn.Module = network
    return made


def name_of_half(name: str) -> str:
    """The name in diffusers of a tensor of a file; empty for what the encoding half does not have."""
    for prefix in _WHOLE_MODELS:
        name = name.removeprefix(prefix)
    if not name.startswith(_HALF):
        return ""
    for found, made in _NAMES:
        name = re.sub(found, made, name)
    return name


def shape_of_half(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """That of the tensor ``name`` in diffusers, where an attention is linear; latent-diffusion has convolutions."""
    return shape[:2] if ".attentions." in name else shape


def as_half(name: str, tensor: Tensor) -> Tensor:
    """A file's tensor with the shape that it has in diffusers."""
    return tensor.reshape(shape_of_half(name, tuple(tensor.shape)))


def config_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The configuration of an AutoencoderKL whose encoding half has these ``shapes``.

    Raises:
        ModelFilesError: they are no AutoencoderKL's.
    """
    first = "encoder.down_blocks.{}.resnets.0.conv1.weight"
    blocks = 0
    while first.format(blocks) in shapes:
        blocks += 1
    if not blocks or not {"encoder.conv_in.weight", "encoder.conv_out.weight"} <= shapes.keys():
        raise ModelFilesError("expected an AutoencoderKL (names like encoder.down.0.block.0.conv1.weight), found none")
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "latent_channels": shapes["encoder.conv_out.weight"][0] // 2,
        "block_out_channels": tuple(shapes[first.format(block)][0] for block in range(blocks)),
        "down_block_types": ("DownEncoderBlock2D",) * blocks,
        "up_block_types": ("UpDecoderBlock2D",) * blocks,
        "layers_per_block": sum(bool(re.fullmatch(_FIRST_LAYERS, name)) for name in shapes),
        "mid_block_add_attention": "encoder.mid_block.attentions.0.to_q.weight" in shapes,
        "use_quant_conv": "quant_conv.weight" in shapes,
    }
