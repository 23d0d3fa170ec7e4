"""Gradients through the host's quantised weights: those of the same model with its weights written out."""

import pytest
import torch
from gradient_checks import gradient, ordinary, slope, steepest, total, training, with_lora
from quantised_models import FORMATS, SCALED, quantise_activations, quantised
from torch.utils.flop_counter import FlopCounterMode


@pytest.fixture(autouse=True)
def as_in_a_node():
    with torch.inference_mode():
        yield


def flat(found):
    return torch.cat([tensor.flatten() for tensor in found.values()])


@pytest.mark.parametrize("form", SCALED)
@pytest.mark.parametrize("name", ["SD3.5 medium", "FLUX.1 dev"])
def test_weights_that_are_dequantised_for_each_layer_give_the_exact_gradient(name, form):
    small, written_out = map(ordinary, quantised(name, form))
    ours, theirs = with_lora(small), with_lora(written_out)
    found = gradient(small, ours, checkpointing=True)
    expected = gradient(written_out, theirs, checkpointing=False)
    assert (flat(found) - flat(expected)).norm() < 1e-5 * flat(expected).norm()
    # float32 throughout: the values of the difference quotient are good to a few 1e-6
    assert slope(small, ours, steepest(found), step=2**-7) == pytest.approx(total(found), rel=3e-5)


# mxfp8's own arithmetic does not run on a CPU
@pytest.mark.parametrize("form", [form for form in FORMATS if form != "mxfp8"])
@pytest.mark.parametrize("name", ["SD3.5 medium", "FLUX.1 dev"])
def test_where_activations_are_quantised_too_the_gradient_is_that_of_the_unrounded_model(name, form):
    """A velocity in stairs has no slope to compare with; the host passes gradients through the rounding."""
    small, written_out = map(ordinary, quantised(name, form))
    quantise_activations(small)
    ours, theirs = with_lora(small), with_lora(written_out)
    found = [gradient(small, ours, checkpointing=checkpointing) for checkpointing in (False, True)]
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    expected = gradient(written_out, theirs, checkpointing=False)
    assert torch.cosine_similarity(flat(found[0]), flat(expected), dim=0) > (0.98 if form == "nvfp4" else 0.99)
    velocities = []
    for grad in (False, True):
        with training(small, ours, grad=grad):
            velocities.append(small.velocity())
    assert torch.equal(*velocities), "an update starts from the rollout's own numbers"


@pytest.mark.parametrize("activations", [False, True])
def test_the_backward_pass_multiplies_no_more_than_that_of_plain_weights(activations):
    small, written_out = map(ordinary, quantised("FLUX.1 dev", "float8_e4m3fn"))
    if activations:
        quantise_activations(small)
    operations = []
    for model in (small, written_out):
        lora = with_lora(model)
        with FlopCounterMode(display=False) as counter:
            gradient(model, lora, checkpointing=False)
        operations.append(counter.get_total_flops())
    assert operations[0] == operations[1]


def test_quantised_weights_of_a_node_stay_quantised():
    small, _ = quantised("SD3", "float8_e4m3fn")
    layer = small.model.diffusion_model.joint_blocks[0].x_block.attn.qkv
    kind, stored = type(layer.weight), layer.weight._qdata.clone()
    assert layer.weight.is_inference()
    lora = with_lora(small)
    gradient(ordinary(small), lora, checkpointing=True)
    assert type(layer.weight) is kind
    assert not layer.weight.is_inference()
    assert torch.equal(layer.weight._qdata.view(torch.uint8), stored.view(torch.uint8))
