"""Micro-batches halve when memory runs out, and nothing else is taken for a lack of memory."""

import pytest
import torch

from mixgrpo_core.support.micro_batches import MicroBatches


def fails_above(limit, calls):
    def double(rows):
        calls.append(len(rows))
        if len(rows) > limit:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return 2 * rows

    return double


@pytest.mark.parametrize("count,size,limit", [(12, 12, 3), (7, 4, 4), (5, 8, 1), (1, 1, 1), (24, 24, 5)])
def test_every_row_is_done_once_and_in_order(count, size, limit):
    rows, calls = torch.arange(count, dtype=torch.float32), []
    batches = MicroBatches(size)
    assert torch.equal(batches.map(fails_above(limit, calls), rows), 2 * rows)
    assert batches.size <= max(limit, 1) or size <= limit
    again = len(calls)
    batches.map(fails_above(limit, calls), rows)
    assert all(call <= limit for call in calls[again:]), "the second call does not try the size that failed"


def test_one_row_that_does_not_fit_is_said():
    with pytest.raises(RuntimeError, match="out of memory"):
        MicroBatches(4).map(fails_above(0, []), torch.zeros(4))


def test_other_errors_pass_at_once():
    calls = []

    def broken(rows):
        calls.append(len(rows))
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        MicroBatches(4).map(broken, torch.zeros(4))
    assert calls == [4]


def test_a_batch_has_a_row():
    with pytest.raises(ValueError, match="at least 1"):
        MicroBatches(0)
