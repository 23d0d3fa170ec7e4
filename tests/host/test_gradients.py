"""The gradient of every family of models that can be made tiny, against the slope of its own velocity.

Everything happens as in a node: models are made in inference mode, and it is on around each step of the training.
"""

from contextlib import contextmanager, nullcontext

import comfy.model_management
import pytest
import torch
from mixgrpo_pack.nodes.host import gradients
from mixgrpo_pack.nodes.host.bypass_lora import HostLora
from mixgrpo_pack.nodes.host.gradients import block_checkpointing, trainable
from tiny_models import CPU, FAMILIES, Tiny, tiny

# The host rounds to float32 inside of these networks of float64 (positions, norms); the others are float64 throughout.
EXACT = {"SD3", "SD3.5 medium", "Qwen-Image", "AuraFlow"}
PROVEN = [name for name in FAMILIES if name != "Ernie-Image"]
IN_PLACE = ["FLUX.1 dev", "FLUX.2", "Chroma"]


def grid(shape, draw):
    """Multiples of 1/32 up to 1/4: sums with small steps stay exact in float32, the type of the LoRA."""
    return torch.randint(-8, 9, shape, generator=draw).float() / 32


def wearing(model: Tiny) -> HostLora:
    """A LoRA with a say in everything, put on and injected."""
    with torch.inference_mode(False):
        lora = HostLora(model.model, rank=2, alpha=2.0, seed=0, device=CPU)
        draw = torch.Generator().manual_seed(3)
        lora.load_state({name: grid(tensor.shape, draw) for name, tensor in lora.trained.items()})
    lora.attach(model.patcher)
    model.patcher.inject_model()
    return lora


@pytest.fixture(autouse=True)
def as_in_a_node():
    with torch.inference_mode():
        yield


def ordinary(model: Tiny) -> Tiny:
    """With inputs that are no inference tensors, as a sampler makes them."""
    with torch.inference_mode(False):
        copies = {key: value.clone() if torch.is_tensor(value) else value for key, value in model.inputs.items()}
        return Tiny(patcher=model.patcher, family=model.family, x=model.x.clone(), inputs=copies)


@contextmanager
def training(model: Tiny, lora: HostLora, *, grad: bool, checkpointing: bool = False):
    blocks = block_checkpointing(model.model.diffusion_model, lora) if checkpointing else nullcontext()
    with torch.inference_mode(False), torch.no_grad(), trainable(model.model), blocks, torch.set_grad_enabled(grad):
        yield


def weighed(v):
    """A scalar that every element of the velocity enters with a weight of its own."""
    return (v * torch.linspace(-1, 1, v.numel(), dtype=v.dtype).view_as(v)).sum()


def gradient(model: Tiny, lora: HostLora, *, checkpointing: bool):
    with training(model, lora, grad=True, checkpointing=checkpointing):
        weighed(model.velocity()).backward()
    found = {}
    for name, parameter in lora.trained.items():
        found[name] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        parameter.grad = None
    return found


def slope(model: Tiny, lora: HostLora, direction, step=2**-10):
    """The derivative along ``direction`` from values alone: two central differences, without their quadratic error."""
    state = {name: tensor.clone() for name, tensor in lora.state().items()}

    def at(distance):
        moved = {name: state[name] + distance * direction[name] for name in state}
        with training(model, lora, grad=False), lora.using(moved):
            return weighed(model.velocity()).double().item()

    def difference(step):
        return (at(step) - at(-step)) / (2 * step)

    return (4 * difference(step) - difference(2 * step)) / 3


def along(found, direction):
    return sum((found[name].double() * direction[name]).sum().item() for name in found)


@pytest.mark.parametrize("name", PROVEN)
def test_the_gradient_is_the_slope_of_the_velocity(name):
    model = ordinary(tiny(name, torch.float64))
    lora = wearing(model)
    found = gradient(model, lora, checkpointing=False)
    draw = torch.Generator().manual_seed(4)
    # along the signs every element adds to the slope, none can hide behind another; along the random one they mix
    steepest = {name: tensor.sign() / 32 for name, tensor in found.items()}
    random = {name: grid(tensor.shape, draw) for name, tensor in found.items()}
    size = along({name: tensor.abs() for name, tensor in found.items()}, dict.fromkeys(found, 1 / 32))
    for direction in (steepest, random):
        error = abs(slope(model, lora, direction) - along(found, direction)) / size
        print(model.family.config.__name__, error)
        assert error < (1e-6 if name in EXACT else 3e-4)


@pytest.mark.parametrize("name", PROVEN)
def test_checkpointing_changes_no_gradient_and_every_layer_has_one(name):
    model = ordinary(tiny(name))
    lora = wearing(model)
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

    lora = wearing(model)
    with training(model, lora, grad=False):
        inside = model.velocity()
    with training(model, lora, grad=True):
        assert torch.equal(model.velocity(), inside)
    assert not torch.equal(inside, base)
    with training(model, lora, grad=False), lora.using(None):
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
    lora = wearing(model)
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
    lora = wearing(model)
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
    lora = wearing(model)
    in_place_again(monkeypatch)
    with pytest.raises(RuntimeError, match="inplace|writes into"):
        gradient(model, lora, checkpointing=checkpointing)


@pytest.mark.parametrize("name", IN_PLACE)
def test_additions_in_place_would_falsify_what_is_computed_again(name, monkeypatch):
    """Why there is a mode: without it, and without the check of the inputs, the gradient is wrong in silence."""
    model = ordinary(tiny(name))
    for tensor in (model.x, model.inputs["c_crossattn"]):  # else torch notices that a block's second run is of
        tensor.requires_grad_(True)  # another kind, for its inputs have no gradient the first time
    lora = wearing(model)
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
    lora = wearing(model)
    expected = gradient(model, lora, checkpointing=True)
    other = {name: tensor * 2 for name, tensor in lora.state().items()}
    with training(model, lora, grad=True, checkpointing=True):
        loss = weighed(model.velocity())
        with torch.no_grad(), lora.using(None):
            model.velocity()
        with lora.using(other):
            loss.backward()
    assert all(torch.equal(lora.trained[name].grad, expected[name]) for name in expected)
