"""What the inputs of Trainer Settings come to."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from comfy_api.latest import io

from ...mixgrpo_core import TrainConfig
from ...mixgrpo_core.models.facts import FACTS
from ...mixgrpo_core.models.lora_layers import USUAL
from ...mixgrpo_core.objectives import Objective
from ...mixgrpo_core.objectives.own_step import AUTO as OWN_RATE
from ...mixgrpo_core.objectives.own_step import own_count
from ...mixgrpo_core.objectives.port import TRANSITIONS
from ...mixgrpo_core.sampling.kernels import Kernel
from ...mixgrpo_core.sampling.planners import Planner, WindowPlanner
from ...mixgrpo_core.sampling.solvers import Solver
from ...mixgrpo_core.sampling.windows import Window
from ...mixgrpo_core.support.setting import changed, fields_of
from ..checks import defaults_of
from ..sockets import TrainerSettings
from .choices import choices
from .inputs import FIXED, FROM_PRESET, GUARDS, ON, SETS_ITSELF, TOLD, detail_inputs, settings_inputs, unset
from .more_settings import Line, read_settings, with_settings
from .presets import AUTO, local_config, memory_of, with_window

_UNIT = 16  # pixels per token side of the models at hand
_OF_OBJECTIVES = ("clip", "adv_clip", "kl")
"""Inputs that are settings of some objectives."""
_MADE_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "planner": ("tail_ratio",),
        "kernel": ("kernel", "eta"),
        "objective": ("objective", *_OF_OBJECTIVES),
        "tail_solver": ("tail_solver",),
        "shared_noise": ("shared_noise",),
        "guards": ("guards",),
    }
)
"""Settings that are made of a choice or of several inputs: more_settings may have them where those are left alone."""


def numbers_and_choices() -> list[io.WidgetInput]:
    """The inputs of Trainer Settings that hold a value, those of the details among them."""
    offered = (*settings_inputs(), *detail_inputs())
    return [item for item in offered if isinstance(item, io.WidgetInput)]


def families(values: Mapping[str, Any]) -> list[str]:
    """The families that the chosen one may turn out to be."""
    if values["model_family"] != AUTO:
        return [values["model_family"]]
    return ["demo"] if values["preset"] == "Demo" else list(FACTS)


def possible(values: Mapping[str, Any], window: Window | None) -> list[TrainerSettings]:
    """The settings of each of ``families`` that they fit.

    Raises:
        ValueError: in plain words, where they fit none.
    """
    asked = _Asked.of(values, window)
    found, refusals = [], []
    for name in families(values):
        try:
            found.append(_built(asked, name))
        except ValueError as error:
            refusals.append(error)
    if not found:
        raise refusals[0]
    return found


def build(values: Mapping[str, Any], window: Window | None, family: str) -> TrainerSettings:
    """The settings that the node's inputs come to for a family; ``window`` replaces the preset's.

    Raises:
        ValueError: in plain words, where settings do not fit each other.
    """
    return _built(_Asked.of(values, window), family)


@dataclass(frozen=True)
class _Asked:
    """What the inputs hold.

    Attributes:
        values: with defaults for those that a workflow does not give.
        defaults: what stands for the preset's.
        plain: inputs that are plain settings of the core.
    """

    values: Mapping[str, Any]
    window: Window | None
    defaults: Mapping[str, Any]
    plain: tuple[str, ...]

    @classmethod
    def of(cls, values: Mapping[str, Any], window: Window | None) -> "_Asked":
        items = numbers_and_choices()  # looks at the classes of all custom nodes
        defaults = defaults_of(items)
        plain = tuple(item.id for item in items if item.id in TOLD and not isinstance(item, io.Combo.Input))
        return cls({**defaults, **values}, window, defaults, plain)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]


def _built(asked: _Asked, name: str) -> TrainerSettings:
    family = FACTS[name]
    memory = memory_of(family, asked["memory"])
    preset = local_config(asked["preset"], family, memory)
    config = replace(
        preset,
        seed=asked["seed"],
        planner=_planner(preset.planner, asked),
        kernel=_kernel(preset.kernel, asked["kernel"], asked["eta"]),
        objective=_objective(preset.objective, asked),
        **_given(asked),
        **_steps(asked, preset, family.learning_rate),
    )
    more = read_settings(asked["more_settings"], elsewhere=asked.plain)
    _require_once({line.name: line for line in more}, asked)
    config = with_settings(config, more)
    side = min(family.side, memory.side or family.side)
    rank = asked["rank"] or memory.rank
    checkpointing = asked["checkpointing"]
    return TrainerSettings(
        train=config,
        width=_side("width", asked["width"] or side),
        height=_side("height", asked["height"] or side),
        cfg=_cfg(name, asked["cfg"], config.objective),
        guidance=asked["guidance"] if asked["guidance"] >= 0 else family.guidance,
        model_shift=config.shift is None,
        rank=rank,
        alpha=asked["alpha"] or 2.0 * rank,
        checkpointing=memory.checkpointing if checkpointing == FROM_PRESET else checkpointing == ON,
        layers=USUAL if asked["layers"] == FROM_PRESET else asked["layers"],
        family=name,
    )


def _given(asked: _Asked) -> dict[str, Any]:
    """The settings that are set by hand, but for those that are made of several inputs."""
    given = {name: asked[name] for name in asked.plain if asked[name] != unset(name) and name != "seed"}
    if asked["ema"] == 0:
        given["ema"] = None
    if asked["shared_noise"] != FROM_PRESET:
        given["shared_noise"] = asked["shared_noise"] == ON
    if asked["tail_solver"] != FROM_PRESET:
        given["tail_solver"] = choices(Solver)[asked["tail_solver"]]()
    if asked["guards"] != FROM_PRESET:
        given["guards"] = GUARDS[asked["guards"]]
    return given


def _steps(asked: _Asked, preset: TrainConfig, usual: float) -> dict[str, Any]:
    """Learning rate and updates: the trainer's own, unless they are set by hand or fixed; ``usual`` is the family's
    rate."""
    by_hand = {name for name in ("learning_rate", "updates") if asked[name] != unset(name)}
    choice = asked["step_size"]
    if choice == SETS_ITSELF and "learning_rate" in by_hand:
        raise ValueError(
            f"learning_rate is set by hand ({asked['learning_rate']:g}), and step_size says that it sets itself: "
            "put learning_rate back to 0, or choose step_size fixed"
        )
    if "learning_rate" in by_hand:
        return {}
    if choice == FIXED:
        return {"learning_rate": usual} if preset.learning_rate == OWN_RATE else {}
    if "updates" in by_hand or TRANSITIONS not in _objective(preset.objective, asked).needs:
        return {"learning_rate": OWN_RATE}
    return {"learning_rate": OWN_RATE, "updates": _own_updates(asked, preset)}


def _own_updates(asked: _Asked, preset: TrainConfig) -> Any:
    """The trainer's, but no more than of a preset that sets its own step and says how many it wants."""
    if preset.learning_rate != OWN_RATE or preset.updates == OWN_RATE:
        return OWN_RATE
    prompts = asked["prompts_per_iteration"] or preset.prompts_per_iteration
    images = asked["images_per_prompt"] or preset.images_per_prompt
    return min(preset.update_count, own_count(prompts, images, whole=False))


