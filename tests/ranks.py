"""Real processes that are the ranks of one run, forked from the test: they find each other through a file."""

import multiprocessing
import os
import traceback
from datetime import timedelta

import torch
import torch.distributed as dist

from mixgrpo_core.training.ranks import launched

FORK = multiprocessing.get_context("fork")
PATIENCE = 120


def started(count, folder, work, *args):
    """``work(ranks, *args)`` in ``count`` processes; what each returned is `outcomes`'s to read."""
    folder.mkdir(parents=True, exist_ok=True)
    processes = [FORK.Process(target=_one, args=(rank, count, folder, work, args)) for rank in range(count)]
    for process in processes:
        process.start()
    return processes


def outcomes(processes, folder):
    """By rank: what it returned, or the exception that it raised, as ``(type's name, words)``; None where it died."""
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode is not None, "a rank hangs"
    files = [folder / f"rank{rank}.pt" for rank in range(len(processes))]
    return [torch.load(file, weights_only=False) if file.exists() else None for file in files]


def together(count, folder, work, *args):
    return outcomes(started(count, folder, work, *args), folder)


def _one(rank, count, folder, work, args):
    torch.set_num_threads(1)
    if count > 1:
        where = f"file://{folder}/meeting"
        dist.init_process_group("gloo", init_method=where, rank=rank, world_size=count, timeout=timedelta(seconds=60))
    ranks = launched()
    try:
        found = work(ranks, *args)
    except BaseException as error:
        (folder / f"rank{rank}.txt").write_text(traceback.format_exc())
        found = (type(error).__name__, str(error))
    torch.save(found, folder / f"rank{rank}.part")
    (folder / f"rank{rank}.part").rename(folder / f"rank{rank}.pt")
    if count > 1:
        ranks.leave()
    os._exit(0)
