"""What is proven of a model before a run, on one image: that what a training would learn from it is right.

    the pictures have the size that was asked for, and finite numbers
    the same velocity twice, and with a gradient as without up to rounding: the first ratio is then 1
    two prompts give two velocities
    a gradient reaches the LoRA, and is the slope of the loss along itself, by differences

A network may let through a gradient that is wrong without a word (experts that infer under ``no_grad``), and a LoRA
that no layer uses learns nothing.
"""

import math
import re
from collections.abc import Callable

import torch
from torch import Tensor

from ...support.quoting import some
from ..lora_names import UP
from ..port import Velocity
from .model import PipelineModel

_SIGMA = 0.5
_SAME = {False: 1e-4, True: 2e-2}  # kernels for a gradient may round otherwise
_LARGEST = 0.3  # that the velocity is moved by, in its own size
_TRIES = 14  # each with half of the step before
_AGREES = {False: 0.04, True: 0.1}  # shares of the slope, in float32 and below
_KNOWN = {False: 0.06, True: 0.15}


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
    name, sigma = model.family.name, torch.tensor(_SIGMA)
    asked = 2 if model.guided else 1
    begun = model.evaluations
    with torch.no_grad():
        velocity(x, sigma)
        if model.evaluations - begun != asked:
            raise ValueError(
                f"expected {asked} evaluations for a velocity of {name}, found {model.evaluations - begun}: its "
                "guidance is not what was asked for"
            )
        v, again, other = velocity(x, sigma), velocity(x, sigma), velocity(x, sigma, torch.tensor([1]))
    if not bool(v.isfinite().all()):
        raise ValueError(f"expected numbers out of {name}, found NaN or infinity: load it in float32")
    if not torch.equal(v, again):
        raise ValueError(
            f"{name} gives another velocity for the same question: it keeps something of earlier calls, or draws at "
            "random, and cannot be trained"
        )
    if torch.equal(v, other):
        raise ValueError(f"{name} gives two prompts the same velocity: it does not read its prompts. Get it again")
    found = velocity(x, sigma)
    if float((found.detach() - v).norm()) > _SAME[model.low_precision] * float(v.norm()):
        raise ValueError(f"{name} gives another velocity where a gradient is wanted, so the first ratio would not be 1")
    drawn = torch.randn(v.shape, generator=torch.Generator().manual_seed(0)).to(v.device)
    gradient = _gradient(model, found, drawn)
    _require_reach(model, gradient)
    direction = {key: each / each.norm() for key, each in gradient.items()}  # every layer has a say
    steep = sum(float(each.norm()) for each in gradient.values()) / math.sqrt(len(gradient) * v.numel())
    _require_slope(model, lambda: velocity(x, sigma), direction, _LARGEST * float(v.norm()) / steep)


def _gradient(model: PipelineModel, v: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Of the weighted sum of a velocity by the LoRA's second matrices, the only ones that a fresh LoRA moves by."""
    if not v.requires_grad:
        raise ValueError(
            f"no gradient reaches the LoRA of {model.family.name}: something in this network, or the way that its "
            "weights are quantised, lets none through"
        )
    for parameter in model.parameters():
        parameter.grad = None
    (v * weights).sum().backward()
    own = zip(model.lora_state(), model.parameters(), strict=True)
    return {key: p.grad.clone() for key, p in own if key.endswith(UP) and p.grad is not None and bool(p.grad.any())}


def _require_reach(model: PipelineModel, gradient: dict[str, Tensor]) -> None:
    """Every kind of layer learns in one block at least: in the last ones, the text's side never does."""
    reached = {_kind(key) for key in gradient}
    bare = sorted({_kind(key) for key in model.lora_state() if key.endswith(UP)} - reached)
    if bare:
        raise ValueError(
            f"no gradient reaches the LoRA on {some(bare)} of {model.family.name}, in any block: these layers are not "
            "asked, or what is behind them lets no gradient through, and they would learn nothing"
        )


def _kind(key: str) -> str:
    """A layer's name in every block."""
    return re.sub(r"\d+", "N", key.removesuffix(UP))


def _require_slope(
    model: PipelineModel, velocity: Callable[[], Tensor], direction: dict[str, Tensor], step: float
) -> None:
    """Along ``direction`` the velocity changes as its gradient says. What is weighed is that change itself, so that the
    rounding of a low precision is small beside it.

    Args:
        step: one that moves the velocity too far; it is halved until a straight line describes the way.
    """
    start, size = model.lora_state(), math.sqrt(len(direction))

    def change(step: float) -> Tensor:
        """Of the velocity, for each unit of the direction."""
        ends = []
        for way in (step / size, -step / size):
            moved = {
                key: tensor + way * direction[key] if key in direction else tensor for key, tensor in start.items()
            }
            with torch.no_grad(), model.using(moved):
                ends.append(velocity())
        return (ends[0] - ends[1]) / (2 * step)

    with torch.no_grad():
        most = _LARGEST * float(velocity().norm())
    agrees, known = _AGREES[model.low_precision], _KNOWN[model.low_precision]
    best = (math.inf, 0.0, 0.0)
    for _ in range(_TRIES):
        whole = change(step)
        if float(whole.norm()) * step <= most:
            weights = whole / whole.norm().clamp(min=1e-30)
            gradient = _gradient(model, velocity(), weights)
            slope = (
                sum(float((each.double() * direction[key]).sum()) for key, each in gradient.items() if key in direction)
                / size
            )
            half = float((change(step / 2).double() * weights).sum())
            unknown = abs(float(whole.norm()) - half)  # what a straight line leaves out
            if abs(half - slope) <= abs(half) * agrees + unknown / 2 and unknown <= abs(half) * known:
                return
            best = min(best, (unknown / max(abs(half), 1e-30), slope, half))
        step /= 2
    raise ValueError(
        f"the gradient through {model.family.name} is not the slope of what it computes (the gradient says "
        f"{best[1]:.3g}, differences {best[2]:.3g}): something in this network or its precision bends it, and a "
        "training would go astray"
    )
