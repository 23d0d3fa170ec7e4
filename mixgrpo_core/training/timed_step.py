"""One step of a model, timed: what its work takes on this machine, before any of it is done."""

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from types import MappingProxyType

import torch
from torch import Tensor

from ..models.port import Cond, DecodesTiny, FlowModel, Velocity
from ..models.sizes import sized
from ..rewards.port import Reward, RewardBatch, about
from ..rewards.scoring import score
from ..sampling.ode import decode_frames
from ..settings.config import TrainConfig
from ..support.micro_batches import ran_out
from .cost import BACKWARD
from .workload import Rates

_PATIENCE = 1.0
"""Seconds that a step of several images may take about."""
_DECODING = 0.1
"""Seconds that decoding several images may take about: one of many takes nearly what it takes alone."""


def rates_of_a_step(
    model: FlowModel[Cond],
    prompt: str,
    config: TrainConfig,
    rewards: Mapping[str, Reward] = MappingProxyType({}),
    *,
    low: bool = False,
) -> Rates:
    """The rates of ``model`` by steps of one image and of as many as a batch has, with and without a gradient, by
    images decoded, and by these scored.

    All of it is thrown away. ``prompt`` is one that the model has encoded, whose size counts. Of ``rewards`` those are
    asked that score held-out images, too, and they remember nothing of it. ``low``: rollouts are decoded in bfloat16.
    """
    model = sized(model, prompt)
    conds, sigma = [model.encode(prompt)], torch.tensor(0.5)
    with torch.no_grad():
        one, many, count = model.run(conds, lambda v: _one_and_many(model, lambda x: v(x, sigma), config.rollout_batch))
        decoded, images, together = _decoded(model, min(count, config.decode_batch), low, tiny=True)
        otherwise = low or (isinstance(model, DecodesTiny) and bool(model.tiny))
        shown = _decoded(model, together, False, tiny=False)[0] if otherwise else None
    with torch.inference_mode(False), torch.enable_grad():
        trained = model.run(
            conds, lambda v: _one_and_many(model, lambda x: _descend(v, x, sigma), min(count, config.update_batch))
        )
    for parameter in model.parameters():
        parameter.grad = None
    call = (one * count - many) / (count - 1) if count > 1 else 0.0
    call = min(max(call, 0.0), one)
    _, trained_many, trained_count = trained
    watched = {name for name in rewards if config.reward_weights.get(name, 1.0) == 0}
    scored, beside = (
        _scored({name: reward for name, reward in rewards.items() if (name in watched) is only}, prompt, images)
        / together
        for only in (False, True)
    )
    return Rates(
        row=(many - call) / count,
        unit=max(trained_many / (1 + BACKWARD) - call, 0.0) / trained_count,
        decoded=decoded,
        scored=scored,
        shown=shown,
        call=call,
        watched=beside,
    )


def _one_and_many(model: FlowModel, step: Callable[[Tensor], object], most: int) -> tuple[float, float, int]:
    """Seconds of a step of one row, of one of as many rows as patience and memory allow, and how many these are."""
    one = model.noise(0, 1)
    alone = _timed(model, lambda: step(one))
    count = max(1, min(most, int(_PATIENCE / max(alone, 1e-6))))
    if count == 1:
        return alone, alone, 1
    rows = model.noise(0, count)
    try:
        return alone, _timed(model, lambda: step(rows)), count
    except Exception as error:
        if not ran_out(error):
            raise
        return alone, alone, 1


def _decoded(model: FlowModel, most: int, low: bool, *, tiny: bool) -> tuple[float, Tensor, int]:
    """Seconds of an image among as many as patience and memory allow, these images, and how many they are.

    ``tiny``: by the tiny autoencoder of a model that has one, as rollouts are.
    """
    made: list[Tensor] = []

    def spent(count: int) -> float:
        x = model.noise(0, count)
        return _timed(model, lambda: made.append(decode_frames(model, x, count, low=low, tiny=tiny)[0])) / count

    alone = spent(1)
    count = min(most, int(_DECODING / max(alone, 1e-6)))
    if count <= 1:
        return alone, made[-1], 1
    try:
        return spent(count), made[-1], count
    except Exception as error:
        if not ran_out(error):
            raise
        return alone, made[-1], 1


def _scored(rewards: Mapping[str, Reward], prompt: str, images: Tensor) -> float:
    """Seconds of scoring images once."""
    asked = {name: reward for name, reward in rewards.items() if about(reward).held_out}
    states = {name: deepcopy(reward.state_dict()) for name, reward in asked.items()}
    batch = RewardBatch(images=images, prompts=(prompt,) * len(images))
    begun = time.perf_counter()
    score(asked, batch)
    spent = time.perf_counter() - begun
    for name, state in states.items():
        asked[name].load_state_dict(state)
    return spent if asked else 0.0


def _descend(velocity: Velocity, x: Tensor, sigma: Tensor) -> None:
    velocity(x, sigma).square().mean().backward()


def _timed(model: FlowModel, work: Callable[[], object]) -> float:
    """Seconds of ``work``, done a second time: the first one loads what is missing."""
    begun = 0.0
    for _ in range(2):
        _wait(model.device)
        begun = time.perf_counter()
        work()
        _wait(model.device)
    return time.perf_counter() - begun


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
