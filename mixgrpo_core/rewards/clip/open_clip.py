"""Names of CLIP's parameters: open_clip's (and OpenAI's own) as those of transformers' ``CLIPModel``.

    visual.transformer.resblocks.3.attn.in_proj_weight [3 W, W]
        -> vision_model.encoder.layers.3.self_attn.{q,k,v}_proj.weight [W, W] each

open_clip multiplies by its two projections from the right, ``x @ P``; a linear layer holds the transpose. The text
projection is square: forgetting that raises no error.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

_TOP = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",  # spelt so in transformers
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
}
_TRANSPOSED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
_IN_BLOCK = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")
_NO_PARAMETERS = re.compile(r"(.*\.)?(attn_mask|position_ids)")  # constants that some files hold


@dataclass(frozen=True)
class TensorSource:
    """Where the numbers of a parameter are in a file.

    Attributes:
        name: of the tensor in the file.
        third: which third of its rows; all of them when None.
        transposed: the file holds the transpose.
    """

    name: str
    third: int | None = None
    transposed: bool = False

    def shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """The parameter's shape, when the tensor in the file has the shape ``stored``."""
        if self.third is not None:
            return (stored[0] // 3, *stored[1:])
        return stored[::-1] if self.transposed else stored

    def of(self, stored: Tensor) -> Tensor:
        """The parameter."""
        if self.third is not None:
            return stored.chunk(3)[self.third]
        return stored.T.contiguous() if self.transposed else stored


def sources(names: Iterable[str]) -> tuple[dict[str, TensorSource], list[str]]:
    """Where each parameter of ``CLIPModel`` is among ``names`` of either layout, and the names that are no CLIP's."""
    found: dict[str, TensorSource] = {}
    unknown = []
    for name in names:
        if _NO_PARAMETERS.fullmatch(name):
            continue
        targets = _targets(name)
        found |= targets
        if not targets:
            unknown.append(name)
    return found, unknown


def _targets(name: str) -> dict[str, TensorSource]:
    if name.startswith(("vision_model.", "text_model.")) or name in (*_TRANSPOSED.values(), "logit_scale"):
        return {name: TensorSource(name)}
    if name in _TOP:
        return {_TOP[name]: TensorSource(name)}
    if name in _TRANSPOSED:
        return {_TRANSPOSED[name]: TensorSource(name, transposed=True)}
    block = _BLOCK.fullmatch(name)
    return _targets_in_block(name, *block.groups()) if block else {}


def _targets_in_block(name: str, visual: str | None, index: str, rest: str) -> dict[str, TensorSource]:
    layer = f"{'vision' if visual else 'text'}_model.encoder.layers.{index}"
    if rest in ("attn.in_proj_weight", "attn.in_proj_bias"):
        kind = rest.removeprefix("attn.in_proj_")
        return {f"{layer}.self_attn.{part}_proj.{kind}": TensorSource(name, third) for third, part in enumerate("qkv")}
    part, _, kind = rest.rpartition(".")
    return {f"{layer}.{_IN_BLOCK[part]}.{kind}": TensorSource(name)} if part in _IN_BLOCK else {}
