"""What PyTorch's own allocator says that it gave: an independent count of the most memory in use."""

from collections.abc import Callable

import torch


def allocated(work: Callable[[], object]) -> int:
    """The most bytes that ``work`` had at once on the CPU, beyond what was there before it."""
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work()
    events = profile.profiler.kineto_results.events()
    now = most = 0
    for _, size in sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"):
        now += size
        most = max(most, now)
    return most
