"""The LoRA on a host model: equal to the headless one, and at home among what a MODEL may carry already."""

from contextlib import contextmanager

import comfy.sd
import comfy.supported_models
import diffusers
import pytest
import torch
from comfy.ldm.modules.attention import attention_basic
from mixgrpo_pack.mixgrpo_core.models.diffusers.peft_lora import PeftLora
from mixgrpo_pack.mixgrpo_core.models.families.sd3 import SD3
from mixgrpo_pack.nodes.host.bypass_lora import ATTENTION, HostLora
from mixgrpo_pack.nodes.host.gradients import block_checkpointing, trainable
from tiny_models import CPU, Tiny, tiny

SIGMA = 0.7


def stir(lora, seed=3):
    draw = torch.Generator().manual_seed(seed)
    lora.load_state({key: torch.randn(tensor.shape, generator=draw) / 8 for key, tensor in lora.trained.items()})


def lora_on(patcher, rank=2):
    return HostLora(patcher.model, rank=rank, alpha=2.0 * rank, seed=7, device=CPU)


@contextmanager
def training(model: Tiny, lora: HostLora):
    with trainable(model.model), block_checkpointing(model.model.diffusion_model, lora):
        yield


def weighed(v):
    return (v.float() * torch.linspace(-1, 1, v.numel()).view_as(v)).sum()


def gradient(model: Tiny, lora: HostLora):
    with training(model, lora):
        weighed(model.velocity(SIGMA)).backward()
    found = {name: parameter.grad for name, parameter in lora.trained.items()}
    for parameter in lora.trained.values():
        parameter.grad = None
    return found


# The same LoRA in both homes


@pytest.fixture
def both():
    """One tiny SD3.5 in diffusers and in the host."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = diffusers.SD3Transformer2DModel(
            sample_size=16,
            num_layers=2,
            num_attention_heads=2,
            caption_projection_dim=128,
            joint_attention_dim=24,
            pooled_projection_dim=20,
            pos_embed_max_size=8,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        )
    patcher = comfy.sd.load_diffusion_model_state_dict({k: v.clone() for k, v in network.state_dict().items()})
    family = tiny("SD3.5 medium")
    return network, Tiny(patcher=patcher, family=family.family, x=family.x, inputs=family.inputs)


def test_fresh_values_are_those_of_the_headless_lora(both):
    network, model = both
    there = PeftLora(network, SD3.linears, rank=4, alpha=8.0, seed=5).state()
    here = HostLora(model.model, rank=4, alpha=8.0, seed=5, device=CPU).state()
    assert list(here) == list(there)
    assert all(torch.equal(here[name], there[name]) for name in there)
    other = HostLora(model.model, rank=4, alpha=8.0, seed=6, device=CPU).state()
    assert not torch.equal(other[next(iter(here))], here[next(iter(here))])


def test_velocities_and_gradients_are_those_of_the_headless_lora(both):
    network, model = both
    there = PeftLora(network, SD3.linears, rank=4, alpha=8.0, seed=5)
    stir(there)
    here = HostLora(model.model, rank=4, alpha=8.0, seed=5, device=CPU)
    here.load_state(there.state())
    here.attach(model.patcher)
    model.patcher.inject_model()
    v = network(
        hidden_states=model.x,
        timestep=torch.full((2,), SIGMA * 1000),
        encoder_hidden_states=model.inputs["c_crossattn"],
        pooled_projections=model.inputs["y"],
    ).sample
    weighed(v).backward()
    with torch.no_grad():
        torch.testing.assert_close(model.velocity(SIGMA), v, atol=1e-5, rtol=0)
    found = gradient(model, here)
    for name, parameter in there.trained.items():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-4, rtol=1e-4)


# Among what the MODEL carries


def test_the_users_model_stays_as_it_is():
    model = tiny("FLUX.1 dev")
    before = model.velocity()
    clone = model.patcher.clone()
    lora = lora_on(clone)
    stir(lora)
    lora.attach(clone)
    assert model.patcher.injections == {}
    assert ATTENTION not in model.patcher.model_options.get("transformer_options", {})
    clone.inject_model()
    assert not torch.equal(model.velocity(), before)
    clone.eject_model()
    assert torch.equal(model.velocity(), before)


def test_a_bypass_lora_of_the_user_is_part_of_the_base_and_comes_off_whole():
    model = tiny("SD3")
    bare = model.velocity()
    theirs = lora_on(model.patcher)
    stir(theirs, seed=1)
    file = {f"transformer.{name}": tensor for name, tensor in theirs.state().items()}
    carrying, _ = comfy.sd.load_bypass_lora_for_models(model.patcher, None, file, 1.0, 0.0)
    carrying.inject_model()
    base = model.velocity()
    assert not torch.allclose(base, bare, atol=1e-2)

    clone = carrying.clone()  # of a model in use
    ours = lora_on(clone)
    ours.attach(clone)
    carrying.eject_model()  # the host unloads a clone's sibling first
    clone.inject_model()
    torch.testing.assert_close(model.velocity(), base, atol=1e-6, rtol=0)
    stir(ours)
    active = model.velocity()
    assert not torch.allclose(active, base, atol=1e-2)
    with ours.with_weights(None):
        torch.testing.assert_close(model.velocity(), base, atol=1e-6, rtol=0)
    clone.eject_model()
    assert torch.equal(model.velocity(), bare)
    carrying.inject_model()
    assert torch.equal(model.velocity(), base)
    carrying.eject_model()
    clone.inject_model()
    assert torch.equal(model.velocity(), active)


def test_another_models_lora_is_refused_with_what_is_missing():
    lora = lora_on(tiny("FLUX.1 dev").patcher)
    with pytest.raises(ValueError, match=r"all 20 layers .* in SD3, missing are diffusion_model\.double_blocks\.0"):
        lora.attach(tiny("SD3").patcher)


def test_an_attention_without_gradient_is_replaced_and_a_patched_one_refused():
    model = tiny("SD3")
    clone = model.patcher.clone()
    lora = lora_on(clone)
    stir(lora)
    lora.attach(clone)
    attend = clone.model_options["transformer_options"][ATTENTION]
    q = torch.randn(1, 5, 8, requires_grad=True)

    def attention_sage(q, k, v, heads, **options):
        return torch.zeros_like(q).detach()

    assert attend(attention_sage, q, q, q, 2).requires_grad
    expected = attention_basic(q, q, q, 2)
    torch.testing.assert_close(attend(attention_sage, q, q, q, 2), expected, atol=1e-6, rtol=0)

    patched = model.patcher.clone()
    patched.model_options["transformer_options"] = {ATTENTION: lambda own, *args, **options: attention_sage(*args)}
    lora.attach(patched)
    brought = patched.model_options["transformer_options"][ATTENTION]
    with torch.no_grad():
        assert not brought(attention_basic, q, q, q, 2).any()
    with pytest.raises(RuntimeError, match="without that patch"):
        brought(attention_basic, q, q, q, 2)


# Types of the base


def test_a_bf16_base_gives_float32_gradients_in_the_direction_of_float32():
    exact, coarse = tiny("SD3"), tiny("SD3", torch.bfloat16)
    found = []
    for model in (exact, coarse):
        lora = lora_on(model.patcher)
        stir(lora)
        lora.attach(model.patcher)
        model.patcher.inject_model()
        assert model.velocity().dtype == model.x.dtype
        found.append(gradient(model, lora))
        assert {tensor.dtype for tensor in found[-1].values()} == {torch.float32}
    one, other = (torch.cat([tensor.flatten() for tensor in each.values()]) for each in found)
    assert torch.cosine_similarity(one, other, dim=0) > 0.999
