"""Blocks of which two processes hold a half each, and which they call as they like."""

from copy import deepcopy

import torch
from ranks import together
from torch import nn
from torch.distributed.tensor import DTensor

from mixgrpo_core.models.diffusers.shards import Shards
from mixgrpo_core.support.ranks import ALONE


class Block(nn.Module):
    """A frozen layer, whose output is scaled by trained numbers."""

    def __init__(self):
        super().__init__()
        self.base, self.scale = nn.Linear(6, 6).requires_grad_(False), nn.Parameter(torch.linspace(1, 2, 6))

    def forward(self, x, y):
        return torch.tanh(self.base(x)) * self.scale + y, y + 0.1 * x.sin()


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(Block() for _ in range(4))

    def forward(self, x):
        y = x
        for block in self.blocks:
            x, y = block(x, y)
        return x + y


def work(ranks, network, calls):
    """The gradient of all ranks' calls; between forward and backward somebody else asks."""
    network = deepcopy(network)
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    shards = None
    if ranks.size > 1:
        shards = Shards(network, list(network.blocks), trained, ranks, torch.device("cpu"))
    for call in calls if ranks.size == 1 else calls[2 * ranks.rank :][: 2 + 3 * ranks.rank]:
        made = network(torch.linspace(-1, call, 6)[None])
        if call % 2:
            with torch.no_grad():
                network(torch.zeros(1, 6))
        made.square().sum().backward()
    ranks.sum_gradients(trained)
    whole = sum(not isinstance(block.base.weight, DTensor) for block in network.blocks)
    return [weight.grad for weight in trained], whole, shards and (shards.own, shards.whole, shards.in_flight)


def test_ranks_that_call_unevenly_have_the_gradient_of_a_whole_network(tmp_path):
    network = Network()
    expected, _, _ = work(ALONE, network, range(1, 6))
    for gradient, whole, sizes in together(2, tmp_path, work, network, range(1, 6)):
        assert whole == 1, "one block at a time"
        assert sizes == (4 * 4 * 21, 4 * 4 * 42, 4 * 42)
        for one, other in zip(gradient, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
