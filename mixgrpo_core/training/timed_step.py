"""One step of a model, timed: what its work takes on this machine, before any of it is done."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from ..models.port import Cond, FlowModel, Velocity
from ..support.micro_batches import ran_out
from .cost import BACKWARD
from .workload import Rates

_PATIENCE = 1.0
"""Seconds that a step of several images may take about."""


def rates_of_a_step(model: FlowModel[Cond], prompt: str, batch: int) -> Rates:
    """The rates of ``model`` by a step of up to ``batch`` images, one with its gradient, and a decoded image.

    All of it is thrown away. ``prompt`` is one that the model has encoded. What rewards take is not known by it.
    """
    one, sigma = model.noise(0, 1), torch.tensor(0.5)
    conds = [model.encode(prompt)]
    with torch.no_grad():
        row, alone = model.run(conds, lambda velocity: _step(model, velocity, sigma, batch))
        decoded = _timed(model, lambda: model.decode(one))
    with torch.inference_mode(False), torch.enable_grad():
        trained = model.run(conds, lambda velocity: _timed(model, lambda: _descend(velocity, one, sigma)))
    for parameter in model.parameters():
        parameter.grad = None
    # batches help the backward pass as they help the forward pass
    unit = trained / (1 + BACKWARD) * (row / alone if alone else 1.0)
    return Rates(row=row, unit=unit, decoded=decoded, scored=0.0)


def _step(model: FlowModel, velocity: Velocity, sigma: Tensor, batch: int) -> tuple[float, float]:
    """Seconds of a row among as many as patience allows, and of one alone."""
    one = model.noise(0, 1)
    alone = _timed(model, lambda: velocity(one, sigma))
    count = max(1, min(batch, int(_PATIENCE / max(alone, 1e-6))))
    if count == 1:
        return alone, alone
    rows = model.noise(0, count)
    try:
        return _timed(model, lambda: velocity(rows, sigma)) / count, alone
    except Exception as error:
        if not ran_out(error):
            raise
        return alone, alone


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
