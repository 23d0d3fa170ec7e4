"""What the widgets of Trainer Settings show where nothing is set by hand: the values that the settings come to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ... import mixgrpo_core
from ...mixgrpo_core import FrozenWindow
from ...mixgrpo_core.objectives import Objective
from ...mixgrpo_core.objectives.own_step import AUTO as OWN_RATE
from ...mixgrpo_core.sampling.kernels import Kernel
from ...mixgrpo_core.sampling.solvers import Solver
from ...mixgrpo_core.sampling.windows import Window
from ...mixgrpo_core.support.setting import fields_of
from ..checks import defaults_of, require_in_range
from ..host.family import HostFamily
from ..host.model_file import family_of_file, family_of_path
from ..sockets import OpenSettings, TrainerSettings
from .build import numbers_and_choices, possible
from .choices import choices
from .inputs import FIXED, GUARDS, OFF, ON, SETS_ITSELF
from .model_family import family_of, for_family
from .presets import AUTO

Held: TypeAlias = float | str | None
"""What a widget shows; None where no number or choice says it."""
CHOSEN = ("preset", "model_family", "memory", "seed", "more_settings")
"""Inputs that hold what was chosen, and never what a preset has."""
DEMO_LOADER = "MixGRPO_DemoModel"
DEMO_FILE = (
    Path(mixgrpo_core.__file__).parent / "assets" / "demo" / "transformer" / "diffusion_pytorch_model.safetensors"
)
OF_THE_MODEL = "the model's"


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a node's page asks: ``{"values": {"preset": "MixGRPO", "rank": 0, ...}, "window": false, "loader": ..}``.

    ``loader`` is the class of the node that the MODEL comes from, ``file`` what it loads; both may be missing.
    ``values``, ``notes`` and ``usual`` of the answer are those of ``shown`` and ``usual``; ``error`` is the sentence by
    which the node would be refused. Raises ``KeyError`` or ``TypeError`` for what is no question.
    """
    values = {**asked["values"]}
    about = _of_loader(str(asked.get("loader")), str(asked.get("file")))
    family, window = _family(about), asked.get("window") is True
    common = {"usual": usual(values, family=family, window=window), "family": family or ""}
    try:
        told = shown(values, family=family, window=window)
        if about is not None:
            _require_fit(values, about, window)
        return {**told, **common, "error": ""}
    except ValueError as error:
        return {"values": {}, "notes": {}, **common, "error": str(error)}


def _of_loader(loader: str, file: str) -> HostFamily | None:
    """What is known of the MODEL that a node will load."""
    return family_of_path(DEMO_FILE) if loader == DEMO_LOADER else family_of_file(loader, file)


def _family(about: HostFamily | None) -> str | None:
    try:
        return None if about is None else family_of(about)
    except ValueError:  # which of two it is, is asked for when the MODEL is there
        return None


def _require_fit(values: Mapping[str, Any], about: HostFamily, window: bool) -> None:
    """Raise ``ValueError`` for settings that the node with the MODEL would refuse."""
    chosen = {**defaults_of(numbers_and_choices()), **values}
    stub = FrozenWindow(size=1) if window else None
    for_family(
        OpenSettings(values=chosen, window=stub) if chosen["model_family"] == AUTO else possible(chosen, stub)[0], about
    )


def shown(values: Mapping[str, Any], *, family: str | None, window: bool) -> dict[str, Any]:
    """The value of every input as the settings come to it, why some have none, and what the presets alone would have.

    Args:
        values: of the inputs, as the node is given them.
        family: that of the MODEL, which counts where it is read from there; None where it is not known.
        window: whether a window comes by wire.

    Raises:
        ValueError: in plain words, where they do not fit.
    """
    items = numbers_and_choices()
    defaults = defaults_of(items)
    require_in_range(items, values)
    names = [item.id for item in items if item.id not in CHOSEN]
    alike = _alike({**defaults, **values}, family, FrozenWindow(size=1) if window else None)
    found = [_held(one, names) for one in alike]
    value = {name: _common([one[name] for one in found]) for name in names}
    notes = {name: _note(name, [one[name] for one in found], alike[0]) for name in names if value[name] is None}
    return {"values": value, "notes": notes}


def usual(values: Mapping[str, Any], *, family: str | None, window: bool) -> dict[str, Held]:
    """What the inputs would show with nothing set by hand; nothing where the choices alone do not fit."""
    try:
        return shown({name: values[name] for name in CHOSEN[:3]}, family=family, window=window)["values"]
    except ValueError:
        return {}


def _alike(values: Mapping[str, Any], family: str | None, window: Window | None) -> list[TrainerSettings]:
    """The settings of every family that the MODEL may be of: the demo model comes from a node of its own."""
    if family is not None and values["model_family"] == AUTO:
        return possible({**values, "model_family": family}, window)
    found = possible(values, window)
    return [one for one in found if one.family != "demo"] or found


def _held(settings: TrainerSettings, names: Sequence[str]) -> dict[str, Held]:
    train, objective = settings.train, settings.train.objective
    of_objective = {item.name for item in fields_of(objective)}
    special: dict[str, Held] = {
        "width": settings.width,
        "height": settings.height,
        "cfg": settings.cfg,
        "guidance": settings.guidance,
        "rank": settings.rank,
        "alpha": settings.alpha,
        "layers": settings.layers,
        "checkpointing": ON if settings.checkpointing else OFF,
        "kernel": _label(Kernel, train.kernel),
        "eta": getattr(train.kernel, "eta", None),
        "shared_noise": ON if train.shared_noise else OFF,
        "tail_ratio": getattr(train.planner, "tail_ratio", None),
        "tail_solver": _label(Solver, train.tail_solver),
        "objective": _label(Objective, objective),
        "guards": next((label for label, guards in GUARDS.items() if guards == train.guards), None),
        "ema": train.ema or 0.0,
        "eval_steps": train.eval_steps or train.steps,
        "learning_rate": None if train.learning_rate == OWN_RATE else train.learning_rate,
        "updates": train.update_count,
        "step_size": SETS_ITSELF if train.learning_rate == OWN_RATE else FIXED,
    }
    special |= {name: getattr(objective, name) if name in of_objective else None for name in ("clip", "adv_clip", "kl")}
    return {name: special[name] if name in special else getattr(train, name) for name in names}


def _label(port: type, one: object) -> str | None:
    return next((label for label, cls in choices(port).items() if cls is type(one)), None)


def _common(found: Sequence[Held]) -> Held:
    return found[0] if len(set(found)) == 1 else None


def _note(name: str, found: Sequence[Held], settings: TrainerSettings) -> str:
    """Why an input shows no value, in a few words."""
    if len(set(found)) > 1 or name == "shift":
        return OF_THE_MODEL
    if name == "clip" and hasattr(settings.train.objective, "clip"):
        return "by size"
    if name == "learning_rate":
        return SETS_ITSELF
    return "no window" if name == "tail_ratio" else "the preset's" if name == "guards" else "none here"
