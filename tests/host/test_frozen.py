"""A quantised MODEL goes on as the host's own after it was worked on outside of inference mode."""

import threading

import comfy.memory_management as memory
import pytest
import torch
from mixgrpo_pack.nodes.host.frozen import freeze, quantised_inference_weights, thaw
from mixgrpo_pack.nodes.host.gradients import trainable
from quantised_models import FORMATS, quantised


@pytest.mark.parametrize("form", FORMATS)
def test_a_quantised_model_can_be_moved_in_inference_mode_after_a_training(form):
    with torch.inference_mode():
        model, _ = quantised("FLUX.1 dev", form)
        before = model.velocity()
        places = quantised_inference_weights(model.model)
    assert len(places) == 26, "every linear layer of the blocks"
    with torch.inference_mode(False), torch.no_grad():
        model.model.to("cpu")
        with trainable(model.model):
            pass
        assert not quantised_inference_weights(model.model)
    freeze(places)
    with torch.inference_mode():
        model.model.to("cpu")
        assert torch.equal(model.velocity(), before)


def test_what_the_host_wrote_on_a_weight_stays_on_it(tmp_path):
    """Its dynamic memory reads a weight's own type and its place in the file."""
    drawn, path = torch.randn(8, 8), tmp_path / "weight"
    path.write_bytes(drawn.numpy().tobytes())
    layer = torch.nn.Linear(8, 8, bias=False)
    with torch.inference_mode(), path.open("rb") as file:
        layer.weight = torch.nn.Parameter(drawn.clone(), requires_grad=False)
        place = memory.TensorFileSlice(file, threading.Lock(), 0, 4 * 64)
        layer.weight.untyped_storage()._comfy_tensor_file_slice = place
        layer.weight._model_dtype = torch.bfloat16
        layer.register_buffer("scale", torch.ones(3))
        layer.scale._model_dtype = torch.float16
        with torch.inference_mode(False):
            thaw(layer)
        read = torch.zeros(8, 8)
        assert memory.read_tensor_file_slice_into(layer.weight, read)
    assert torch.equal(read, drawn)
    assert not layer.weight.is_inference()
    weight, scale = memory.tensors_to_geometries([layer.weight, layer.scale])
    assert (weight.dtype, scale.dtype) == (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("form", FORMATS)
def test_a_quantised_weight_is_neither_copied_nor_forgotten(form):
    with torch.inference_mode():
        model, _ = quantised("FLUX.1 dev", form)
        places = quantised_inference_weights(model.model)
        module, name = places[0]
        stored = module._parameters[name]._qdata
        stored.untyped_storage()._comfy_tensor_file_slice = "its place"
        module._parameters[name].of_the_host = "a mark"
    for step in (lambda: thaw(model.model), lambda: freeze(places)):
        with torch.inference_mode(False):
            step()
        weight = module._parameters[name]
        assert weight._qdata.data_ptr() == stored.data_ptr()
        assert weight._qdata.untyped_storage()._comfy_tensor_file_slice == "its place"
        assert weight.of_the_host == "a mark"
