"""A command that several processes run as one: the first speaks and writes, each has a device of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import torch

from ..runs.folder import RunError, RunFolder
from ..support.ranks import ALONE, Ranks
from ..training.ranks import RankFailed, SeveralRanks, launched, local_rank
from .devices import usable_device
from .memory import that_fits
from .settings import RunConfig

if TYPE_CHECKING:  # it imports diffusers
    from ..models.diffusers.model import PipelineModel


class Unspoken(SystemExit):
    """What another rank says; this one ends without a word."""


@contextmanager
def all_ranks() -> Iterator[Ranks]:
    """The processes that a launcher started, who end together; one alone without a launcher."""
    ranks = launched()
    if not isinstance(ranks, SeveralRanks):
        yield ALONE
        return
    try:
        with ranks.together():
            yield ranks
    except RankFailed:
        if ranks.is_first:
            raise
        raise Unspoken(1) from None
    except Exception:
        if ranks.said_before:
            raise Unspoken(1) from None
        raise
    finally:
        ranks.leave()


def own_device(asked: str | None, ranks: Ranks) -> str:
    """The device of this process: with several ranks on a machine each has a GPU of its own.

    Raises ``ValueError`` that says what is missing.
    """
    name = asked or ("cuda" if torch.cuda.is_available() else "cpu")
    if ranks.size == 1 or not name.startswith("cuda"):
        return usable_device(name, "model.device")
    place, there = local_rank(), torch.cuda.device_count()
    if name != "cuda":
        raise ValueError(
            f"model.device = {name!r} is one GPU, and {ranks.size} ranks were started: leave model.device out, and "
            "each takes the next GPU of its machine"
        )
    if place >= there:
        raise ValueError(
            f"expected a GPU for each rank, found {there} on the machine of rank {ranks.rank}: start it with "
            f"--nproc-per-node {there}" + ("" if there else " on a machine with GPUs, or with --model.device cpu")
        )
    torch.cuda.set_device(place)
    return usable_device(f"cuda:{place}", "model.device")


def require_same_file(settings: RunConfig, ranks: Ranks) -> None:
    """Raise where ranks were started with different settings."""

    def facts() -> dict[str, object]:
        setup = settings.setup()
        prompts = setup["prompts"]
        return {
            "the run folder out": settings.out,
            **{f"model.{name}": value for name, value in asdict(settings.model).items()},
            "the list of training prompts": f"of {len(prompts['train'])} {hash_of(prompts['train'])}",
            "the list of held-out prompts": f"of {len(prompts['held_out'])} {hash_of(prompts['held_out'])}",
            **{f"reward {name}": call for name, call in setup["rewards"].items()},
        }

    ranks.require_alike(facts, "start all of them with the same run file, flags and files of prompts")


def hash_of(texts: list[str]) -> str:
    """A few digits that tell lists of texts apart."""
    from hashlib import blake2b

    return blake2b("\0".join(texts).encode(), digest_size=4).hexdigest()


def require_several(settings: RunConfig, ranks: Ranks) -> None:
    """Raise where one rank alone is to hold a part of the base."""
    if settings.model.sharded and ranks.size == 1:
        raise ValueError(
            "model.sharded deals the base out to several processes, found one: start them with torchrun "
            "--nproc-per-node N -m mixgrpo_core.cli, or leave it out (mixgrpo resume RUN --sharded False)"
        )


def created(settings: RunConfig, ranks: Ranks) -> RunFolder:
    """The new run folder, which the first rank makes and the others open."""
    if ranks.is_first:
        run = RunFolder.create(settings.out, settings.train, settings.setup())
        ranks.all_gather(None)
    else:
        ranks.all_gather(None)
        run = seen(settings.out, ranks)
    require_one_folder(run, ranks)
    return run


def seen(path: str, ranks: Ranks) -> RunFolder:
    """The run folder that is there. Raises ``RunError`` that says so where only the first rank sees it."""
    try:
        return RunFolder.open(path)
    except RunError as error:
        if ranks.is_first:
            raise
        raise RunError(
            f"rank {ranks.rank} does not see the run folder {path} ({error}): put it on a disk that all machines have "
            "under the same path"
        ) from error


def require_one_folder(run: RunFolder, ranks: Ranks) -> None:
    """Raise where the ranks' folders of the same name are not the same."""
    ranks.require_alike(
        lambda: {f"the start of the run in {run.path}": run.config.get("started")},
        "put the run folder on a disk that all machines have under the same path",
    )


def all_fit(settings: RunConfig, model: "PipelineModel", ranks: Ranks) -> tuple[RunConfig, str]:
    """`that_fits` for the rank with the least memory."""
    found, words = that_fits(settings, model)
    if ranks.size == 1:
        return found, words
    told = ranks.all_gather((found.train.rollout_batch, found.train.update_batch, found.model.gradient_checkpointing))
    rollout, update, checkpointing = zip(*told, strict=True)
    train = replace(found.train, rollout_batch=min(rollout), update_batch=min(update))
    if any(checkpointing) and not found.model.gradient_checkpointing:
        model.checkpointing = True
    chosen = replace(found.model, gradient_checkpointing=any(checkpointing))
    return replace(found, train=train, model=chosen), words


def shards_words(ranks: Ranks, model: "PipelineModel") -> str:
    """What each rank holds of the base, in a sentence; empty where it is not in shards."""
    shards = model.shards
    if shards is None:
        return ""
    own, whole = (size / 1e6 for size in (shards.own, shards.whole))
    return f"each of {ranks.size} ranks holds {own:,.1f} of {whole:,.1f} MB of the blocks, and one whole at a time"


def ranks_words(ranks: Ranks, settings: RunConfig) -> str:
    """How the work is shared, in a sentence; empty for one rank alone."""
    prompts = settings.train.prompts_per_iteration
    if ranks.size == 1:
        return ""
    if ranks.size > prompts:
        return (
            f"{ranks.size} ranks share {prompts} prompts an iteration, so {ranks.size - prompts} of them only wait: "
            f"raise train.prompts_per_iteration to a multiple of {ranks.size}, or start fewer"
        )
    most = -(-prompts // ranks.size)
    uneven = "" if prompts % ranks.size == 0 else f"; a multiple of {ranks.size} would leave none waiting"
    return f"{ranks.size} ranks share {prompts} prompts an iteration, {most} at most each{uneven}"
