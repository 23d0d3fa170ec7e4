"""The gradient of every family of models that can be made tiny, against the slope of its own velocity.

Everything happens as in a node: models are made in inference mode, and it is on around each step of the training.
"""

import comfy.model_management
import pytest
import torch
from gradient_checks import along, gradient, grid, ordinary, slope, steepest, total, training, weighed, with_lora
from mixgrpo_pack.nodes.host import gradients
from mixgrpo_pack.nodes.host.bypass_lora import HostLora
from mixgrpo_pack.nodes.host.gradients import trainable
from tiny_models import CPU, FAMILIES, Tiny, tiny

# The host rounds to float32 inside of these networks of float64 (positions, norms); the others are float64 throughout.
EXACT = {"SD3", "SD3.5 medium", "Qwen-Image", "AuraFlow"}
PROVEN = [name for name in FAMILIES if name != "Ernie-Image"]
IN_PLACE = ["FLUX.1 dev", "FLUX.2", "Chroma"]


@pytest.fixture(autouse=True)
def as_in_a_node():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("name", PROVEN)
def test_the_gradient_is_the_slope_of_the_velocity(name):
    model = ordinary(tiny(name, torch.float64))
    lora = with_lora(model)
    found = gradient(model, lora, checkpointing=False)
    draw = torch.Generator().manual_seed(4)
    random = {key: grid(tensor.shape, draw) for key, tensor in found.items()}
    for direction in (steepest(found), random):
        error = abs(slope(model, lora, direction) - along(found, direction)) / total(found)
        assert error < (1e-8 if name in EXACT else 3e-5)


@pytest.mark.parametrize("name", PROVEN)
def test_checkpointing_changes_no_gradient_and_every_layer_has_one(name):
    model = ordinary(tiny(name))
    lora = with_lora(model)
    found, again = (gradient(model, lora, checkpointing=checkpointing) for checkpointing in (False, True))
    assert all(torch.equal(found[key], again[key]) for key in found)
    still = {key.rsplit(".", 2)[0] for key in found if not found[key].abs().sum() > 0}
    assert still == {part for part in still if part.endswith(model.family.unused)}
    assert all(any(part.endswith(end) for part in still) for end in model.family.unused)


@pytest.mark.parametrize("name", PROVEN)
def test_the_velocity_is_the_hosts_own(name):
    """Bit for bit: without a LoRA, with a fresh one, and with operators out of place where a gradient flows."""
    model = ordinary(tiny(name))
    with training(model, None, grad=False):
        base = model.velocity()
    with torch.inference_mode(False):
        fresh = HostLora(model.model, rank=2, alpha=2.0, seed=0, device=CPU)
    fresh.attach(model.patcher)
    model.patcher.inject_model()
    for grad in (False, True):
        with training(model, fresh, grad=grad, checkpointing=True):
            assert torch.equal(model.velocity(), base)
    model.patcher.eject_model()

    lora = with_lora(model)
    with training(model, lora, grad=False):
        inside = model.velocity()
    with training(model, lora, grad=True):
        assert torch.equal(model.velocity(), inside)
    assert not torch.equal(inside, base)
    with training(model, lora, grad=False), lora.with_weights(None):
        assert torch.equal(model.velocity(), base)


def interrupted(model: Tiny, lora: HostLora):
    with training(model, lora, grad=True, checkpointing=True):
        weighed(model.velocity()).backward()
        raise ZeroDivisionError


@pytest.mark.parametrize("name", PROVEN)
def test_afterwards_the_model_is_as_before(name):
    model = tiny(name)
    kept = {key: tensor.clone() for key, tensor in model.model.state_dict().items()}
    before = model.velocity()
    lora = with_lora(model)
    with pytest.raises(ZeroDivisionError):
        interrupted(ordinary(model), lora)
    model.patcher.eject_model()
    assert torch.equal(model.velocity(), before)
    state = model.model.state_dict()
    assert state.keys() == kept.keys()
    assert all(torch.equal(state[key], kept[key]) for key in kept)
    assert not comfy.model_management.in_training
    assert torch.is_inference_mode_enabled()
    hooked = [path for path, module in model.model.named_modules() if "forward" in module.__dict__]
    assert hooked == []


