"""Gradients through layers whose weights come and go: a CPU plays the host that streams them through one buffer."""

import comfy.ops
import pytest
import torch
from canvas import loaded, policy
from gradient_checks import gradient, ordinary, with_lora
from mixgrpo_pack.nodes.host import streaming
from streamed import stream
from tiny_models import tiny


@pytest.fixture(autouse=True)
def as_in_a_node():
    with torch.inference_mode():
        yield


def streamed(name, monkeypatch):
    model = ordinary(tiny(name))
    stream(model.model.diffusion_model, monkeypatch)
    return model


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["SD3.5 medium", "FLUX.1 dev", "Z-Image"])
def test_streamed_weights_give_the_gradient_of_weights_at_rest(name, checkpointing, monkeypatch):
    rest = ordinary(tiny(name))
    expected = gradient(rest, with_lora(rest), checkpointing=checkpointing)
    model = streamed(name, monkeypatch)
    found = gradient(model, with_lora(model), checkpointing=checkpointing)
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-4, atol=1e-5)


def test_kept_buffers_would_falsify_the_gradient(monkeypatch):
    """Why the backward pass asks for weights again."""
    rest = ordinary(tiny("SD3"))
    expected = gradient(rest, with_lora(rest), checkpointing=True)
    model = streamed("SD3", monkeypatch)
    monkeypatch.setattr(streaming, "_made_for_the_call", lambda layer, x: False)
    found = gradient(model, with_lora(model), checkpointing=True)
    assert max((found[key] - expected[key]).norm() / (1e-6 + expected[key].norm()) for key in found) > 0.1


def test_a_vae_that_is_streamed_gives_the_gradient_of_one_at_rest(monkeypatch):
    with torch.inference_mode(False), policy(*loaded()) as home:
        x = home.noise(5, 1).requires_grad_(True)

        def gradient():
            return torch.autograd.grad(home.decode(x, grad=True).square().mean(), x)[0]

        expected = gradient()
        stream(home.vae.first_stage_model, monkeypatch)
        torch.testing.assert_close(gradient(), expected)


class Scaled(comfy.ops.manual_cast.Linear):
    def forward(self, x):
        return 3 * super().forward(x / 2)


class OfItsOwn(comfy.ops.manual_cast.Linear):
    def forward_comfy_cast_weights(self, x):
        weight, bias, _ = comfy.ops.cast_bias_weight(self, x, offloadable=True)
        return x @ weight.T + bias


@pytest.mark.parametrize("kind", [comfy.ops.manual_cast.Linear, Scaled, OfItsOwn, comfy.ops.manual_cast.RMSNorm])
def test_layers_of_every_kind_give_their_own_gradient(kind):
    """Also where other custom nodes make a layer of their own."""
    with torch.inference_mode(False):
        torch.manual_seed(0)
        layer = kind(4, 6) if kind is not comfy.ops.manual_cast.RMSNorm else kind(4)
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter).requires_grad_(False)
        x = torch.randn(2, 3, 4, requires_grad=True)
        expected = torch.autograd.grad(layer(x).square().sum(), x)[0]
        layer._v = object()
        with streaming.weights_asked_again(layer):
            y = layer(x)
        torch.testing.assert_close(torch.autograd.grad(y.square().sum(), x)[0], expected)


def test_the_hosts_fast_float8_computes_alike_in_rollouts_and_updates(caplog):
    """With a gradient wanted, the host would leave its fast way, so that an update began from other numbers."""
    with torch.inference_mode(False), caplog.at_level("INFO"):
        torch.manual_seed(0)
        layer = comfy.ops.fp8_ops.Linear(32, 16)
        layer.weight = torch.nn.Parameter(torch.randn(16, 32).to(torch.float8_e4m3fn), requires_grad=False)
        layer.bias = torch.nn.Parameter(torch.randn(16), requires_grad=False)
        given = 300 * torch.randn(2, 3, 32)
        x = given.clone().requires_grad_()
        with torch.no_grad():
            of_the_host = layer(given.clone())
        with streaming.weights_asked_again(layer):
            with torch.no_grad():
                rollout = layer(x)
            update = layer(x)
        dy = torch.randn_like(update)
        assert torch.equal(rollout, of_the_host)
        assert torch.equal(update, rollout)
        assert torch.equal(x, given)
        torch.testing.assert_close(torch.autograd.grad(update, x, dy)[0], dy @ layer.weight.float())
    assert not caplog.records
