"""Everything an iteration starts from, as tensors and JSON in one safetensors file.

The same snapshot serves three ends: it is put back when an iteration is interrupted, written as a checkpoint, and read
on resume. Files are written whole under another name and renamed, and carry a checksum.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors import SafetensorError
from torch import Tensor

from ..evaluation.guards.watch import GuardNotes
from ..models.ema import Ema
from ..models.lagged import Lagged
from ..models.port import FlowModel
from ..rewards.port import Reward
from ..support.quoting import cause
from ..support.tensor_files import bytes_of, read_tensors, write_tensors
from .packing import Packer, random_state, restore_random, unpack

FORMAT = 1
SETTINGS = "config"
"""Name of the tensor of bytes that is a copy of ``config.json``."""


class CorruptCheckpoint(RuntimeError):
    """A checkpoint file that cannot be read whole."""


class Best(TypedDict):
    """The iterations done, and the held-out reward, of the policy that was the best so far."""

    iteration: int
    reward: float


class BestTraining(TypedDict):
    """The same by the training reward, where nothing is held out: a mean of iterations, and the newest of them."""

    iteration: int
    reward: float
    recent: list[float]


class Stop(TypedDict):
    """Why a guard stopped a run: its sentence, the guards by name, and the settings that had them stop it."""

    why: str
    by: list[str]
    iterations: int
    guards: list[Any]


class ProbeNotes(TypedDict):
    """When the noise between rollout and update was last looked at and found to be small, and in what circumstances."""

    iteration: int
    circumstances: str


class DecodeNotes(TypedDict):
    """In which precision rollouts are decoded, by how much scores moved in the lower one, and in what circumstances."""

    dtype: str
    moved: float
    circumstances: str


class TinyNotes(TypedDict):
    """How a tiny autoencoder ranks images.

    Attributes:
        agreement: of each reward, the rank correlation with what the model's own gives, a mean over groups.
        counts: images that this is over, by reward.
        images: that were compared.
        circumstances: that it was measured in.
    """

    agreement: dict[str, float]
    counts: dict[str, int]
    images: int
    circumstances: str


class StepNotes(TypedDict, total=False):
    """What a run that sets its own step remembers of it.

    Attributes:
        share: of the usual move.
        best: the best held-out reward and its standard error.
        harm: the memory of what looks for harm.
        signal: the sums of `own_step.Signal`.
    """

    share: float
    best: list[float]
    harm: dict[str, Any]
    signal: list[float]


class Notes(GuardNotes, total=False):
    """JSON values that belong to the story of a run. Replaced and never changed in place: snapshots hold them, too.

    Attributes:
        before, after: held-out means of the first and of the last evaluation.
        updates: steps of the optimizer.
        prompts: digest of the prompts.
        learned: what planner and prompt source remember.
        steps: how large the steps are that a run sets itself.
        probe: when the first ratio was last looked at.
        decode: in which precision rollouts are decoded.
        tiny: how a tiny autoencoder ranks images.
    """

    before: dict[str, float]
    after: dict[str, float]
    best: Best
    best_training: BestTraining
    updates: int
    prompts: int
    stopped: Stop
    learned: dict[str, dict[str, Any]]
    steps: StepNotes
    probe: ProbeNotes
    decode: DecodeNotes
    tiny: TinyNotes


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A run's state before iteration ``iteration``: named tensors and JSON values.

    ``settings`` is the copy of ``config.json`` that a checkpoint holds; None in one of a version that kept none.
    """

    iteration: int
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]
    settings: object = None

    def part(self, name: str, *, copied: bool = True) -> Any:
        """One part of the state, its tensors copied where they are given away: optimizers adopt theirs."""
        return unpack(self.values[name], self.tensors, copied)

    def joined(self, other: "Snapshot") -> "Snapshot":
        """This one with the parts of another."""
        tensors, values = {**self.tensors, **other.tensors}, {**self.values, **other.values}
        return Snapshot(iteration=self.iteration, tensors=tensors, values=values)