def test_weights_of_a_node_are_inference_tensors_and_become_ordinary_ones_in_place():
    model = tiny("SD3")
    old = dict(model.model.named_parameters())
    assert all(parameter.is_inference() for parameter in old.values())
    lora = with_lora(model)
    with torch.inference_mode(False), pytest.raises(RuntimeError, match="[Ii]nference tensor"):
        weighed(ordinary(model).velocity()).backward()
    gradient(ordinary(model), lora, checkpointing=False)
    for name, parameter in model.model.named_parameters():
        assert not parameter.is_inference()
        assert parameter.data_ptr() == old[name].data_ptr()
        assert torch.equal(parameter, old[name])


def test_the_base_gets_its_requires_grad_back():
    model = tiny("SD3")
    model.model.diffusion_model.final_layer.linear.weight = torch.nn.Parameter(torch.ones(64, 128))
    with trainable(model.model):
        assert not any(parameter.requires_grad for parameter in model.model.parameters())
    wanted = [name for name, parameter in model.model.named_parameters() if parameter.requires_grad]
    assert wanted == ["diffusion_model.final_layer.linear.weight"]


# What could falsify a gradient


def in_place_again(monkeypatch):
    monkeypatch.setattr(
        gradients.OutOfPlace, "__torch_function__", lambda self, f, types, a=(), k=None: f(*a, **(k or {}))
    )


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", IN_PLACE)
def test_additions_in_place_are_refused_where_they_stay(name, checkpointing, monkeypatch):
    model = ordinary(tiny(name))
    lora = with_lora(model)
    in_place_again(monkeypatch)
    with pytest.raises(RuntimeError, match="inplace|writes into"):
        gradient(model, lora, checkpointing=checkpointing)


@pytest.mark.parametrize("name", IN_PLACE)
def test_additions_in_place_would_falsify_what_is_computed_again(name, monkeypatch):
    """Why there is a mode: without it, and without the check of the inputs, the gradient is wrong in silence."""
    model = ordinary(tiny(name))
    for tensor in (model.x, model.inputs["c_crossattn"]):  # else torch notices that a block's second run is of
        tensor.requires_grad_(True)  # another kind, for its inputs have no gradient the first time
    lora = with_lora(model)
    right = gradient(model, lora, checkpointing=True)
    in_place_again(monkeypatch)
    monkeypatch.setattr(gradients._Run, "__call__", lambda run: run._forward(*run._args, **run._options))
    wrong = gradient(model, lora, checkpointing=True)
    assert max((wrong[key] - right[key]).norm() / right[key].norm() for key in right) > 0.01


def test_a_method_called_for_its_effect_keeps_it():
    x = torch.ones(3)
    with torch.inference_mode(False), torch.enable_grad(), gradients.OutOfPlace():
        weight = torch.full((3,), 2.0, requires_grad=True)
        made = weight * 1
        same = made
        made.add_(1)
        assert same is made
        assert same.tolist() == [3, 3, 3]
        made += x
        made -= 0.5
        made *= weight
        made /= 4
        assert same.tolist() == [3, 3, 3]
        assert made.tolist() == [1.75, 1.75, 1.75]
        half = (weight * 1).bfloat16()
        half += torch.full((3,), 1 / 256)
        assert half.dtype == torch.bfloat16
    with gradients.OutOfPlace():
        kept = x
        x += 1
        assert kept is x


def test_another_lora_worn_between_forward_and_backward_changes_nothing():
    model = ordinary(tiny("FLUX.1 dev"))
    lora = with_lora(model)
    expected = gradient(model, lora, checkpointing=True)
    other = {name: tensor * 2 for name, tensor in lora.state().items()}
    with training(model, lora, grad=True, checkpointing=True):
        loss = weighed(model.velocity())
        with torch.no_grad(), lora.with_weights(None):
            model.velocity()
        with lora.with_weights(other):
            loss.backward()
    assert all(torch.equal(lora.trained[name].grad, expected[name]) for name in expected)
