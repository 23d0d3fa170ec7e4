"""What a training is held against: the device's matrix peak, counted operations, predicted memory, counted waits."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

WAITS = (
    "aten::_local_scalar_dense",
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
)
"""Events of the profiler that wait for the device: a number that is read, and what the CUDA runtime waits for."""


def matrix_peak(device: torch.device, side: int, rounds: int = 20) -> float:
    """Operations per second of products of square bfloat16 matrices: the best of some."""
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    spent = []
    for _ in range(rounds):
        _wait(device)
        begun = time.perf_counter()
        one @ other
        _wait(device)
        spent.append(time.perf_counter() - begun)
    return 2 * side**3 / min(spent)


def operations(policy: Any, prompt: str) -> int:
    """Of one image's forward and backward pass in a training, what checkpointing computes again among them; those of
    kernels that torch does not know, as a quantised format has, are not counted."""
    with torch.inference_mode(False), torch.enable_grad(), FlopCounterMode(display=False) as counter:
        x, sigma = policy.noise(0, 1), torch.tensor(0.5)
        policy.run([policy.encode(prompt)], lambda velocity: velocity(x, sigma).square().mean().backward())
    for parameter in policy.parameters():
        parameter.grad = None
    return counter.get_total_flops()


def waits(work: Callable[[], object], device: torch.device) -> dict[str, int]:
    """How often ``work`` waits for the device, by kind of event."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as profiler:
        work()
    found = {event.key: event.count for event in profiler.key_averages()}
    return {name: found[name] for name in WAITS if name in found}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
