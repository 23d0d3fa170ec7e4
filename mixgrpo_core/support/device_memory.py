"""What a device holds and what is free on it, whoever took it: torch's allocator, another one, another process."""

from pathlib import Path

import torch

_KIB = 1024


def held_memory(device: torch.device) -> int:
    """Bytes in use on a GPU; 0 elsewhere."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return total - free


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had: on a GPU, or of main memory where the system tells (Linux). None: not known."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    if device.type != "cpu":
        return None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * _KIB for line in lines if line.startswith("MemAvailable:")), None)
