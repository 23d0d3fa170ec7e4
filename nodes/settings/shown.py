"""What the widgets of Trainer Settings show where nothing is set by hand: the values that the settings come to."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ...mixgrpo_core import FrozenWindow
from ...mixgrpo_core.objectives import Objective
from ...mixgrpo_core.sampling.kernels import Kernel
from ...mixgrpo_core.sampling.solvers import Solver
from ...mixgrpo_core.sampling.windows import Window
from ...mixgrpo_core.support.setting import fields_of
from ..checks import defaults_of, require_in_range
from ..sockets import TrainerSettings
from .build import numbers_and_choices, possible
from .choices import choices
from .inputs import GUARDS, OFF, ON

Held: TypeAlias = float | str | None
"""What a widget shows; None where no number or choice says it."""
CHOSEN = ("preset", "model_family", "memory", "seed", "more_settings")
"""Inputs that hold what was chosen, and never what a preset has."""
OF_THE_MODEL = "the model's"


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a node's page asks: ``{"values": {"preset": "MixGRPO", "rank": 0, ...}, "demo": false, "window": false}``.

    ``values``, ``notes`` and ``usual`` of the answer are those of ``shown`` and ``usual``; ``error`` is the sentence by
    which the node would be refused. Raises ``KeyError`` or ``TypeError`` for what is no question.
    """
    values = {**asked["values"]}
    about = {"demo": asked.get("demo") is True, "window": asked.get("window") is True}
    common = {"usual": usual(values, **about)}
    try:
        return {**shown(values, **about), **common, "error": ""}
    except ValueError as error:
        return {"values": {}, "notes": {}, **common, "error": str(error)}


def shown(values: Mapping[str, Any], *, demo: bool, window: bool) -> dict[str, Any]:
    """The value of every input as the settings come to it, why some have none, and what the presets alone would have.

    Args:
        values: of the inputs, as the node is given them.
        demo: whether the MODEL is the demo model: where the family is read from it, the others tell nothing then.
        window: whether a window comes by wire.

    Raises:
        ValueError: in plain words, where they do not fit.
    """
    items = numbers_and_choices()
    defaults = defaults_of(items)
    require_in_range(items, values)
    names = [item.id for item in items if item.id not in CHOSEN]
    alike = _alike({**defaults, **values}, demo, FrozenWindow(size=1) if window else None)
    found = [_held(one, names) for one in alike]
    value = {name: _common([one[name] for one in found]) for name in names}
    notes = {name: _note(name, [one[name] for one in found], alike[0]) for name in names if value[name] is None}
    return {"values": value, "notes": notes}


def usual(values: Mapping[str, Any], *, demo: bool, window: bool) -> dict[str, Held]:
    """What the inputs would show with nothing set by hand; nothing where the choices alone do not fit."""
    try:
        return shown({name: values[name] for name in CHOSEN[:3]}, demo=demo, window=window)["values"]
    except ValueError:
        return {}


def _alike(values: Mapping[str, Any], demo: bool, window: Window | None) -> list[TrainerSettings]:
    """The settings of every family that the MODEL may be of."""
    found = possible(values, window)
    return [one for one in found if (one.family == "demo") == demo] or found


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
    return "no window" if name == "tail_ratio" else "the preset's" if name == "guards" else "none here"
