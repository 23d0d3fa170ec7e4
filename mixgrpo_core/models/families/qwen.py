"""Qwen-Image, and the two that edit pictures: their text encoder sees the picture, too.

Both make pictures of one megapixel out of any reference picture, whatever the size of the images is.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from PIL import Image

from .. import facts
from ..diffusers.family import Family
from .examples import JOINT, masked

_UNIT = 32  # pixels that the sides of a picture are multiples of


def _of_area(side: int) -> Callable[[Image.Image], Image.Image]:
    """A picture as the pipelines size it: of about ``side * side`` pixels."""

    def sized(image: Image.Image) -> Image.Image:
        width = math.sqrt(side * side * image.width / image.height)
        height = width * image.height / image.width
        size = (round(width / _UNIT) * _UNIT, round(height / _UNIT) * _UNIT)
        return image.resize(size, Image.Resampling.LANCZOS)

    return sized


QWEN = Family(
    name="Qwen-Image",
    facts=facts.QWEN,
    pipelines=("QwenImagePipeline",),
    architecture=lambda network: "qwen-image",
    returns=("prompt_embeds", "prompt_embeds_mask"),
    example=masked("joint_attention_dim", "prompt_embeds_mask"),
    linears=rf"transformer_blocks\.\d+\.({JOINT}|(img|txt)_mlp\.net\.(0\.proj|2))",
    guidance="true_cfg_scale",
)
QWEN_EDIT = replace(
    QWEN,
    name="Qwen-Image-Edit",
    pipelines=("QwenImageEditPipeline",),
    architecture=lambda network: "qwen-image-edit",
    reads_pictures=True,
    needs_picture=True,
    own_area=True,
    shown=_of_area(1024),
)
QWEN_EDIT_PLUS = replace(
    QWEN_EDIT,
    name="Qwen-Image-Edit-Plus",
    pipelines=("QwenImageEditPlusPipeline",),
    architecture=lambda network: "qwen-image-edit-plus",
    shown=lambda image: [_of_area(384)(image)],
    one_row=True,
)
