"""What is proven of a pipeline before a run, on one image: that what a training would learn from it is right.

the pictures have the size that was asked for, and finite numbers
a velocity asks the network as often as its guidance says
velocity and gradient are what `models.proof` asks of every home
"""

import torch
from torch import Tensor

from ..port import Velocity
from ..proof import SIGMA, Proof
from .model import PipelineModel


def prove(model: PipelineModel) -> None:
    """Raise ``ValueError``, in one sentence, where a model fails. Its LoRA is as before.

    The prompts are drawn embeddings: text encoders are proven when they read the prompts of a run.
    """
    x, checkpointing, evaluations = model.noise(0, 1), model.checkpointing, model.evaluations
    _require_pictures(model, x)
    conds = [model.drawn(torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    try:
        model.checkpointing = True  # one image then fits wherever a training does
        model.run(conds, lambda velocity: _prove_velocity(model, velocity, x))
    finally:
        model.checkpointing, model.evaluations = checkpointing, evaluations
        for parameter in model.parameters():
            parameter.grad = None


def _require_pictures(model: PipelineModel, x: Tensor) -> None:
    images = model.decode(x)
    size = tuple(images.shape[-3:-1])
    if size != model.resolution:
        raise ValueError(
            f"expected images of {model.resolution[0]} x {model.resolution[1]} out of the autoencoder of "
            f"{model.family.name}, found {size[0]} x {size[1]}: it is another model's, get the folder again"
        )
    if not bool(images.isfinite().all()):
        raise ValueError(f"expected numbers out of the autoencoder of {model.family.name}, found NaN: get it again")


def _prove_velocity(model: PipelineModel, velocity: Velocity, x: Tensor) -> None:
    name, begun, asked = model.family.name, model.evaluations, 2 if model.guided else 1
    with torch.no_grad():
        velocity(x, torch.tensor(SIGMA))
    if model.evaluations - begun != asked:
        raise ValueError(
            f"expected {asked} evaluations for a velocity of {name}, found {model.evaluations - begun}: its "
            "guidance is not what was asked for"
        )
    Proof(model=model, name=name, low_precision=model.low_precision, velocity=velocity, x=x, prompts=2).whole()
