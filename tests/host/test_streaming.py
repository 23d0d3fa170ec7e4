"""Gradients through layers whose weights come and go: a CPU plays the host that streams them through one buffer."""

import comfy.ops
import pytest
import torch
from gradient_checks import gradient, ordinary, wearing
from mixgrpo_pack.nodes.host import streaming
from tiny_models import tiny


@pytest.fixture(autouse=True)
def as_in_a_node():
    with torch.inference_mode():
        yield


class Buffer:
    """Weights of all layers through the same memory, each time with what is there no more behind it."""

    def __init__(self) -> None:
        self.memory = torch.empty(1 << 16)

    def cast(self, layer, x=None, **options):
        """Stands in for the host's ``cast_bias_weight``."""
        at, parts = 0, []
        for tensor in (layer.weight, layer.bias):
            if tensor is None:
                parts.append(None)
                continue
            # the host's tensors over its buffers know nothing of each other
            part = torch.empty(0).set_(self.memory.untyped_storage(), at, tensor.shape)
            with torch.no_grad():
                part.copy_(tensor)
            parts.append(part)
            at += tensor.numel()
        return (*parts, (None, None, None)) if options.get("offloadable") else tuple(parts)


def streamed(name, monkeypatch):
    model = ordinary(tiny(name))
    with torch.inference_mode(False):
        monkeypatch.setattr(comfy.ops, "cast_bias_weight", Buffer().cast)
    for module in model.model.diffusion_model.modules():
        if hasattr(module, "comfy_cast_weights"):
            module.comfy_cast_weights = True
            module._v = object()
    return model


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["SD3.5 medium", "FLUX.1 dev", "Z-Image"])
def test_streamed_weights_give_the_gradient_of_weights_at_rest(name, checkpointing, monkeypatch):
    rest = ordinary(tiny(name))
    expected = gradient(rest, wearing(rest), checkpointing=checkpointing)
    model = streamed(name, monkeypatch)
    found = gradient(model, wearing(model), checkpointing=checkpointing)
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-4, atol=1e-5)


def test_kept_buffers_would_falsify_the_gradient(monkeypatch):
    """Why the backward pass asks for weights again."""
    rest = ordinary(tiny("SD3"))
    expected = gradient(rest, wearing(rest), checkpointing=True)
    model = streamed("SD3", monkeypatch)
    monkeypatch.setattr(streaming, "_streamed", lambda layer, x: False)
    found = gradient(model, wearing(model), checkpointing=True)
    assert max((found[key] - expected[key]).norm() / (1e-6 + expected[key].norm()) for key in found) > 0.1
