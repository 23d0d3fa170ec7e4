"""Frozen layers whose weights pass through a shared buffer, as the host's do when a model does not fit."""

import numpy as np
import pytest
import torch
from mixgrpo_pack.nodes.host.streamed import borrowed, borrowing
from torch import nn


class Streamed(nn.Linear):
    """A linear layer whose weight is copied into one buffer that all of them share, right before it is used."""

    comfy_cast_weights = True
    buffer = np.empty((6, 6), dtype=np.float32)

    def forward(self, x):
        with torch.no_grad():
            weight = torch.from_numpy(Streamed.buffer)  # as from a foreign allocator: autograd sees no versions
            weight.copy_(self.weight)
        return nn.functional.linear(x, weight)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(Streamed(6, 6), nn.Tanh(), Streamed(6, 6), nn.Tanh(), Streamed(6, 6)).requires_grad_(False)


def gradient(network):
    x = torch.linspace(-1, 1, 6)[None].requires_grad_(True)
    network(x).square().sum().backward()
    return x.grad


def reference(network):
    layers = [nn.Linear(6, 6, bias=False) for _ in range(3)]
    for layer, streamed in zip(layers, (network[0], network[2], network[4]), strict=True):
        layer.weight.data.copy_(streamed.weight)
    return gradient(nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2]))


def test_weights_that_were_overwritten_are_borrowed_again(network):
    want = reference(network)
    assert not torch.allclose(gradient(network), want, atol=1e-3), "the trap is not set"
    with borrowing(network, apart=()):
        torch.testing.assert_close(gradient(network), want)
    assert not any("forward" in vars(module) for module in network.modules())


def test_layers_set_apart_and_resident_ones_are_left_alone(network):
    resident = nn.Linear(6, 6)
    whole = nn.Sequential(network, resident)
    with borrowing(whole, apart=[network[0]]):
        assert [m for m in whole.modules() if "forward" in vars(m)] == [network[2], network[4]]


def test_everything_comes_back_after_an_error(network):
    with pytest.raises(RuntimeError), borrowing(network, apart=()):
        raise RuntimeError
    assert not any("forward" in vars(module) for module in network.modules())


def test_nothing_is_kept_where_no_gradient_is_asked(network):
    x = torch.ones(1, 6)
    assert borrowed(network[0], x).grad_fn is None
    with torch.no_grad():
        assert torch.equal(borrowed(network[0], x.requires_grad_(True)), network[0](x))
