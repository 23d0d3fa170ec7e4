"""The network of ImageReward and how its file becomes one (Xu et al. 2023, on the BLIP of Li et al. 2022).

    image tokens = ViT(pixels)                                     pre-norm, GELU, epsilon 1e-6, all tokens normalised
    text tokens  = BERT(prompt), which attends to the image tokens in every layer                  epsilon 1e-12, GELU
    reward       = (head(text token 0) - MEAN) / STD                       head: five linear layers, nothing in between

Sizes are read from the shapes; a head of attention has 64 numbers in all of BLIP.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..networks.filling import load_strict, quiet
from ..networks.weight_files import Weights, WeightsError

MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of the raw scores, by which they are standardised
VISION, TEXT, HEAD = "blip.visual_encoder.", "blip.text_encoder.", "mlp.layers."
_HEAD_LAYERS = (0, 2, 4, 6, 7)  # dropouts are between them
_UNUSED = ("blip.vision_proj.", "blip.text_proj.", "blip.text_encoder.embeddings.position_ids")
_PER_HEAD = 64
_VISION_NAMES = (
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^norm\.", "post_layernorm."),
    (r"^blocks\.", "encoder.layers."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"\.attn\.qkv\.", ".self_attn.qkv."),
    (r"\.attn\.proj\.", ".self_attn.projection."),
)


class ImageRewardNetwork(nn.Module):
    """Pixels and tokens to rewards."""

    def __init__(self, vision: nn.Module, text: nn.Module, head: nn.Sequential) -> None:
        super().__init__()
        self.vision, self.text, self.head = vision, text, head

    def forward(self, pixels: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Pixels ``[B, 3, side, side]``, normalised; tokens and mask ``[B, L]``; to ``[B]``."""
        dtype = self.head[0].weight.dtype
        seen = self.vision(pixel_values=pixels).last_hidden_state.to(dtype)
        read = self.text(  # a decoder by its layers, which look at the image; bidirectional by its mask
            input_ids=tokens, attention_mask=mask, encoder_hidden_states=seen, is_decoder=False
        ).last_hidden_state
        made: Tensor = (self.head(read[:, 0])[:, 0] - MEAN) / STD
        return made


@dataclass(frozen=True)
class Sizes:
    """What the shapes of an ImageReward file say.

    Attributes:
        vision, text: width, feed-forward width and layers of the two transformers.
        patch, side: pixels of a patch's and of the image's edge.
        words, positions: rows of the text's embeddings.
    """

    vision: tuple[int, int, int]
    text: tuple[int, int, int]
    patch: int
    side: int
    words: int
    positions: int

    @classmethod
    def of(cls, weights: Weights) -> "Sizes":
        """Raises ``WeightsError`` where the file is not one of ImageReward."""
        shapes = weights.shapes
        try:
            width, _, patch, _ = shapes[VISION + "patch_embed.proj.weight"]
            positions = shapes[VISION + "pos_embed"][1]
            words, text_width = shapes[TEXT + "embeddings.word_embeddings.weight"]
            sizes = cls(
                vision=(width, shapes[VISION + "blocks.0.mlp.fc1.weight"][0], _layers(shapes, VISION + "blocks.")),
                text=(
                    text_width,
                    shapes[TEXT + "encoder.layer.0.intermediate.dense.weight"][0],
                    _layers(shapes, TEXT + "encoder.layer."),
                ),
                patch=patch,
                side=math.isqrt(positions - 1) * patch,
                words=words,
                positions=shapes[TEXT + "embeddings.position_embeddings.weight"][0],
            )
        except (KeyError, ValueError, IndexError) as error:
            known = ", ".join(sorted(shapes)[:3])
            raise WeightsError(
                f"expected ImageReward (names like {VISION}pos_embed) in {weights.path}, found {known}, ...: "
                "give the file ImageReward.pt"
            ) from error
        if width % _PER_HEAD or text_width % _PER_HEAD:
            raise WeightsError(
                f"expected widths that are multiples of {_PER_HEAD} in {weights.path}, found {width} and {text_width}"
            )
        return sizes


