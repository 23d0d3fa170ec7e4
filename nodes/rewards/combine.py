"""Rewards as nodes: those of the demo model, and the combination of several."""

from collections.abc import Mapping
from types import MappingProxyType

from comfy_api.latest import io

from ...mixgrpo_core.advantages.combine import BatchNormalised, Credit, WeightedAdvantages, WeightedRewards
from ...mixgrpo_core.rewards import ShapeAdherence, ShapeCleanliness, ShapeReward
from ...mixgrpo_core.rewards.port import Reward
from ..checks import require_in_range
from ..sockets import Rewards, RewardSocket, reward_output, weight_input

WITH_CHECKS = "drawing, with both checks"
DEMO: Mapping[str, Mapping[str, Reward]] = MappingProxyType(
    {
        WITH_CHECKS: {"shape": ShapeReward(), "adherence": ShapeAdherence(), "clean": ShapeCleanliness()},
        "drawing": {"shape": ShapeReward()},
        "right or wrong": {"adherence": ShapeAdherence()},
        "clean or not": {"clean": ShapeCleanliness()},
    }
)

COMBINATIONS: Mapping[str, Credit] = MappingProxyType(
    {
        "each on the same scale": WeightedAdvantages(),
        "sum of scores": WeightedRewards(),
        "balanced over prompts": BatchNormalised(),
    }
)
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
                weight_input(),
            ],
            outputs=[reward_output()],
        )

    @classmethod
    def execute(cls, measure, weight) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"measure": measure, "weight": weight})
        rewards = DEMO[measure]
        first = next(iter(rewards))
        return io.NodeOutput(Rewards(rewards=rewards, weights={name: weight * (name == first) for name in rewards}))


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
                "Trains on several rewards at once, each weighed by the weight of its own node; a reward of weight 0 "
                "is only watched."
            ),
            search_aliases=["mixgrpo rewards", "multi reward", "mix rewards", "weights"],
            inputs=[
                io.Autogrow.Input(
                    "rewards",
                    template=io.Autogrow.TemplatePrefix(input=one, prefix="reward", min=1, max=MOST_REWARDS),
                    tooltip="As many rewards as you like.",
                ),
                io.Combo.Input(
                    "how",
                    options=list(COMBINATIONS),
                    default=next(iter(COMBINATIONS)),
                    optional=True,
                    tooltip="'each on the same scale' is MixGRPO's way: what counts is which image of a prompt is "
                    "better, not by how much. 'sum of scores' keeps the rewards' own scales (see Reward Transform). "
                    "'balanced over prompts' keeps the signal strong where rewards disagree (GDPO).",
                ),
            ],
            outputs=[RewardSocket.Output(display_name="rewards", tooltip="For the trainer.")],
        )

    @classmethod
    def execute(cls, rewards: io.Autogrow.Type, how: str | None = None) -> io.NodeOutput:
        how = how or next(iter(COMBINATIONS))
        require_in_range(cls.define_schema().inputs, {"how": how})
        return io.NodeOutput(combined(rewards, COMBINATIONS[how]))


def combined(parts: Mapping[str, Rewards], credit: Credit | None = None) -> Rewards:
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
    return Rewards(rewards=rewards, weights=weights, credit=credit)


def _free_name(name: str, taken: Mapping[str, Reward]) -> str:
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name} {number}"
    return found
