"""The node that makes a run's settings out of a preset, a model family and the memory there is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ...mixgrpo_core import GRPO, FrozenWindow, GuardGRPO
from ...mixgrpo_core.objectives.port import Objective
from ...mixgrpo_core.sampling.kernels import Kernel
from ...mixgrpo_core.sampling.planners import WindowPlanner
from ...mixgrpo_core.sampling.windows import Window
from ...mixgrpo_core.support.spelling import spell
from ..checks import require_in_range, require_wires
from ..sockets import SettingsSocket, TrainerSettings
from .inputs import BY_HAND, FROM_PRESET, GUARDS, KERNELS, OBJECTIVES, ON, TAIL_SOLVERS, detail_inputs, settings_inputs
from .presets import FAMILIES, Family, local_config, memory_of, with_window

_UNIT = 16  # pixels per token side of the models at hand

_ZERO_IS_PRESET = (
    *("iterations", "images_per_prompt", "prompts_per_iteration", "learning_rate", "steps", "shift", "updates"),
    *("epochs", "max_grad_norm", "rollout_batch", "decode_batch", "update_batch", "eval_images", "eval_steps"),
    *("checkpoint_every", "keep"),
)
_MINUS_IS_PRESET = ("weight_decay", "ema", "spread_floor", "eval_every")


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
        try:
            require_wires(cls.define_schema().inputs, wired)
            values = flat(values)
            require_in_range(_numbers_and_choices(), values)
            if wired.keys() <= {"window"}:
                build(
                    with_defaults(values), FrozenWindow(size=1) if wired else None
                )  # the window's own fit shows when it is there
        except ValueError as error:
            return str(error)
        return True

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
    return {**{item.id: item.default for item in _numbers_and_choices()}, **values}


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
    config = local_config(values["preset"], family, memory)
    given = {name: values[name] for name in _ZERO_IS_PRESET if values[name] != 0}
    given |= {name: values[name] for name in _MINUS_IS_PRESET if values[name] >= 0}
    planner = config.planner if window is None else with_window(config.planner, window)
    if values["tail_ratio"]:
        if not isinstance(planner, WindowPlanner):
            raise ValueError(
                f"the tail ratio shortens the steps after a window, and {values['preset']} has none: connect a "
                "window or set it to 0"
            )
        planner = replace(planner, tail_ratio=values["tail_ratio"])
    if values["shared_noise"] != FROM_PRESET:
        given["shared_noise"] = values["shared_noise"] == ON
    if values["tail_solver"] != FROM_PRESET:
        given["tail_solver"] = TAIL_SOLVERS[values["tail_solver"]]()
    if values["guards"] != FROM_PRESET:
        given["guards"] = GUARDS[values["guards"]]
    config = replace(
        config,
        seed=values["seed"],
        planner=planner,
        kernel=_kernel(config.kernel, values["kernel"], values["eta"]),
        objective=_objective(config.objective, values),
        **given,
    )
    side = min(family.side, memory.side or family.side)
    rank = values["rank"] or memory.rank
    checkpointing = values["checkpointing"]
    return TrainerSettings(
        train=config,
        width=_side("width", values["width"] or side),
        height=_side("height", values["height"] or side),
        cfg=_cfg(family, values),
        guidance=values["guidance"] if values["guidance"] >= 0 else family.guidance,
        model_shift=values["shift"] == 0,
        rank=rank,
        alpha=values["alpha"] or 2.0 * rank,
        checkpointing=memory.checkpointing if checkpointing == FROM_PRESET else checkpointing == ON,
    )


def _kernel(preset: Kernel, choice: str, eta: float) -> Kernel:
    kernel = preset if choice == FROM_PRESET else KERNELS[choice]()
    return replace(kernel, eta=eta) if eta else kernel


def _objective(preset: GRPO | GuardGRPO, values: Mapping[str, Any]) -> Objective:
    objective = preset if values["objective"] == FROM_PRESET else OBJECTIVES[values["objective"]](kl=preset.kl)
    return replace(
        objective,
        clip=values["clip"] or objective.clip,
        adv_clip=values["adv_clip"] or objective.adv_clip,
        kl=values["kl"] if values["kl"] >= 0 else objective.kl,
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
    shift = "the model's own shift" if settings.model_shift else f"shift {train.shift:g}"
    average = "" if train.ema is None else f", averaged with decay {train.ema:g}"
    images = train.images_per_prompt * train.prompts_per_iteration
    return "\n".join(
        (
            f"{values['preset']} on {values['model_family']}, memory: {values['memory']}",
            f"{settings.width} x {settings.height} pixels, {train.steps} steps, {shift}, {guided}",
            f"{train.iterations} iterations of {images} images: {train.images_per_prompt} of each of "
            f"{train.prompts_per_iteration} prompts",
            f"which steps are trained: {spell(train.planner)}",
            f"noise: {spell(train.kernel)}, after the window: {spell(train.tail_solver)}",
            f"learning: {spell(train.objective)}, rate {train.learning_rate:g}, {train.updates} updates per "
            f"iteration{average}",
            f"LoRA of rank {settings.rank}, alpha {settings.alpha:g}",
            f"at once: {train.rollout_batch} images sampled, {train.decode_batch} decoded, {train.update_batch} "
            f"trained; gradient checkpointing {'on' if settings.checkpointing else 'off'}",
        )
    )