def check(weights: Weights) -> None:
    """Raises ``WeightsError`` where names are missing or unknown."""
    sizes = Sizes.of(weights)
    unknown = [name for name in weights.shapes if not name.startswith((VISION, TEXT, HEAD, *_UNUSED))]
    heads = {f"{HEAD}{layer}.{kind}" for layer in _HEAD_LAYERS for kind in ("weight", "bias")}
    unknown += [name for name in weights.shapes if name.startswith(HEAD) and name not in heads]
    missing = sorted(heads - set(weights.shapes))
    if unknown or missing:
        raise WeightsError(
            f"{weights.path} is not an ImageReward: it has {', '.join(sorted(unknown)[:3]) or 'no names'} too much "
            f"and lacks {', '.join(missing[:3]) or 'nothing'}"
        )
    if weights.shapes[f"{HEAD}0.weight"][1] != sizes.text[0]:
        raise WeightsError(f"the head in {weights.path} does not fit its text encoder of width {sizes.text[0]}")


def load(weights: Weights, vision_dtype: torch.dtype) -> ImageRewardNetwork:
    """The network on the CPU: its image encoder in ``vision_dtype``, text encoder and head in float32.

    Raises:
        WeightsError: the file holds another network, or only a part of this one.
    """
    check(weights)
    sizes = Sizes.of(weights)
    return ImageRewardNetwork(_vision(weights, sizes, vision_dtype), _text(weights, sizes), _head(weights))


def _vision(weights: Weights, sizes: Sizes, dtype: torch.dtype) -> nn.Module:
    from transformers import BlipVisionConfig, BlipVisionModel

    width, hidden, layers = sizes.vision
    config = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=width // _PER_HEAD,
        image_size=sizes.side,
        patch_size=sizes.patch,
        layer_norm_eps=1e-6,
    )
    tensors = {_vision_name(name): tensor for name, tensor in _part(weights, VISION).items()}
    return load_strict(BlipVisionModel, config, tensors, dtype=dtype, source=weights.path)


def _text(weights: Weights, sizes: Sizes) -> nn.Module:
    from transformers import BlipTextConfig
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    width, hidden, layers = sizes.text
    with quiet():  # the config doubts its own defaults where the vocabulary is small
        config = BlipTextConfig(
            vocab_size=sizes.words,
            hidden_size=width,
            encoder_hidden_size=sizes.vision[0],
            intermediate_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=width // _PER_HEAD,
            max_position_embeddings=sizes.positions,
            layer_norm_eps=1e-12,
            is_decoder=True,
        )
    tensors = _part(weights, TEXT)
    options = {"add_pooling_layer": False}
    return load_strict(BlipTextModel, config, tensors, dtype=torch.float32, source=weights.path, options=options)


def _head(weights: Weights) -> nn.Sequential:
    layers: list[nn.Linear] = []
    tensors = _part(weights, HEAD)
    for number in _HEAD_LAYERS:
        weight, bias = tensors[f"{number}.weight"].float(), tensors[f"{number}.bias"].float()
        fits = weight.ndim == 2 and bias.shape == weight.shape[:1]
        if not fits or (layers and layers[-1].out_features != weight.shape[1]):
            raise WeightsError(f"the layers {HEAD}* in {weights.path} do not follow each other: get the file again")
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": bias})
        layers.append(layer)
    if layers[-1].out_features != 1:
        raise WeightsError(f"expected a head with one result in {weights.path}, found {layers[-1].out_features}")
    return nn.Sequential(*layers)


def _part(weights: Weights, prefix: str) -> dict[str, Tensor]:
    names = [name for name in weights.shapes if name.startswith(prefix) and not name.startswith(_UNUSED)]
    return {name.removeprefix(prefix): tensor for name, tensor in weights.read(names).items()}


def _vision_name(name: str) -> str:
    for pattern, replacement in _VISION_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _layers(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    """How many numbered layers there are."""
    return 1 + max(int(name.removeprefix(prefix).split(".")[0]) for name in shapes if name.startswith(prefix))
