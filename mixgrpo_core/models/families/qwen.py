"""Qwen-Image, and the two that edit pictures: their text encoder sees the picture, too.

Both make pictures of one megapixel out of any reference picture, whatever the size of the images is.
"""

from dataclasses import replace

from ...support.pixels import of_area
from .. import facts
from ..diffusers.family import Family
from .examples import JOINT, masked

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
    shown=lambda image: of_area(image, 1024),
)
QWEN_EDIT_PLUS = replace(
    QWEN_EDIT,
    name="Qwen-Image-Edit-Plus",
    pipelines=("QwenImageEditPlusPipeline",),
    architecture=lambda network: "qwen-image-edit-plus",
    shown=lambda image: [of_area(image, 384)],
    one_row=True,
)
