"""Settings beside the MODEL that they are for: the family that is read from it, a size that it can take."""

import logging

from comfy.model_patcher import ModelPatcher

from ...mixgrpo_core.models.facts import is_fast
from ..host.family import HostFamily, require_flow_model
from ..sockets import OpenSettings, TrainerSettings
from .build import build
from .presets import AUTO

_log = logging.getLogger(__name__)
OTHER, FEW_STEPS = "other flow model", "distilled, 4-8 steps"
_OF_CLASSES = {
    "SD3": "SD3.5",
    "QwenImage": "Qwen-Image",
    "Chroma": "Chroma",
    "ChromaRadiance": "Chroma",
    "SDXL": "SDXL",
    "SD15": "SD 1.5",
    "SD20": "SD 1.5",
}
_DEMO_TEXT = 64  # channels of the demo model's captions; SD3's are 4096
_DEMO = "demo"


def for_model(settings: TrainerSettings | OpenSettings, model: ModelPatcher) -> TrainerSettings:
    """``settings`` for ``model``: every node with a MODEL asks here first.

    Raises:
        ValueError: the settings are for another family than the model's, or of a size that it cannot make; no flow
            model, or one whose family cannot be read.
    """
    return for_family(settings, require_flow_model(model))


def for_family(settings: TrainerSettings | OpenSettings, about: HostFamily) -> TrainerSettings:
    """``settings`` for a model of which the host says ``about``; raises as ``for_model`` does."""
    if isinstance(settings, OpenSettings):
        family = family_of(about)
        _log.info("MixGRPO: the MODEL (%s) is trained as %s", " ".join((about.name, about.base_model)).strip(), family)
        settings = build(settings.values, settings.window, family)
    elif settings.family:
        _require_family(settings.family, about)
    about.latent_shape(settings.width, settings.height)
    if about.noises is not None and not settings.model_shift:
        about_grid = f"{about.name} has noise levels of its own, which no shift moves"
        raise ValueError(f"expected shift 0, the model's own grid, found {settings.train.shift:g}: {about_grid}")
    return settings


def family_of(about: HostFamily) -> str:
    """The family of the canvas that a model of the host is of.

    Raises:
        ValueError: it may be a distilled one or not, and nothing tells.
    """
    known = _of_weights(about)
    if known in (_DEMO, FEW_STEPS):
        return known
    if is_fast(about.base_model):
        return FEW_STEPS
    klein = about.name == "Flux2" and not about.guided
    if not about.base_model and (klein or known == "Z-Image"):
        kinds = ("FLUX.2 klein", "its base model", OTHER) if klein else ("Z-Image-Turbo", "Z-Image", known)
        raise ValueError(
            f"the MODEL is {kinds[0]} or {kinds[1]}, which the name of its file alone tells apart, and this ComfyUI "
            f"does not hand that on: set model_family to {FEW_STEPS!r} or to {kinds[2]!r} in Trainer Settings"
        )
    if klein:
        return OTHER if "base" in about.base_model.lower() else FEW_STEPS
    return known


def _of_weights(about: HostFamily) -> str:
    """The family as far as the weights tell it."""
    if about.name == "SD3" and about.text_width == _DEMO_TEXT:
        return _DEMO
    if about.variant == "ZImage":
        return "Z-Image"
    if about.name == "Flux":
        return "FLUX.1-dev" if about.guided else FEW_STEPS if about.variant == "FluxSchnell" else OTHER
    if about.name == "Flux2" and about.guided:
        return "FLUX.2"
    return _OF_CLASSES.get(about.name, OTHER)


def _require_family(chosen: str, about: HostFamily) -> None:
    """Raise ``ValueError`` where the weights say that the model is of another family than ``chosen``.

    Any model but the demo's may have been distilled, and may be trained as one of no family.
    """
    known = _of_weights(about)
    if chosen in (known, OTHER) or (chosen == FEW_STEPS and known != _DEMO):
        return
    names = {_DEMO: "the demo model", FEW_STEPS: "FLUX.1-schnell", OTHER: about.name}
    lacking = " without a guidance" if about.name == "Flux2" and not about.guided else ""
    raise ValueError(
        f"the settings are for {chosen}, and the MODEL is {names.get(known, known)}{lacking}: set model_family to "
        f"{AUTO} in Trainer Settings"
    )
