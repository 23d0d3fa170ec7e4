"""What it costs to keep a run resumable: copies and files of a LoRA of FLUX.1-dev's size (rank 32), on a CPU.

    python benchmarks/checkpoints.py [RANK]        prints JSON: GB of the state, seconds and peak memory of each part

The LoRA has the shapes of the linear layers of FLUX.1-dev's 19 double and 38 single blocks; its numbers are random.
"""

import json
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from torch.nn import Parameter

from mixgrpo_core.runs.checkpoint import TrainState, read_checkpoint, write_checkpoint

_WIDTH, _MLP = 3072, 12288
_DOUBLE = [(_WIDTH, _WIDTH)] * 8 + [(_WIDTH, _MLP), (_MLP, _WIDTH)] * 2
_SINGLE = [(_WIDTH, _WIDTH)] * 3 + [(_WIDTH, _MLP), (_WIDTH + _MLP, _WIDTH)]
LAYERS = _DOUBLE * 19 + _SINGLE * 38
GB = 1e9


class Weights:
    """As much of a model as a checkpoint asks for."""

    def __init__(self, rank: int) -> None:
        self.trained = {}
        for number, (incoming, outgoing) in enumerate(LAYERS):
            self.trained[f"{number}.lora_A.weight"] = Parameter(torch.randn(rank, incoming))
            self.trained[f"{number}.lora_B.weight"] = Parameter(torch.randn(outgoing, rank))

    def lora_state(self):
        return {name: weight.detach() for name, weight in self.trained.items()}


def made(rank: int) -> TrainState:
    """A state after one step of the optimizer."""
    model = Weights(rank)
    optimizer = torch.optim.AdamW(model.trained.values(), foreach=False)
    for weight in model.trained.values():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    optimizer.zero_grad()
    return TrainState(model, optimizer, {})


def resident() -> int:
    """Bytes of main memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


class Peak:
    """Seconds, and bytes above those at its start, of what is done inside."""

    def __enter__(self):
        self._base, self._most, self._over = resident(), 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        self._since = time.perf_counter()
        return self

    def _watch(self):
        while not self._over.wait(0.005):
            self._most = max(self._most, resident())

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self._since
        self._over.set()
        self._thread.join()
        self.told = {"seconds": round(self.seconds, 2), "peak_gb": round(max(0, self._most - self._base) / GB, 2)}


def main(rank: int = 32) -> None:
    state, found = made(rank), {}
    with Peak() as first:
        snapshot = state.capture()
    size = sum(tensor.nbytes for tensor in snapshot.tensors.values())
    found |= {"rank": rank, "state_gb": round(size / GB, 2), "a copy": first.told}
    if hasattr(state, "weights"):
        buffers: dict = {}
        state.weights(buffers)
        del snapshot
        with Peak() as again:
            weights = state.weights(buffers)
        with Peak() as small:
            opening = state.opening()
        found |= {"the same memory again": again.told, "an iteration's beginning": small.told}
        snapshot = opening.joined(weights)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        with Peak() as writing:
            write_checkpoint(Path(folder) / "state.safetensors", snapshot)
        with Peak() as reading:
            read_checkpoint(Path(folder) / "state.safetensors")
    print(json.dumps(found | {"written": writing.told, "read": reading.told}, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
