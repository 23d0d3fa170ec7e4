"""Rewards brought to another scale, and rewards under a condition."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TypedDict

from comfy_api.latest import io

from ...mixgrpo_core.rewards.port import Reward
from ...mixgrpo_core.rewards.wrappers.gates import Gated, Penalised
from ...mixgrpo_core.rewards.wrappers.transforms import Affine, Clip, Rank, RunningZ, Sigmoid, Transform, Transformed
from ..checks import require_chosen, require_in_range, require_wires
from ..sockets import RewardSocket, reward_output

RANK, RUNNING, AFFINE, CLIP, SIGMOID = "rank", "running z-score", "scale and shift", "clip", "sigmoid"
LEAST, MOST = "at least", "at most"
MASK, PENALISE = "do not count", "score less"
_FAR = 1e6


class RewardTransform(io.ComfyNode):
    """A reward on another scale."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_RewardTransform",
            display_name="Reward Transform",
            category="MixGRPO/rewards",
            description=(
                "Brings the scores of a reward to another scale. Needed where rewards are summed; with MixGRPO's way "
                "of combining, each is normalised anyway, and only rank, clip and sigmoid change what is learned."
            ),
            search_aliases=["mixgrpo reward", "normalise reward", "z-score", "clip reward", "rank reward"],
            inputs=[
                RewardSocket.Input("reward", tooltip="The reward."),
                _transforms(),
            ],
            outputs=[reward_output()],
        )

    @classmethod
    def validate_inputs(cls, input_types: Mapping[str, str] | None = None, **values) -> bool | str:
        wired = input_types or {}
        try:
            require_wires(cls.define_schema().inputs, wired)
            chosen = values.get("transform") or _Chosen(transform=None)
            require_chosen(_transforms(), chosen)
            if None not in chosen.values():  # the host says what is missing; what comes by wire is not known yet
                _transform(chosen)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, reward, transform) -> io.NodeOutput:
        change = _transform(transform)
        rewards = {
            name: Transformed(one, change) if reward.weights[name] > 0 else one for name, one in reward.rewards.items()
        }
        return io.NodeOutput(replace(reward, rewards=rewards))


class RewardGate(io.ComfyNode):
    """A reward under the condition of another one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_RewardGate",
            display_name="Reward Gate",
            category="MixGRPO/rewards",
            description=(
                "Lets a reward count only where another one, the gate, is within bounds: prettier images, but only of "
                "those that show the prompt. Out of bounds an image does not count, or scores less."
            ),
            search_aliases=["mixgrpo reward", "nsfw gate", "penalty", "constraint", "threshold"],
            inputs=[
                RewardSocket.Input("reward", tooltip="What is rewarded."),
                RewardSocket.Input("gate", tooltip="The condition: a single reward; its weight does not matter."),
                io.Combo.Input("bound", options=[LEAST, MOST], default=LEAST, tooltip="Where the gate is open."),
                _number("value", 0.5, "The bound, in the gate's own units: Score Images shows them."),
                io.Combo.Input(
                    "otherwise",
                    options=[MASK, PENALISE],
                    default=PENALISE,
                    tooltip="What happens to other images. 'do not count' takes them out of the group, so nothing "
                    "pushes the model away from them; 'score less' does.",
                ),
                _number("penalty", 1.0, "How much less, in units of the reward."),
            ],
            outputs=[reward_output()],
        )

    @classmethod
    def execute(cls, reward, gate, bound, value, otherwise, penalty) -> io.NodeOutput:
        values = {"bound": bound, "value": value, "otherwise": otherwise, "penalty": penalty}
        require_in_range(cls.define_schema().inputs, values)
        if len(gate.rewards) != 1:
            raise ValueError(f"expected a gate of one reward, found {', '.join(gate.rewards)}: connect only one")
        [by] = gate.rewards.values()
        bounds = {"least": value} if bound == LEAST else {"most": value}

        def gated(one: Reward) -> Reward:
            return Gated(one, by, **bounds) if otherwise == MASK else Penalised(one, by, **bounds, penalty=penalty)

        rewards = {name: gated(one) if reward.weights[name] > 0 else one for name, one in reward.rewards.items()}
        return io.NodeOutput(replace(reward, rewards=rewards))


def _transforms() -> io.DynamicCombo.Input:
    return io.DynamicCombo.Input(
        "transform",
        options=[
            io.DynamicCombo.Option(RANK, []),
            io.DynamicCombo.Option(RUNNING, []),
            io.DynamicCombo.Option(
                AFFINE, [_number("scale", 1.0, "Factor; below 0 it rewards what was punished."), _shift()]
            ),
            io.DynamicCombo.Option(
                CLIP,
                [
                    _number("low", 0.0, "Lower scores count as this one."),
                    _number("high", 1.0, "Higher scores count as this one."),
                ],
            ),
            io.DynamicCombo.Option(
                SIGMOID,
                [
                    _number("centre", 0.0, "Where it is steepest."),
                    _number("width", 1.0, "How far from there it is nearly flat."),
                ],
            ),
        ],
        tooltip="rank: the place in the group, whatever the distances. running z-score: by mean and "
        "spread of the scores so far. clip: no gain beyond a score that is good enough.",
    )


class _Chosen(TypedDict, total=False):
    """A transform by its name, and the numbers that it has."""

    transform: str | None
    scale: float
    shift: float
    low: float
    high: float
    centre: float
    width: float


def _transform(values: _Chosen) -> Transform:
    kind = values["transform"]
    if kind == RANK:
        return Rank()
    if kind == RUNNING:
        return RunningZ()
    if kind == AFFINE:
        return Affine(scale=values["scale"], shift=values["shift"])
    if kind == CLIP:
        if not values["low"] < values["high"]:
            raise ValueError(f"high lies above low, found {values['high']:g} and {values['low']:g}")
        return Clip(low=values["low"], high=values["high"])
    if kind == SIGMOID:
        if not 0 < values["width"] < math.inf:
            raise ValueError(f"width lies above 0 and is finite, found {values['width']}")
        return Sigmoid(centre=values["centre"], scale=values["width"])
    raise ValueError(f"transform: expected one of {RANK}, {RUNNING}, {AFFINE}, {CLIP}, {SIGMOID}, found {kind!r}")


def _number(name: str, default: float, tooltip: str) -> io.Input:
    return io.Float.Input(name, default=default, min=-_FAR, max=_FAR, step=0.01, tooltip=tooltip)


def _shift() -> io.Input:
    return _number("shift", 0.0, "Added after the factor.")