@dataclass
class TrainState:
    """The living state of a run: what a snapshot is taken of and put back into.

    Attributes:
        lagged: the policies that the objective asks by name.
        before_change: called before optimizer steps change weights, so that whoever wants them as they are copies them.
    """

    model: FlowModel
    optimizer: torch.optim.Optimizer
    rewards: Mapping[str, Reward]
    ema: Ema | None = None
    lagged: Mapping[str, Lagged] = field(default_factory=dict)
    iteration: int = 0
    notes: Notes = field(default_factory=Notes)
    before_change: Callable[[], object] = lambda: None

    def capture(self) -> Snapshot:
        """A copy of the state that later training does not touch."""
        return self.opening().joined(self.weights({}))

    def opening(self) -> Snapshot:
        """A copy of all but the weights: small, and what rewards and prompts may change in an iteration's course."""
        packer = Packer()
        values = {
            "format": FORMAT,
            "iteration": self.iteration,
            "notes": self.notes.copy(),
            "rewards": packer.pack("rewards", {name: reward.state_dict() for name, reward in self.rewards.items()}),
            "random": packer.pack("random", random_state()),
        }
        return Snapshot(iteration=self.iteration, tensors=packer.tensors, values=values)

    def weights(self, buffers: MutableMapping[str, Tensor]) -> Snapshot:
        """A copy of what optimizer steps change, in ``buffers``: it is good until these are written to again."""
        packer = Packer(buffers)
        values = {
            "lora": packer.pack("lora", dict(self.model.lora_state())),
            "optimizer": packer.pack("optimizer", self.optimizer.state_dict()),
            "ema": None if self.ema is None else packer.pack("ema", self.ema.average),
            "lagged": packer.pack("lagged", {name: policy.state_dict() for name, policy in self.lagged.items()}),
        }
        return Snapshot(iteration=self.iteration, tensors=packer.tensors, values=values)

    def restore(self, snapshot: Snapshot) -> None:
        """Put a snapshot back, the process's global random generators too.

        Raises:
            ValueError: it belongs to another model or another set of rewards.
        """
        rewards = sorted(snapshot.part("rewards"))
        if rewards != sorted(self.rewards):
            raise ValueError(f"expected the state of rewards {sorted(self.rewards)}, found {rewards} in the checkpoint")
        self.restore_weights(snapshot)
        self.restore_opening(snapshot)
        restore_random(snapshot.part("random"))

    def restore_opening(self, snapshot: Snapshot) -> None:
        """Put back what ``opening`` holds, but for the generators."""
        for name, state in snapshot.part("rewards").items():
            self.rewards[name].load_state_dict(state)
        self.iteration, self.notes = snapshot.iteration, snapshot.values["notes"].copy()

    def restore_weights(self, snapshot: Snapshot) -> None:
        """Put back what ``weights`` holds."""
        self.model.load_lora_state(snapshot.part("lora"))
        self.optimizer.load_state_dict(_with_numbered_state(snapshot.part("optimizer")))
        if self.ema is not None:
            self.ema.load(snapshot.part("ema"))
        for name, policy in self.lagged.items():
            policy.load_state_dict(snapshot.part("lagged")[name])


def write_checkpoint(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot to ``path``, atomically. Raises ``OSError`` when the disk is full or the folder read-only."""
    values, tensors = json.dumps(snapshot.values, sort_keys=True), dict(snapshot.tensors)
    if snapshot.settings is not None:  # as a tensor, for a header has room for 100 MB only
        tensors[SETTINGS] = torch.frombuffer(bytearray(json.dumps(snapshot.settings).encode()), dtype=torch.uint8)
    digests = {"sha256": _digest(tensors, values), "layout": _digest_of_layout(tensors)}
    write_tensors(path, tensors, {"mixgrpo": values, **digests})


def read_checkpoint(path: Path) -> Snapshot:
    """Read a checkpoint.

    Raises:
        CorruptCheckpoint: truncated, changed, or not a checkpoint of this format.
    """
    try:
        tensors, metadata = read_tensors(path)
        values = json.loads(metadata["mixgrpo"])
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise CorruptCheckpoint(f"{path} is not a whole checkpoint: {cause(error)}") from error
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise CorruptCheckpoint(f"{path} has checkpoint format {found}, this version reads {FORMAT}")
    layout = _digest_of_layout(tensors)
    known = metadata.keys() <= {"mixgrpo", "sha256", "layout"} and metadata.get("layout", layout) == layout
    if not known or metadata.get("sha256") != _digest(tensors, metadata["mixgrpo"]):
        raise CorruptCheckpoint(f"{path} was changed after it was written: its checksum does not match")
    copy = tensors.pop(SETTINGS, None)
    settings = None if copy is None else json.loads(copy.numpy().tobytes())
    return Snapshot(iteration=values["iteration"], tensors=tensors, values=values, settings=settings)


def _digest(tensors: Mapping[str, Tensor], values: str) -> str:
    digest = hashlib.sha256(values.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(bytes_of(tensors[name]))
    return digest.hexdigest()


def _digest_of_layout(tensors: Mapping[str, Tensor]) -> str:
    """Of dtypes and shapes: the same bytes of another dtype are other numbers. Older checkpoints have none."""
    layout = [(name, str(tensors[name].dtype), list(tensors[name].shape)) for name in sorted(tensors)]
    return hashlib.sha256(json.dumps(layout).encode()).hexdigest()


def _with_numbered_state(optimizer: dict[str, Any]) -> dict[str, Any]:
    """JSON keys are strings; torch numbers the parameters of an optimizer's state."""
    return {**optimizer, "state": {int(key): value for key, value in optimizer["state"].items()}}
