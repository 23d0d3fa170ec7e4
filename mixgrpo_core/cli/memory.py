"""Memory on the command line: batches that fit before a run begins, and what is said when memory runs out."""

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from ..settings.config import TrainConfig
from ..support.device_memory import free_memory
from ..support.ranks import Ranks
from ..training.memory_need import MemoryNeed, lora_bytes
from ..training.out_of_memory import OutOfMemory as OneImageTooLarge
from .settings import RunConfig

if TYPE_CHECKING:  # it imports diffusers
    from ..models.diffusers.model import PipelineModel

_BATCHES = ("rollout_batch", "update_batch")
_SHARE = 0.85
"""Of the free memory: the rest is for reward networks, workspaces and what an allocator cannot use."""


class OutOfMemory(RuntimeError):
    """Memory ran out; the sentence says what to lower."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Settings with which a training fits.

    Attributes:
        train: batches lowered.
        checkpointing: whether gradient checkpointing is on.
        words: what was changed and why; empty where nothing was.
    """

    train: TrainConfig
    checkpointing: bool
    words: str


def fitted(plain: MemoryNeed, checkpointed: MemoryNeed | None, train: TrainConfig, room: int) -> Fitted:
    """What fits in ``room`` bytes: batches at their defaults are lowered, and checkpointing comes on for one image.

    Args:
        plain: what is needed with the checkpointing that was asked for.
        checkpointed: with checkpointing; None where it is on already.
    """
    alone = replace(train, update_batch=1)
    switch = checkpointed is not None and plain.kept(alone) + plain.training(alone) > room
    need = checkpointed if switch and checkpointed is not None else plain
    found = need.fitted(train, room, _left_alone(train))
    changes = [f"{name} {getattr(found, name)}" for name in _BATCHES if getattr(found, name) != getattr(train, name)]
    if switch:
        changes.append("gradient checkpointing on")
    words = (
        f"memory: batches of {train.rollout_batch} sampled and {train.update_batch} trained would need "
        f"{plain.of(train) / 2**30:.1f} GiB besides the weights (computed) and {room / 2**30:.1f} GiB are free for it, "
        f"so: {', '.join(changes)}"
    )
    return Fitted(train=found, checkpointing=switch or checkpointed is None, words=words if changes else "")


def _left_alone(train: TrainConfig) -> list[str]:
    """Batches that are as nobody chose them."""
    defaults = {item.name: item.default for item in fields(TrainConfig)}
    return [name for name in _BATCHES if getattr(train, name) == defaults[name]]


def that_fits(settings: RunConfig, model: "PipelineModel") -> tuple[RunConfig, str]:
    """The settings of a new run with what fits on the model's device in the place of defaults, and what was changed.

    ``model`` is told of its checkpointing. The demo model fits everywhere.
    """
    free = free_memory(model.device)
    if settings.model.shipped or free is None:
        return settings, ""
    on, lora, train = model.checkpointing, lora_bytes(model.parameters()), settings.train
    passes = model.pass_memory(checkpointing=on)
    if passes is None:
        return settings, ""
    decoding = model.decode_memory(_decoded(train)) or 0 if train.decode_beside else 0
    plain = MemoryNeed(passes=passes, lora=lora, decoding=decoding)
    room = int(free * _SHARE) - model.offload.in_flight - (0 if model.shards is None else model.shards.in_flight)
    if plain.of(train) <= room:
        return settings, ""
    saving = None if on else model.pass_memory(checkpointing=True)
    checkpointed = None if saving is None else replace(plain, passes=saving)
    found = fitted(plain, checkpointed, train, room)
    model.checkpointing = found.checkpointing
    asked = replace(settings.model, gradient_checkpointing=found.checkpointing)
    return replace(settings, model=asked, train=found.train), found.words


def memory_words(settings: RunConfig, ranks: int = 1) -> str:
    """What a training of a folder's network needs on each of ``ranks``, from its configuration alone; empty where that
    does not tell it."""
    chosen = settings.model
    if chosen.shipped:
        return ""
    import torch

    from ..models.families.sd3_memory import is_sd3, unloaded_sd3

    if not is_sd3(chosen.folder):
        return ""
    compute: torch.dtype = getattr(torch, chosen.dtype)
    network = unloaded_sd3(
        chosen.folder,
        rank=chosen.rank,
        lora=chosen.lora,
        layers=chosen.layers,
        resolution=settings.resolution(),
        dtype=compute,
        smaller=chosen.smaller(Ranks.foreseen(ranks)),
    )
    rows = 2 if chosen.guidance > 1 else 1
    words = f", of the {_gib(network.waiting)} that wait in main memory two blocks at a time" if network.waiting else ""
    if chosen.sharded and ranks > 1:
        words = f" on each of {ranks} ranks, with one block whole and a copy of it"
    lines = [f"memory (computed): weights {_gib(network.weights)}{words}, besides them"]
    train = settings.train
    decoding = network.decoding(_decoded(train)) if train.decode_beside else 0
    for checkpointing in (True,) if chosen.offload else (False, True):
        passes = network.memory(rows=rows, compute=compute, checkpointing=checkpointing)
        need = MemoryNeed(passes=passes, lora=network.lora, decoding=decoding or 0)
        lines.append(
            f"  {'with' if checkpointing else 'without'} gradient checkpointing: {_gib(need.of(train))} for batches of "
            f"{train.rollout_batch} sampled and {train.update_batch} trained; one trained image "
            f"{_gib(passes.training.per_image)}"
        )
    if train.decode_beside:
        more = "an unknown amount" if decoding is None else _gib(decoding)
        lines.append(f"  a group that is decoded beside a rollout adds {more} to it")
    return "\n".join(lines)


def _decoded(train: TrainConfig) -> int:
    """Images of a group that are decoded in one call."""
    return min(train.decode_batch, train.images_per_prompt)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def training_advice(error: OneImageTooLarge, checkpointing: bool) -> str:
    """What to do where one image is too much."""
    more = " or --model.gradient-checkpointing" if error.work == "training" and not checkpointing else ""
    return f"{error}, which cannot be lowered: start a new run with smaller images{more}"
