"""What travels on the wires between the nodes of this pack."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..mixgrpo_core import TrainConfig
from ..mixgrpo_core.advantages import Credit
from ..mixgrpo_core.models.lora_layers import USUAL, Layers
from ..mixgrpo_core.rewards.port import Reward
from ..mixgrpo_core.rewards.taste.reward import unattended
from ..mixgrpo_core.sampling.windows import Window

WindowSocket = io.Custom("MIXGRPO_WINDOW")
"""Carries a ``Window`` of the core."""

SettingsSocket = io.Custom("MIXGRPO_SETTINGS")
"""Carries ``TrainerSettings``, or ``OpenSettings`` where they wait for the MODEL."""

PromptsSocket = io.Custom("MIXGRPO_PROMPTS")
"""Carries a ``PromptSet``."""

RewardSocket = io.Custom("MIXGRPO_REWARD")
"""Carries ``Rewards``: one or more rewards by name."""

TeacherSocket = io.Custom("MIXGRPO_TEACHER")
"""Carries a ``LoraTeacher`` of `nodes.loras.teacher`."""


@dataclass(frozen=True, kw_only=True)
class Rewards:
    """Rewards by name, and the weight of each in the advantage; weight 0 is scored on held-out images only.

    ``credit`` makes advantages of their scores; None leaves that to the settings.
    """

    rewards: Mapping[str, Reward]
    weights: Mapping[str, float]
    credit: Credit | None = None

    @property
    def unattended(self) -> dict[str, Reward]:
        """Those that score any image: people are asked about images of a training only."""
        return unattended(self.rewards)


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """A run's settings: the core's, and what belongs to the model on the canvas.

    Attributes:
        train: the core's settings; their ``shift`` is replaced by the model's own where ``model_shift`` is set.
        width, height: pixels of the images.
        cfg: classifier-free guidance scale; 1 is off.
        guidance: guidance that a distilled model (FLUX.1-dev) takes as an input; None leaves it to the model.
        model_shift: take the timestep shift of the loaded model.
        rank, alpha: of the LoRA.
        checkpointing: compute the blocks' activations again in the backward pass.
        layers: which layers of the blocks carry the LoRA.
        family: the family of models that they are for, by its name on the canvas; empty for any.
    """

    train: TrainConfig
    width: int = 512
    height: int = 512
    cfg: float = 1.0
    guidance: float | None = None
    model_shift: bool = True
    rank: int = 32
    alpha: float = 64.0
    checkpointing: bool = True
    layers: Layers = USUAL
    family: str = ""


@dataclass(frozen=True, kw_only=True)
class OpenSettings:
    """Settings whose family of models is that of the MODEL: what they were made of, until a MODEL is there.

    Attributes:
        values: of the inputs of Trainer Settings.
        window: the one that replaces the preset's.
    """

    values: Mapping[str, Any]
    window: Window | None


def weight_input() -> io.Input:
    """The weight that every reward node has."""
    return io.Float.Input(
        "weight",
        default=1.0,
        min=0.0,
        max=1000.0,
        step=0.05,
        tooltip="How much this reward counts beside others. 0: it is not trained on, only watched on held-out prompts.",
    )


def reward_output() -> io.Output:
    """The output that every reward node has."""
    return RewardSocket.Output(display_name="reward", tooltip="For the trainer or Combine Rewards.")


def lora_outputs(grid: str, made: str = "trained") -> list[io.Output]:
    """What every node that makes a LoRA gives first; ``grid`` says what its pictures show."""
    return [
        io.Model.Output(display_name="model", tooltip=f"The model with the {made} LoRA."),
        io.LoraModel.Output(display_name="lora", tooltip="The LoRA, for Save LoRA and Compare LoRA."),
        io.Image.Output(display_name="grid", tooltip=grid),
    ]


def one_reward(name: str, reward: Reward, weight: float) -> io.NodeOutput:
    """What a node of one reward gives."""
    return io.NodeOutput(Rewards(rewards={name: reward}, weights={name: weight}))


class LoraWeights(dict[str, Tensor]):
    """A LoRA on ComfyUI's own wire for them: the tensors of a file by name, and the words of its header.

    Attributes:
        card: the model card of the run that it comes from.
    """

    def __init__(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        super().__init__(tensors)
        self.metadata = dict(metadata)
        self.card: Path | None = None


def workflow_note(extra: object) -> dict[str, str]:
    """The workflow of the queued prompt (``extra_pnginfo``) for the header of a LoRA file."""
    workflow = extra.get("workflow") if isinstance(extra, Mapping) else None
    return {"workflow": json.dumps(workflow)} if workflow else {}


__all__ = [
    "LoraWeights",
    "OpenSettings",
    "PromptsSocket",
    "RewardSocket",
    "Rewards",
    "SettingsSocket",
    "TeacherSocket",
    "TrainerSettings",
    "Window",
    "WindowSocket",
    "lora_outputs",
    "one_reward",
    "reward_output",
    "weight_input",
    "workflow_note",
]
