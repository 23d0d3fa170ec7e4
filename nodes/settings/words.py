"""What settings come to, in words."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...mixgrpo_core.objectives.own_step import AUTO as OWN_RATE
from ...mixgrpo_core.support.spelling import spell
from ..sockets import TrainerSettings
from .presets import AUTO


def summary(settings: Sequence[TrainerSettings], values: Mapping[str, Any]) -> str:
    """A line per subject; what the MODEL decides among several ``settings`` is said to be the model's."""

    def said(subject: str, of: Callable[[TrainerSettings], str]) -> str:
        words = {of(one) for one in settings}
        return words.pop() if len(words) == 1 else f"{subject} as the model's family has it"

    family = values["model_family"]
    if family == AUTO:
        family = settings[0].family if len(settings) == 1 else "the family that is read from the MODEL"
    return "\n".join(
        (
            f"{values['preset']} on {family}, memory: {values['memory']}",
            ", ".join(
                (
                    said("size", lambda of: f"{of.width} x {of.height} pixels"),
                    said("steps", lambda of: f"{of.train.steps} steps"),
                    said("grid", _shift),
                    said("guidance", _guided),
                )
            ),
            f"{said('iterations', _many)} of {said('images', _images)}",
            f"which steps are trained: {said('window', lambda of: spell(of.train.planner))}",
            f"noise: {said('kernel', lambda of: spell(of.train.kernel))}, after the window: "
            + said("solver", lambda of: spell(of.train.tail_solver)),
            f"credit: {said('stages', lambda of: ', '.join(map(spell, of.train.credit)))}",
            f"learning: {said('objective', _learning)}, {said('updates', _updates)}",
            said("LoRA", lambda of: f"LoRA of rank {of.rank}, alpha {of.alpha:g}, on {of.layers} layers"),
            said("batches", _batches),
        )
    )


def _shift(of: TrainerSettings) -> str:
    return "the model's own grid" if of.train.shift is None else f"shift {of.train.shift:g}"


def _guided(of: TrainerSettings) -> str:
    return f"CFG {of.cfg:g}" + ("" if of.guidance is None else f", guidance {of.guidance:g}")


def _many(of: TrainerSettings) -> str:
    return "until it is stopped, iterations" if of.train.endless else f"{of.train.iterations} iterations"


def _images(of: TrainerSettings) -> str:
    train = of.train
    images = train.images_per_prompt * train.prompts_per_iteration
    return f"{images} images: {train.images_per_prompt} of each of {train.prompts_per_iteration} prompts"


def _learning(of: TrainerSettings) -> str:
    rate = of.train.learning_rate
    return f"{spell(of.train.objective)}, " + ("a rate that sets itself" if rate == OWN_RATE else f"rate {rate}")


def _updates(of: TrainerSettings) -> str:
    average = "" if of.train.ema is None else f", averaged with decay {of.train.ema:g}"
    return f"{of.train.update_count} updates per iteration{average}"


def _batches(of: TrainerSettings) -> str:
    train = of.train
    return (
        f"at once: {train.rollout_batch} images sampled, {train.decode_batch} decoded, {train.update_batch} trained; "
        f"gradient checkpointing {'on' if of.checkpointing else 'off'}"
    )
