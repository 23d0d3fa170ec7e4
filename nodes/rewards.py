"""Rewards as nodes: those of the demo model, those of plain pixels, and their combination."""

from collections.abc import Mapping
from types import MappingProxyType

from comfy_api.latest import io

from ..mixgrpo_core.reward import Reward
from ..mixgrpo_core.rewards import PixelReward, ShapeAdherence, ShapeCleanliness, ShapeReward
from ..mixgrpo_core.rewards.pixels import (
    Brightness,
    Colourfulness,
    Contrast,
    Goal,
    JpegSize,
    Less,
    Measure,
    More,
    Near,
    Saturation,
    Sharpness,
    Symmetry,
    Tileability,
)
from .checks import require_in_range
from .sockets import Rewards, RewardSocket

WITH_CHECKS = "drawing, with both checks"
DEMO: Mapping[str, Mapping[str, Reward]] = MappingProxyType(
    {
        WITH_CHECKS: {"shape": ShapeReward(), "adherence": ShapeAdherence(), "clean": ShapeCleanliness()},
        "drawing": {"shape": ShapeReward()},
        "right or wrong": {"adherence": ShapeAdherence()},
        "clean or not": {"clean": ShapeCleanliness()},
    }
)

MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "brightness": Brightness(),
        "contrast": Contrast(),
        "saturation": Saturation(),
        "colourfulness": Colourfulness(),
        "sharpness": Sharpness(),
        "symmetry": Symmetry(),
        "tileability": Tileability(),
        "JPEG size": JpegSize(),
    }
)
UNITS: Mapping[str, str] = MappingProxyType(
    {
        "brightness": "0 black, 1 white",
        "contrast": "0 flat, 0.5 black and white",
        "saturation": "0 grey, 1 pure colours",
        "colourfulness": "0 grey, 33 moderate, 59 quite colourful, 109 extreme",
        "sharpness": "a soft image has below 100, a crisp one 1000",
        "symmetry": "1 equals its mirror image",
        "tileability": "1 has no seam",
        "JPEG size": "bits per pixel, 1 to 8",
    }
)
GOALS = ("more", "less", "near the target")
MOST_REWARDS = 20


class DemoRewardNode(io.ComfyNode):
    """Rewards of the demo model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_DemoReward",
            display_name="Demo Reward",
            category="MixGRPO/rewards",
            description=(
                "Scores the drawings of the demo model: is it the shape and the colour that the caption asks for, in "
                "one piece? It reads only the captions of the demo model."
            ),
            search_aliases=["mixgrpo reward", "shapes reward", "score"],
            inputs=[
                io.Combo.Input(
                    "measure",
                    options=list(DEMO),
                    default=WITH_CHECKS,
                    tooltip="'drawing' is graded and what a run learns from; 'right or wrong' asks for shape and "
                    "colour, 'clean or not' for one whole figure. 'drawing, with both checks' trains on the first and "
                    "shows the two others on held-out prompts: a drawing reward that rises while 'clean' falls is "
                    "cheating.",
                ),
                _weight(),
            ],
            outputs=[RewardSocket.Output(display_name="reward", tooltip="For the trainer or Combine Rewards.")],
        )

    @classmethod
    def execute(cls, measure, weight) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"measure": measure, "weight": weight})
        rewards = DEMO[measure]
        first = next(iter(rewards))
        return io.NodeOutput(Rewards(rewards=rewards, weights={name: weight * (name == first) for name in rewards}))


class PixelRewardNode(io.ComfyNode):
    """A reward that measures pixels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        units = "; ".join(f"{name}: {unit}" for name, unit in UNITS.items())
        return io.Schema(
            node_id="MixGRPO_PixelReward",
            display_name="Pixel Reward",
            category="MixGRPO/rewards",
            description=(
                "Rewards a plain property of the image: brightness, contrast, colour, sharpness, symmetry, tiling, "
                "detail. Needs no download. Each is easily overdone: ask for 'near the target', or combine it with "
                "other rewards."
            ),
            search_aliases=["mixgrpo reward", "brightness reward", "sharpness", "colorfulness", "aesthetic", "score"],
            inputs=[
                io.Combo.Input("measure", options=list(MEASURES), default="colourfulness", tooltip="What is measured."),
                io.Combo.Input(
                    "goal",
                    options=list(GOALS),
                    default=GOALS[0],
                    tooltip="More of it, less of it, or as near as possible to the target.",
                ),
                io.Float.Input(
                    "target",
                    default=0.5,
                    min=0.0,
                    max=100_000.0,
                    step=0.01,
                    tooltip=f"How much is wanted, where the goal is 'near the target'. {units}.",
                ),
                _weight(),
            ],
            outputs=[RewardSocket.Output(display_name="reward", tooltip="For the trainer or Combine Rewards.")],
        )

    @classmethod
    def execute(cls, measure, goal, target, weight) -> io.NodeOutput:
        values = {"measure": measure, "goal": goal, "target": target, "weight": weight}
        require_in_range(cls.define_schema().inputs, values)
        goals: Mapping[str, Goal] = dict(zip(GOALS, (More(), Less(), Near(target)), strict=True))
        name = measure if goal == GOALS[0] else f"{measure} ({goal if goal == GOALS[1] else f'near {target:g}'})"
        return io.NodeOutput(
            Rewards(rewards={name: PixelReward(MEASURES[measure], goals[goal])}, weights={name: weight})
        )


class CombineRewardsNode(io.ComfyNode):
    """Several rewards as one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        one = RewardSocket.Input("reward", tooltip="A reward; another slot appears when this one is connected.")
        return io.Schema(
            node_id="MixGRPO_CombineRewards",
            display_name="Combine Rewards",
            category="MixGRPO/rewards",
            description=(
                "Trains on several rewards at once. Each is brought to the same scale within the images of a prompt, "
                "then weighed by the weight of its own node; a reward of weight 0 is only watched."
            ),
            search_aliases=["mixgrpo rewards", "multi reward", "mix rewards", "weights"],
            inputs=[
                io.Autogrow.Input(
                    "rewards",
                    template=io.Autogrow.TemplatePrefix(input=one, prefix="reward", min=1, max=MOST_REWARDS),
                    tooltip="As many rewards as you like.",
                )
            ],
            outputs=[RewardSocket.Output(display_name="rewards", tooltip="For the trainer.")],
        )

    @classmethod
    def execute(cls, rewards: io.Autogrow.Type) -> io.NodeOutput:
        return io.NodeOutput(combined(rewards))


def combined(parts: Mapping[str, Rewards]) -> Rewards:
    """All rewards of ``parts`` in order; the second of a name is called "name 2".

    Raises:
        ValueError: there are none, or all have weight 0.
    """
    rewards: dict[str, Reward] = {}
    weights: dict[str, float] = {}
    for part in parts.values():
        for name, reward in part.rewards.items() if part is not None else ():
            free = _free_name(name, rewards)
            rewards[free], weights[free] = reward, part.weights[name]
    if not rewards:
        raise ValueError("expected at least one reward, found none: connect a reward node")
    if not any(weights.values()):
        raise ValueError("every reward has weight 0: give at least one a weight above 0 to train on")
    return Rewards(rewards=rewards, weights=weights)


def _free_name(name: str, taken: Mapping[str, Reward]) -> str:
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name} {number}"
    return found


def _weight() -> io.Input:
    return io.Float.Input(
        "weight",
        default=1.0,
        min=0.0,
        max=1000.0,
        step=0.05,
        tooltip="How much this reward counts beside others. 0: it is not trained on, only watched on held-out prompts.",
    )
