"""A gradient and a slope of the same tiny model, to be compared."""

from contextlib import contextmanager, nullcontext

import torch
from mixgrpo_pack.nodes.host.bypass_lora import HostLora
from mixgrpo_pack.nodes.host.gradients import block_checkpointing, trainable
from tiny_models import CPU, Tiny


def grid(shape, draw):
    """Multiples of 1/32 up to 1/4: sums with small steps stay exact in float32, the type of the LoRA."""
    return torch.randint(-8, 9, shape, generator=draw).float() / 32


def with_lora(model: Tiny) -> HostLora:
    """A LoRA with a say in everything, put on and injected."""
    with torch.inference_mode(False):
        lora = HostLora(model.model, rank=2, alpha=2.0, seed=0, device=CPU)
        draw = torch.Generator().manual_seed(3)
        lora.load_state({name: grid(tensor.shape, draw) for name, tensor in lora.trained.items()})
    lora.attach(model.patcher)
    model.patcher.inject_model()
    return lora


def ordinary(model: Tiny) -> Tiny:
    """With inputs that are no inference tensors, as a sampler makes them."""
    with torch.inference_mode(False):
        copies = {key: value.clone() if torch.is_tensor(value) else value for key, value in model.inputs.items()}
        return Tiny(patcher=model.patcher, family=model.family, x=model.x.clone(), inputs=copies)


@contextmanager
def training(model: Tiny, lora: HostLora, *, grad: bool, checkpointing: bool = False):
    """As the pack's model port sets it up."""
    blocks = block_checkpointing(model.model.diffusion_model, lora) if checkpointing else nullcontext()
    with torch.inference_mode(False), torch.no_grad(), trainable(model.model), blocks, torch.set_grad_enabled(grad):
        yield


def weighed(v):
    """A scalar that every element of the velocity enters with a weight of its own."""
    return (v * torch.linspace(-1, 1, v.numel(), dtype=v.dtype).view_as(v)).sum()


def gradient(model: Tiny, lora: HostLora, *, checkpointing: bool):
    """The gradient of ``weighed`` by name; zeros where none comes."""
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
        with training(model, lora, grad=False), lora.with_weights(moved):
            return weighed(model.velocity()).double().item()

    def difference(step):
        return (at(step) - at(-step)) / (2 * step)

    return (4 * difference(step) - difference(2 * step)) / 3


def along(found, direction):
    """The derivative along ``direction`` from the gradient."""
    return sum((found[name].double() * direction[name]).sum().item() for name in found)


def steepest(found):
    """The direction along which every element adds to the slope: none can hide behind another."""
    return {name: tensor.sign() / 32 for name, tensor in found.items()}


def total(found):
    """The derivative along ``steepest``."""
    return along(found, steepest(found))
