"""Everything an iteration starts from, as tensors and JSON in one safetensors file.

The same snapshot serves three ends: it is put back when an iteration is interrupted, written as a checkpoint, and read
on resume. Files are written whole under another name and renamed, and carry a checksum.
"""

import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..evaluation.guards.watch import GuardNotes
from ..models.ema import Ema
from ..models.lagged import Lagged
from ..models.port import FlowModel
from ..rewards.port import Reward
from ..support.files import write_atomically

FORMAT = 1


class CorruptCheckpoint(RuntimeError):
    """A checkpoint file that cannot be read whole."""


class Best(TypedDict):
    """The iterations done, and the held-out reward, of the policy that was the best so far."""

    iteration: int
    reward: float


class Stop(TypedDict):
    """Why a guard stopped a run: its sentence, the guards by name, and the settings that had them stop it."""

    why: str
    by: list[str]
    iterations: int
    guards: list[Any]


class Notes(GuardNotes, total=False):
    """JSON values that belong to the story of a run. Replaced and never changed in place: snapshots hold them, too.

    Attributes:
        before, after: held-out means of the first and of the last evaluation.
        updates: steps of the optimizer.
        prompts: digest of the prompts.
        learned: what planner and prompt source remember.
    """

    before: dict[str, float]
    after: dict[str, float]
    best: Best
    updates: int
    prompts: int
    stopped: Stop
    learned: dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A run's state before iteration ``iteration``: named tensors and JSON values."""

    iteration: int
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


@dataclass
class TrainState:
    """The living state of a run: what a snapshot is taken of and put back into.

    ``lagged`` are the policies that the objective asks by name.
    """

    model: FlowModel
    optimizer: torch.optim.Optimizer
    rewards: Mapping[str, Reward]
    ema: Ema | None = None
    lagged: Mapping[str, Lagged] = field(default_factory=dict)
    iteration: int = 0
    notes: Notes = field(default_factory=Notes)

    def capture(self) -> Snapshot:
        """A copy of the state that later training does not touch."""
        packer = _Packer()
        values = {
            "format": FORMAT,
            "iteration": self.iteration,
            "notes": self.notes.copy(),
            "lora": packer.pack("lora", dict(self.model.lora_state())),
            "optimizer": packer.pack("optimizer", self.optimizer.state_dict()),
            "ema": None if self.ema is None else packer.pack("ema", self.ema.average),
            "lagged": packer.pack("lagged", {name: policy.state_dict() for name, policy in self.lagged.items()}),
            "rewards": packer.pack("rewards", {name: reward.state_dict() for name, reward in self.rewards.items()}),
            "random": packer.pack("random", _random_state()),
        }
        return Snapshot(iteration=self.iteration, tensors=packer.tensors, values=values)

    def restore(self, snapshot: Snapshot, *, generators: bool = True) -> None:
        """Put a snapshot back, the process's global random generators too unless ``generators`` is off.

        Raises:
            ValueError: it belongs to another model or another set of rewards.
        """

        def part(name: str) -> Any:
            return _unpack(snapshot.values[name], snapshot.tensors)

        rewards = part("rewards")
        if rewards.keys() != self.rewards.keys():
            raise ValueError(
                f"expected the state of rewards {sorted(self.rewards)}, found {sorted(rewards)} in the checkpoint"
            )
        self.model.load_lora_state(part("lora"))
        self.optimizer.load_state_dict(_with_numbered_state(part("optimizer")))
        if self.ema is not None:
            self.ema.load(part("ema"))
        for name, policy in self.lagged.items():
            policy.load_state_dict(part("lagged")[name])
        for name, reward in self.rewards.items():
            reward.load_state_dict(rewards[name])
        if generators:
            _restore_random(part("random"))
        self.iteration, self.notes = snapshot.iteration, snapshot.values["notes"].copy()


def write_checkpoint(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot to ``path``, atomically. Raises ``OSError`` when the disk is full or the folder read-only."""
    values = json.dumps(snapshot.values, sort_keys=True)
    metadata = {"mixgrpo": values, "sha256": _digest(snapshot.tensors, values)}
    write_atomically(path, save(dict(snapshot.tensors), metadata))


def read_checkpoint(path: Path) -> Snapshot:
    """Read a checkpoint.

    Raises:
        CorruptCheckpoint: truncated, changed, or not a checkpoint of this format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        values = json.loads(metadata["mixgrpo"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CorruptCheckpoint(f"{path} is not a whole checkpoint: {error}") from error
    if values.get("format") != FORMAT:
        raise CorruptCheckpoint(f"{path} has checkpoint format {values.get('format')}, this version reads {FORMAT}")
    if metadata.get("sha256") != _digest(tensors, metadata["mixgrpo"]):
        raise CorruptCheckpoint(f"{path} was changed after it was written: its checksum does not match")
    return Snapshot(iteration=values["iteration"], tensors=tensors, values=values)


def _digest(tensors: Mapping[str, Tensor], values: str) -> str:
    digest = hashlib.sha256(values.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class _Packer:
    """Takes nested dicts and lists apart: tensors by path, everything else as JSON that refers to them."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def pack(self, path: str, value: Any) -> Any:
        if isinstance(value, Tensor):
            while path in self.tensors:  # "a.b" of one mapping and "b" within "a" of another
                path += "'"
            # clone() keeps 0-dim and empty tensors apart from shared storages; the copy is the snapshot.
            self.tensors[path] = value.detach().to("cpu", copy=True).contiguous()
            return {"tensor": path}
        if isinstance(value, Mapping):
            return {"map": {str(key): self.pack(f"{path}.{key}", item) for key, item in value.items()}}
        if isinstance(value, list | tuple):
            return {"list": [self.pack(f"{path}.{i}", item) for i, item in enumerate(value)]}
        return {"value": value}


def _unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    if packed is None:
        return None
    ((kind, value),) = packed.items()
    if kind == "tensor":
        return tensors[value].clone()  # optimizers adopt the tensors they are given and change them in place
    if kind == "map":
        return {key: _unpack(item, tensors) for key, item in value.items()}
    if kind == "list":
        return [_unpack(item, tensors) for item in value]
    return value


def _with_numbered_state(optimizer: dict[str, Any]) -> dict[str, Any]:
    """JSON keys are strings; torch numbers the parameters of an optimizer's state."""
    return {**optimizer, "state": {int(key): value for key, value in optimizer["state"].items()}}


def _random_state() -> dict[str, Any]:
    """The global generators. The core draws from seeds of its own; rewards and models of users may not."""
    version, numbers, gauss = random.getstate()
    numpy = np.random.get_state(legacy=False)
    keys, place = numpy["state"]["key"], numpy["state"]["pos"]
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, torch.tensor(numbers, dtype=torch.int64), gauss],
        "numpy": [
            numpy["bit_generator"],
            torch.from_numpy(keys.astype(np.int64)),
            place,
            numpy["has_gauss"],
            numpy["gauss"],
        ],
    }


def _restore_random(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
