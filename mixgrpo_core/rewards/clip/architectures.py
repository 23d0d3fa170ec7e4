"""What a CLIP network is like: read off the shapes of its parameters, and where they do not say it, from a table.

    width 768 B/16, B/32    1024 L/14    1280 H/14    1408 g/14    1664 bigG/14          (vision)

Shapes do not tell the number of heads, the activation and the epsilon. A folder's ``config.json`` does; without one,
the table knows the published networks. Names of parameters are those of transformers' ``CLIPModel``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..networks.weight_files import WeightsError

Activation = Literal["auto", "gelu", "quick_gelu"]
Shapes = Mapping[str, tuple[int, ...]]

_VISION_HEAD = {1280: 80, 1408: 88, 1664: 104}  # 16 heads each; all others, and all texts, have heads of 64
_QUICK_WIDTHS = (768, 1024)  # vision: OpenAI's B and L; laion's L is an exception that only its user knows
_QUICK_SIDES = (378,)  # DFN5B H/14
_QUICK_TEXT_WIDTHS = (512, 768)


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A transformer with a projection.

    Attributes:
        inner: width of the hidden layer of the MLPs.
        projected: width of the embedding.
    """

    width: int
    layers: int
    heads: int
    inner: int
    projected: int
    activation: str
    epsilon: float


@dataclass(frozen=True, kw_only=True)
class Vision(Encoder):
    """The image tower: pictures of ``side`` pixels in patches of ``patch``."""

    side: int
    patch: int


@dataclass(frozen=True, kw_only=True)
class Text(Encoder):
    """The text tower: ``context`` tokens of ``vocabulary``."""

    vocabulary: int
    context: int


def vision(shapes: Shapes, config: Mapping[str, Any], activation: Activation = "auto") -> Vision:
    """The image tower of these parameters.

    Args:
        config: the ``config.json`` beside them, or empty.
        activation: overrides what config and table say.

    Raises:
        WeightsError: parameters that an image tower has are missing.
    """
    width, _, _, patch = _shape(shapes, "vision_model.embeddings.patch_embedding.weight", 4)
    positions, _ = _shape(shapes, "vision_model.embeddings.position_embedding.weight", 2)
    side = round((positions - 1) ** 0.5) * patch
    quick = width in _QUICK_WIDTHS or side in _QUICK_SIDES
    head = _VISION_HEAD.get(width, 64 if width % 64 == 0 else 80)
    said = _said(config, "vision")
    return Vision(
        **_common(shapes, "vision_model", "visual_projection.weight", width),
        heads=int(said.get("num_attention_heads", 12 if said else width // head)),
        activation=_activation(said, activation, quick),
        epsilon=float(said.get("layer_norm_eps", 1e-5)),
        side=side,
        patch=patch,
    )


def text(shapes: Shapes, config: Mapping[str, Any], activation: Activation = "auto") -> Text:
    """The text tower of these parameters; see ``vision``. It has the activation of the image tower beside it."""
    vocabulary, width = _shape(shapes, "text_model.embeddings.token_embedding.weight", 2)
    context, _ = _shape(shapes, "text_model.embeddings.position_embedding.weight", 2)
    said = _said(config, "text")
    if not said and "vision_model.embeddings.patch_embedding.weight" in shapes:
        chosen = vision(shapes, config, activation).activation
    else:
        chosen = _activation(said, activation, width in _QUICK_TEXT_WIDTHS)
    return Text(
        **_common(shapes, "text_model", "text_projection.weight", width),
        heads=int(said.get("num_attention_heads", 8 if said else width // 64)),
        activation=chosen,
        epsilon=float(said.get("layer_norm_eps", 1e-5)),
        vocabulary=vocabulary,
        context=context,
    )


def _common(shapes: Shapes, tower: str, projection: str, width: int) -> dict[str, int]:
    layers = f"{tower}.encoder.layers."
    numbers = [int(name.removeprefix(layers).split(".")[0]) for name in shapes if name.startswith(layers)]
    if not numbers:
        raise WeightsError(f"expected parameters {layers}*, found none: it is no whole CLIP network")
    inner, _ = _shape(shapes, f"{layers}0.mlp.fc1.weight", 2)
    projected, _ = _shape(shapes, projection, 2)
    return {"width": width, "layers": max(numbers) + 1, "inner": inner, "projected": projected}


def _activation(said: Mapping[str, Any], chosen: Activation, quick: bool) -> str:
    if chosen != "auto":
        return chosen
    if said:
        return str(said.get("hidden_act", "quick_gelu"))
    return "quick_gelu" if quick else "gelu"


def _said(config: Mapping[str, Any], tower: str) -> Mapping[str, Any]:
    """What a ``config.json`` says of a tower: in a part of its own, or all of it where the folder is that tower."""
    if config.get("model_type") in (f"clip_{tower}_model", f"clip_{tower}"):
        return config
    parts = (config.get(f"{tower}_config"), config.get(f"{tower}_config_dict"))  # old files have both; the latter wins
    return {key: value for part in parts if isinstance(part, Mapping) for key, value in part.items()}


def _shape(shapes: Shapes, name: str, dimensions: int) -> tuple[int, ...]:
    if name not in shapes:
        raise WeightsError(f"expected a parameter {name}, found none: it is no whole CLIP network")
    if len(shapes[name]) != dimensions:
        raise WeightsError(f"expected {name} of {dimensions} dimensions, found {list(shapes[name])}")
    return shapes[name]
