"""What a network holds while it computes, counted without memory, against what PyTorch's allocator really gave."""

from types import SimpleNamespace

import pytest
import torch
from allocator import allocated
from torch import nn
from torch.utils.checkpoint import checkpoint

from mixgrpo_core.support.activations import count
from mixgrpo_core.support.device_memory import free_memory
from mixgrpo_core.support.live_bytes import LiveBytes
from mixgrpo_core.support.phases import PhaseClock, peak_memory

WIDTH, ROWS = 32, 256


class Blocks(nn.Module):
    """Blocks that are alike and one that holds more, first or last; checkpointed or not."""

    def __init__(self, depth: int, *, wide_last: bool, checkpointing: bool) -> None:
        super().__init__()
        wide = nn.Sequential(nn.Linear(WIDTH, 3 * WIDTH), nn.GELU(), nn.Linear(3 * WIDTH, WIDTH))
        alike = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU()) for _ in range(depth)]
        self.blocks = nn.ModuleList([*alike, wide] if wide_last else [wide, *alike])
        self.last = nn.Linear(WIDTH, WIDTH)
        self.checkpointing = checkpointing

    def forward(self, x):
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False) if self.checkpointing else block(x)
        return self.last(x)


@pytest.mark.parametrize(
    ("wide_last", "checkpointing", "over"), [(False, False, 1.02), (True, True, 1.05), (False, True, 1.3)]
)
def test_a_deep_network_is_counted_from_a_short_one(wide_last, checkpointing, over) -> None:
    network = Blocks(20, wide_last=wide_last, checkpointing=checkpointing).requires_grad_(False)
    start = torch.zeros((), requires_grad=True)

    def call(images):
        return network(torch.zeros(images * ROWS, WIDTH) + start)

    before = [*network.blocks], network.last.weight
    found = count(network, call, trained=[start])
    assert [*network.blocks] == before[0]
    assert network.last.weight is before[1], "everything is as it was"
    call(1)
    for images in (1, 7):
        real = allocated(lambda images=images: call(images).square().mean().backward())
        assert real * 0.98 < found.of(images) < real * over


def test_weights_are_not_counted_and_nothing_is_allocated() -> None:
    huge = nn.Linear(200_000, 200_000, bias=False, device="meta").requires_grad_(False)
    assert count(huge, lambda images: huge(torch.zeros(images, 200_000))).of(100) == 2 * 100 * 200_000 * 4
    half = nn.Linear(64, 64, bias=False).requires_grad_(False)
    found = count(half, lambda images: half(torch.zeros(images, 64, dtype=torch.bfloat16)), dtype=torch.bfloat16)
    assert found.of(3) == 2 * 3 * 64 * 2, "an input and an output in two bytes a number"
    assert half.weight.dtype == torch.float32


def test_tensors_are_counted_while_they_live() -> None:
    given = torch.zeros(1000)
    with LiveBytes() as live:
        kept = given + 1
        for _ in range(5):
            given * 2
        view = kept[10:]
        assert (live.now, live.peak) == (4000, 8000)
        del kept
        assert live.now == 4000, "a view holds the memory"
        del view
        assert live.now == 0


def test_peak_memory_is_what_the_device_held_whoever_took_it(monkeypatch) -> None:
    """A GPU in words: 10 GB of weights in an allocator of the host's, 3 GB in torch's."""
    held = iter([9, 10, 13, 11])
    mark = SimpleNamespace(record=lambda stream: None, elapsed_time=lambda later: 0.0)
    monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: mark)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(synchronize=lambda: None))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (24 - next(held), 24))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 3)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1)
    clock = PhaseClock(lambda: 0, torch.device("cuda"))
    with clock.phase("rollout"):
        pass
    assert clock.most_held == 13
    assert peak_memory(torch.device("cuda"), clock.most_held) == 13
    assert peak_memory(torch.device("cuda"), 0) == 3, "what came and went between two looks"
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (11, 24))
    assert free_memory(torch.device("cuda")) == 13, "what torch keeps and does not use can be had"


def test_main_memory_is_told_where_the_system_tells() -> None:
    free = free_memory(torch.device("cpu"))
    assert free is None or 1e7 < free < 1e14
    assert free_memory(torch.device("meta")) is None
