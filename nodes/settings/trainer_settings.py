"""The node that makes a run's settings out of a preset, a model family and the memory there is."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from comfy_api.latest import io

from ...mixgrpo_core import FrozenWindow
from ...mixgrpo_core.objectives import Objective
from ...mixgrpo_core.sampling.kernels import Kernel
from ...mixgrpo_core.sampling.planners import Planner, WindowPlanner
from ...mixgrpo_core.sampling.solvers import Solver
from ...mixgrpo_core.sampling.windows import Window
from ...mixgrpo_core.support.setting import changed, fields_of
from ...mixgrpo_core.support.spelling import spell
from ..checks import defaults_of, require_in_range, require_wires, verdict
from ..sockets import SettingsSocket, TrainerSettings
from .choices import choices
from .inputs import BY_HAND, FROM_PRESET, GUARDS, ON, TOLD, detail_inputs, settings_inputs, unset
from .more_settings import Line, read_settings, with_settings
from .presets import FAMILIES, Family, local_config, memory_of, with_window

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


class TrainerSettingsNode(io.ComfyNode):
    """Settings of a training run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_TrainerSettings",
            display_name="Trainer Settings",
            category="MixGRPO",
            description=(
                "How the LoRA is trained. Choose an algorithm, your model's family and your GPU's memory; everything "
                "else may stay at 0, which means: as the preset has it."
            ),
            search_aliases=["mixgrpo settings", "training settings", "grpo config", "flash", "dancegrpo", "flow-grpo"],
            inputs=settings_inputs(),
            outputs=[
                SettingsSocket.Output(display_name="settings", tooltip="For the trainer."),
                io.String.Output(display_name="summary", tooltip="What the settings come to, in words."),
            ],
        )

    @classmethod
    def validate_inputs(cls, input_types: Mapping[str, str] | None = None, **values):
        wired = input_types or {}

        def check(values: Mapping[str, Any]) -> None:
            require_wires(cls.define_schema().inputs, wired)
            require_in_range(_numbers_and_choices(), values)
            if wired.keys() <= {"window"}:  # the window's own fit shows when it is there
                build(with_defaults(values), FrozenWindow(size=1) if wired else None)

        return verdict(check, flat(values), _defaults())

    @classmethod
    def execute(cls, window: Window | None = None, **values) -> io.NodeOutput:
        values = flat(values)
        require_in_range(_numbers_and_choices(), values)  # numbers that came by wire
        values = with_defaults(values)
        settings = build(values, window)
        return io.NodeOutput(settings, summary(settings, values))


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The details beside the other values; none of them where they are the preset's.

    The host hands on None for a detail that a workflow does not name.
    """
    details = values.get("details") or {}
    shown = {name: value for name, value in details.items() if name != "details" and value is not None}
    rest = {name: value for name, value in values.items() if name != "details"}
    return {**rest, **shown} if details.get("details") == BY_HAND else rest


def with_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with the defaults of inputs that a workflow does not give."""
    return {**_defaults(), **values}


def _defaults() -> dict[str, Any]:
    return defaults_of(_numbers_and_choices())


def _numbers_and_choices() -> list[io.WidgetInput]:
    offered = (*settings_inputs(), *detail_inputs())
    return [item for item in offered if isinstance(item, io.WidgetInput)]


def build(values: Mapping[str, Any], window: Window | None) -> TrainerSettings:
    """The settings that the node's inputs come to; ``window`` replaces the preset's.

    Raises:
        ValueError: in plain words, where settings do not fit each other.
    """
    family = FAMILIES[values["model_family"]]
    memory = memory_of(family, values["memory"])
    preset = local_config(values["preset"], family, memory)
    config = replace(
        preset,
        seed=values["seed"],
        planner=_planner(preset.planner, values, window),
        kernel=_kernel(preset.kernel, values["kernel"], values["eta"]),
        objective=_objective(preset.objective, values),
        **_given(values),
    )
    more = read_settings(values["more_settings"], elsewhere=_plain_inputs())
    _require_once({line.name: line for line in more}, values, window)
    config = with_settings(config, more)
    side = min(family.side, memory.side or family.side)
    rank = values["rank"] or memory.rank
    checkpointing = values["checkpointing"]
    return TrainerSettings(
        train=config,
        width=_side("width", values["width"] or side),
        height=_side("height", values["height"] or side),
        cfg=_cfg(family, values),
        guidance=values["guidance"] if values["guidance"] >= 0 else family.guidance,
        model_shift=config.shift is None,
        rank=rank,
        alpha=values["alpha"] or 2.0 * rank,
        checkpointing=memory.checkpointing if checkpointing == FROM_PRESET else checkpointing == ON,
    )