def _planner(preset: Planner, asked: _Asked) -> Planner:
    planner = preset if asked.window is None else with_window(preset, asked.window)
    if not asked["tail_ratio"]:
        return planner
    if not isinstance(planner, WindowPlanner):
        raise ValueError(
            f"the tail ratio shortens the steps after a window, and {asked['preset']} has none: connect a window or "
            "set it to 0"
        )
    return replace(planner, tail_ratio=asked["tail_ratio"])


def _kernel(preset: Kernel, choice: str, eta: float) -> Kernel:
    kernel = preset if choice == FROM_PRESET else choices(Kernel)[choice]()
    return replace(kernel, eta=eta) if eta else kernel


def _objective(preset: Objective, asked: _Asked) -> Objective:
    """The chosen objective with the inputs that are settings of it; the preset's KL goes along where it has none."""
    objective = preset if asked["objective"] == FROM_PRESET else choices(Objective)[asked["objective"]]()
    known = {item.name for item in fields_of(objective)}
    if objective is not preset and getattr(objective, "kl", None) == 0:
        objective = changed(objective, {"kl": getattr(preset, "kl", 0.0)})
    given = {name: asked[name] for name in _OF_OBJECTIVES if asked[name] != asked.defaults[name]}
    for name in given.keys() - known:
        raise ValueError(
            f"{name} is no setting of {type(objective).__name__}: set it to {asked.defaults[name]:g}, or choose "
            "another objective"
        )
    return changed(objective, given)


def _require_once(more: Mapping[str, Line], asked: _Asked) -> None:
    """Raise ``ValueError`` for a setting that is both an input, set by hand, and a line of more_settings."""
    set_by_hand = {name for name, default in asked.defaults.items() if asked[name] != default}
    for name, inputs in _MADE_OF.items():
        found = sorted(set_by_hand & {*inputs})
        if name == "planner" and asked.window is not None:
            found.append("window")
        if name in more and found:
            raise ValueError(
                f"line {more[name].number} of more_settings sets {name}, and so does the input {found[0]}: take one out"
            )


def _cfg(name: str, asked: float, objective: Objective) -> float:
    cfg = asked or FACTS[name].cfg
    if cfg < 1:
        raise ValueError(f"CFG is 1 (off) or more, found {cfg:g}")
    if cfg > 1 and FACTS[name].distilled:
        raise ValueError(
            f"{name} has its guidance distilled into it and makes worse images with CFG: set cfg to 1 (or 0, from the "
            "preset). For a variant that wants CFG choose the family 'other flow model'"
        )
    if cfg > 1 and objective.plain_field:
        raise ValueError(
            f"{type(objective).__name__} learns from final images and wants a model without guidance, and CFG is "
            f"{cfg:g}: set cfg to 1, or choose an objective of sampled steps such as GRPO"
        )
    return cfg


def _side(name: str, pixels: int) -> int:
    if pixels % _UNIT:
        near = round(pixels / _UNIT) * _UNIT
        raise ValueError(f"{name} must be a multiple of {_UNIT} pixels, found {pixels}: take {near}")
    return pixels
