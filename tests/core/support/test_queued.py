"""What goes to a GPU without waiting for it has the numbers that it has on the CPU."""

import pytest
import torch
from pretend_gpu import GPU, PretendGpu

from mixgrpo_core.support.queued import index_on, scalar_on, sent
from mixgrpo_core.support.seeds import seeded_noise

CPU = torch.device("cpu")


@pytest.mark.parametrize("rows", [[], [2], [0, 1, 2], [3, 4], [4, 3], [0, 2, 4], [1, 1, 2]], ids=str)
def test_an_index_chooses_its_rows_and_waits_for_nothing(rows):
    chosen, numbers = torch.tensor(rows, dtype=torch.long), torch.arange(10.0).view(5, 2)
    assert torch.equal(numbers[index_on(CPU, chosen)], numbers[rows])
    with PretendGpu() as gpu:
        there = sent(numbers, GPU)
        found = there[index_on(GPU, chosen)]
        assert not +gpu.waits
        assert torch.equal(found.cpu(), numbers[rows])
        assert sent(there, GPU) is there


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_scalar_is_rounded_as_a_copy_is(dtype):
    level = torch.linspace(1, 0, 7)[3] / 3
    with PretendGpu() as gpu:
        found = scalar_on(GPU, level, dtype)
        assert not +gpu.waits
        assert found.shape == ()
        assert torch.equal(found.cpu(), level.to(dtype))


def test_noise_is_drawn_on_the_cpu_and_sent():
    expected = torch.randn(2, 3, generator=torch.Generator().manual_seed(5))
    assert torch.equal(seeded_noise(5, (2, 3)), expected)
    with PretendGpu() as gpu:
        found = seeded_noise(5, (2, 3), GPU)
        assert found.device == GPU
        assert not +gpu.waits
        assert torch.equal(found.cpu(), expected)


def test_the_pretended_gpu_counts_what_waits_and_refuses_what_a_gpu_refuses():
    with PretendGpu() as gpu:
        there = sent(torch.arange(6.0).view(3, 2), GPU)
        for wait in (
            lambda: there[torch.tensor([0, 2])],
            lambda: there[there[:, 0] > 1],
            lambda: there.sum().item(),
            lambda: there.nonzero(),
            lambda: torch.unique(there),
            lambda: there.cpu(),
            lambda: torch.ones(2).to(GPU),
            lambda: torch.ones(2).to(GPU, non_blocking=True),  # not pinned
            lambda: torch.tensor([1.0], device=GPU),
            lambda: torch.cuda.synchronize(GPU),
        ):
            before = gpu.waits.total()
            wait()
            assert gpu.waits.total() == before + 1
        with pytest.raises(AssertionError, match="among those of the GPU"):
            there + torch.ones(3, 2)