def _plain_inputs() -> list[str]:
    """Inputs that are plain settings of the core."""
    return [item.id for item in _numbers_and_choices() if item.id in TOLD and not isinstance(item, io.Combo.Input)]


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are set by hand, but for those that are made of several inputs."""
    given = {name: values[name] for name in _plain_inputs() if values[name] != unset(name) and name != "seed"}
    if values["ema"] == 0:
        given["ema"] = None
    if values["shared_noise"] != FROM_PRESET:
        given["shared_noise"] = values["shared_noise"] == ON
    if values["tail_solver"] != FROM_PRESET:
        given["tail_solver"] = choices(Solver)[values["tail_solver"]]()
    if values["guards"] != FROM_PRESET:
        given["guards"] = GUARDS[values["guards"]]
    return given


def _planner(preset: Planner, values: Mapping[str, Any], window: Window | None) -> Planner:
    planner = preset if window is None else with_window(preset, window)
    if not values["tail_ratio"]:
        return planner
    if not isinstance(planner, WindowPlanner):
        raise ValueError(
            f"the tail ratio shortens the steps after a window, and {values['preset']} has none: connect a window or "
            "set it to 0"
        )
    return replace(planner, tail_ratio=values["tail_ratio"])


def _kernel(preset: Kernel, choice: str, eta: float) -> Kernel:
    kernel = preset if choice == FROM_PRESET else choices(Kernel)[choice]()
    return replace(kernel, eta=eta) if eta else kernel


def _objective(preset: Objective, values: Mapping[str, Any]) -> Objective:
    """The chosen objective with the inputs that are settings of it; the preset's KL goes along where it has none."""
    objective = preset if values["objective"] == FROM_PRESET else choices(Objective)[values["objective"]]()
    known = {item.name for item in fields_of(objective)}
    if objective is not preset and getattr(objective, "kl", None) == 0:
        objective = changed(objective, {"kl": getattr(preset, "kl", 0.0)})
    defaults = _defaults()
    given = {name: values[name] for name in _OF_OBJECTIVES if values[name] != defaults[name]}
    for name in given.keys() - known:
        raise ValueError(
            f"{name} is no setting of {type(objective).__name__}: set it to {defaults[name]:g}, or choose another "
            "objective"
        )
    return changed(objective, given)


def _require_once(more: Mapping[str, Line], values: Mapping[str, Any], window: Window | None) -> None:
    """Raise ``ValueError`` for a setting that is both an input, set by hand, and a line of more_settings."""
    set_by_hand = {name for name, default in _defaults().items() if values[name] != default}
    for name, inputs in _MADE_OF.items():
        found = sorted(set_by_hand & {*inputs})
        if name == "planner" and window is not None:
            found.append("window")
        if name in more and found:
            raise ValueError(
                f"line {more[name].number} of more_settings sets {name}, and so does the input {found[0]}: take one out"
            )


def _cfg(family: Family, values: Mapping[str, Any]) -> float:
    cfg = values["cfg"] or family.cfg
    if cfg < 1:
        raise ValueError(f"CFG is 1 (off) or more, found {cfg:g}")
    if cfg > 1 and family.distilled:
        raise ValueError(
            f"{values['model_family']} has its guidance distilled into it and makes worse images with CFG: set cfg to "
            "1 (or 0, from the preset). For a variant that wants CFG choose the family 'other flow model'"
        )
    return cfg


def _side(name: str, pixels: int) -> int:
    if pixels % _UNIT:
        near = round(pixels / _UNIT) * _UNIT
        raise ValueError(f"{name} must be a multiple of {_UNIT} pixels, found {pixels}: take {near}")
    return pixels


def summary(settings: TrainerSettings, values: Mapping[str, Any]) -> str:
    """What the settings come to, a line per subject."""
    train = settings.train
    guided = f"CFG {settings.cfg:g}" + ("" if settings.guidance is None else f", guidance {settings.guidance:g}")
    shift = "the model's own grid" if train.shift is None else f"shift {train.shift:g}"
    average = "" if train.ema is None else f", averaged with decay {train.ema:g}"
    images = train.images_per_prompt * train.prompts_per_iteration
    many = "until it is stopped, iterations" if train.endless else f"{train.iterations} iterations"
    return "\n".join(
        (
            f"{values['preset']} on {values['model_family']}, memory: {values['memory']}",
            f"{settings.width} x {settings.height} pixels, {train.steps} steps, {shift}, {guided}",
            f"{many} of {images} images: {train.images_per_prompt} of each of {train.prompts_per_iteration} prompts",
            f"which steps are trained: {spell(train.planner)}",
            f"noise: {spell(train.kernel)}, after the window: {spell(train.tail_solver)}",
            f"credit: {', '.join(map(spell, train.credit))}",
            f"learning: {spell(train.objective)}, rate {train.learning_rate:g}, {train.updates} updates per "
            f"iteration{average}",
            f"LoRA of rank {settings.rank}, alpha {settings.alpha:g}",
            f"at once: {train.rollout_batch} images sampled, {train.decode_batch} decoded, {train.update_batch} "
            f"trained; gradient checkpointing {'on' if settings.checkpointing else 'off'}",
        )
    )
