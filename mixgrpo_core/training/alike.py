"""What must be the same on all ranks of a run: when it begins, and after every iteration."""

import json
from hashlib import blake2b

import torch

from ..models.port import FlowModel
from ..runs.checkpoint import TrainState
from ..runs.packing import Packer
from ..settings.config import TrainConfig, to_dict
from ..support.digests import sampled_digest


def at_the_start(model: FlowModel, config: TrainConfig, prompts: int, rewards: list[str]) -> dict[str, object]:
    """By name. ``prompts`` is the digest of the texts, ``rewards`` are names."""
    settings = {f"the setting {name}": value for name, value in to_dict(config).items()}
    shapes = [(name, list(tensor.shape)) for name, tensor in model.lora_state().items()]
    return {
        "the version of torch": torch.__version__,
        **settings,
        "the list of prompts": f"{prompts:x}",
        "the list of rewards": rewards,
        "the model": model.digest,
        "the shape of the LoRA": _digest(shapes),
    }


def after_an_iteration(state: TrainState) -> dict[str, object]:
    """By name."""
    packer = Packer()
    remembered = packer.pack("rewards", {name: reward.state_dict() for name, reward in state.rewards.items()})
    return {
        "what rewards remember": f"{_digest(remembered)} {sampled_digest(packer.tensors.items())}",
        "what guards and sources of prompts remember": _digest(state.notes),
        "the LoRA": sampled_digest(state.model.lora_state().items()),
    }


START = "start all of them from the same files and settings, with the same versions"
AFTER = (
    "what depends on the process - a reward that draws random numbers, or that begins to remember - must not decide on "
    "the training. The last whole iteration is kept"
)


def _digest(values: object) -> str:
    return blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8).hexdigest()
