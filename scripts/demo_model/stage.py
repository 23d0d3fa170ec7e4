"""What all stages share: atomic checkpoints, a journal, per-step generators, weight averages."""

import json
import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

logger = logging.getLogger("demo_model")
SECONDS_BETWEEN_CHECKPOINTS = 60.0


def save(path: Path, state: Any) -> None:
    """Write `state` so that a reader sees the old file or the whole new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def step_generator(seed: int, step: int) -> torch.Generator:
    """Fresh randomness per step that does not depend on where a run was interrupted."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def cosine(step: int, steps: int, *, warmup: int = 50, floor: float = 0.01) -> float:
    """Learning-rate factor: linear warm-up, then a half cosine down to `floor`."""
    rise = min(1.0, (step + 1) / warmup)
    return rise * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * step / steps)))


@torch.no_grad()
def average_into(average: dict[str, Tensor], module: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * weights, in place."""
    for name, weight in module.state_dict().items():
        average[name].lerp_(weight.float(), 1 - decay)


class Stage:
    """The resumable state of one training stage: module, optimisers, step, losses, seconds."""

    def __init__(self, path: Path, module: nn.Module, *optimisers: torch.optim.Optimizer) -> None:
        self.path, self.module, self.optimisers = path, module, optimisers
        self.average = {name: weight.float().clone() for name, weight in module.state_dict().items()}
        self.step, self.seconds = 0, 0.0
        self.journal: list[dict[str, float]] = []
        if path.exists():
            self._restore(load(path))
        self._saved = self._ticked = time.monotonic()

    def _restore(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.average = state["average"]
        self.step, self.seconds, self.journal = state["step"], state["seconds"], json.loads(state["journal"])
        logger.info("%s: going on at step %d", self.path.stem, self.step)

    def save(self) -> None:
        state = {"module": self.module.state_dict(), "average": self.average}
        state["optimisers"] = [optimiser.state_dict() for optimiser in self.optimisers]
        save(self.path, state | {"step": self.step, "seconds": self.seconds, "journal": json.dumps(self.journal)})
        self._saved = time.monotonic()

    def advance(self) -> None:
        """Count one finished step; write a checkpoint about once a minute."""
        self.step += 1
        now = time.monotonic()
        self.seconds, self._ticked = self.seconds + now - self._ticked, now
        if now - self._saved > SECONDS_BETWEEN_CHECKPOINTS:
            self.save()

    def note(self, **figures: float) -> None:
        """Add figures to the journal and to the log."""
        entry = {"step": self.step, "seconds": round(self.seconds, 1)}
        entry |= {name: round(float(value), 4) for name, value in figures.items()}
        self.journal.append(entry)
        logger.info("%s %s", self.path.stem, json.dumps(entry))


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def summary(state: dict[str, Any]) -> dict[str, Any]:
    """What a report says about a checkpoint: steps, wall seconds and every tenth or so entry of the journal."""
    journal = json.loads(state["journal"])
    kept = journal[:: max(1, len(journal) // 12)]
    if journal and kept[-1] != journal[-1]:
        kept.append(journal[-1])
    return {"steps": state["step"], "seconds": round(state["seconds"]), "journal": kept}
