"""The SD3 model behind the port: velocity, guidance, counting, weights active for a while, gradients, precision."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from tiny_sd3 import (
    PROMPT,
    UNUSED,
    gradients,
    kept,
    load,
    make_folder,
    same,
    stir,
    velocity_of,
    weigh,
    without_gradient,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "sd3")


# What the velocity is


def test_the_velocity_is_the_networks_own_at_the_exact_timestep(folder: Path) -> None:
    pipe = StableDiffusion3Pipeline.from_pretrained(folder)
    embeds, _, pooled, _ = pipe.encode_prompt(PROMPT, None, None, do_classifier_free_guidance=False)
    model = load(folder)
    for sigma in (1.0, 0.70049, 0.0123):
        x, time = model.noise(3, 2), torch.tensor([sigma * 1000] * 2)
        with torch.no_grad():
            expected = pipe.transformer(x, embeds.expand(2, -1, -1), pooled.expand(2, -1), time).sample
        torch.testing.assert_close(velocity_of(model, sigma), expected, rtol=0, atol=1e-6)
    assert not torch.allclose(velocity_of(model, 0.70049), velocity_of(model, 0.7), rtol=0, atol=1e-6)


def test_shapes_types_and_resolution_come_from_the_folder(folder: Path) -> None:
    model = load(folder, dtype=torch.bfloat16)
    assert (model.latent_shape, model.resolution, model.grid.shift) == ((16, 8, 8), (16, 16), 3.0)
    assert velocity_of(model).dtype == torch.float32
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    wide = load(folder, resolution=(16, 24))
    assert wide.latent_shape == (16, 8, 12)
    assert velocity_of(wide).shape == (2, 16, 8, 12)
    assert wide.decode(wide.noise(0, 3)).shape == (3, 16, 24, 3)


def test_guidance_is_the_formula_of_two_separate_calls(folder: Path) -> None:
    plain, guided = stir(load(folder)), stir(load(folder, guidance=3.5))
    positive, negative = velocity_of(plain), velocity_of(plain, prompt="")
    torch.testing.assert_close(velocity_of(guided), negative + 3.5 * (positive - negative), rtol=0, atol=5e-6)


def test_evaluations_count_rows_of_the_network_and_not_its_recomputation(folder: Path) -> None:
    plain, guided = load(folder), load(folder, guidance=2.0, gradient_checkpointing=True)
    velocity_of(plain, rows=3)
    assert plain.evaluations == 3
    velocity_of(guided, rows=3)
    assert guided.evaluations == 6
    gradients(guided)
    assert guided.evaluations == 10
    with guided.with_weights(None):
        velocity_of(guided, rows=1)
    assert guided.evaluations == 12


def test_noise_is_a_function_of_its_seed(folder: Path) -> None:
    model = load(folder)
    assert torch.equal(model.noise(5, 2), model.noise(5, 2))
    assert not torch.equal(model.noise(5, 2), model.noise(6, 2))


def test_decoding_is_the_pipelines(folder: Path) -> None:
    pipe, model = StableDiffusion3Pipeline.from_pretrained(folder), load(folder)
    x = model.noise(2, 3)
    with torch.no_grad():
        expected = pipe.vae.decode(x / 1.5305 + 0.0609).sample / 2 + 0.5
    images = model.decode(x)
    torch.testing.assert_close(images, expected.permute(0, 2, 3, 1).clamp(0, 1), rtol=0, atol=1e-6)
    assert not images.requires_grad
    x.requires_grad_(True)
    model.decode(x, grad=True).sum().backward()
    assert x.grad.abs().sum() > 0


# The LoRA


def test_a_fresh_lora_is_the_base_model_and_sits_on_attention_and_mlp_only(folder: Path) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    model, again, other = load(folder, seed=1), load(folder, seed=1), load(folder, seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    with model.with_weights(None):
        base = velocity_of(model)
    assert torch.equal(velocity_of(model), base)
    assert same(model.parameters(), again.parameters())
    assert not same(model.parameters(), other.parameters())
    down = [tensor for name, tensor in model.lora_state().items() if name.endswith("to_q.lora_A.weight")]
    assert not torch.equal(down[0], down[1])
    assert all(0.9 / 4 < tensor.abs().max() <= 1 / 4 for tensor in down)
    layers = {name.split(".", 2)[2].rsplit(".", 2)[0] for name in model.lora_state()}
    attention = {"to_q", "to_k", "to_v", "to_out.0"}
    assert layers == (
        {f"attn.{name}" for name in attention | {"add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"}}
        | {f"attn2.{name}" for name in attention}
        | {f"{mlp}.net.{part}" for mlp in ("ff", "ff_context") for part in ("0.proj", "2")}
    )


def test_only_the_lora_is_trained_in_the_order_of_its_state(folder: Path) -> None:
    model = stir(load(folder))
    for parameter, tensor in zip(model.parameters(), model.lora_state().values(), strict=True):
        assert parameter.requires_grad
        assert parameter.data_ptr() == tensor.data_ptr()
    trained = {id(parameter) for parameter in model.parameters()}
    network = model._network.network
    assert not network.training
    assert {id(p) for p in network.parameters() if p.requires_grad} == trained
    assert without_gradient(model) == {UNUSED}


def test_using_none_is_the_base_model_whatever_the_lora_and_ends_with_the_block(folder: Path) -> None:
    base, model = velocity_of(load(folder)), stir(load(folder))
    ours, before = velocity_of(model), kept(model)
    with model.with_weights(None):
        assert torch.equal(velocity_of(model), base)
    with pytest.raises(RuntimeError, match="on the way"), model.with_weights(None):
        raise RuntimeError("on the way")
    assert torch.equal(velocity_of(model), ours)
    assert same(list(before.values()), list(model.lora_state().values()))
    assert (ours - base).abs().max() > 1e-2


def test_using_other_weights_and_nesting(folder: Path) -> None:
    model, other = stir(load(folder)), stir(load(folder), seed=2)
    ours, theirs, weights = velocity_of(model), velocity_of(other), kept(other)
    with model.with_weights(weights):
        assert torch.equal(velocity_of(model), theirs)
        with model.with_weights(None):
            assert not torch.equal(velocity_of(model), theirs)
        assert torch.equal(velocity_of(model), theirs)
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert not model.run([model.encode(PROMPT)], lambda v: v(model.noise(3, 2), torch.tensor(0.7))).requires_grad
        with pytest.raises(ValueError, match="on the way"), model.with_weights(kept(model)):
            raise ValueError("on the way")
        assert torch.equal(velocity_of(model), theirs)
    assert torch.equal(velocity_of(model), ours)
    assert same(list(weights.values()), list(other.lora_state().values()))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_other_policies_may_be_asked_between_forward_and_backward(folder: Path, checkpointing: bool) -> None:
    model, other = stir(load(folder, gradient_checkpointing=checkpointing)), kept(stir(load(folder), seed=2))
    undisturbed = gradients(model)

    def ask(velocity) -> None:
        for weights in (other, None, other):
            with torch.no_grad(), model.with_weights(weights):
                velocity(model.noise(9, 2), torch.tensor(0.3))

    assert same(gradients(model, between=ask), undisturbed)
    assert same(gradients(model, within=model.with_weights(other)), undisturbed)
    assert same(gradients(model, within=model.with_weights(None)), undisturbed)


def test_gradients_agree_with_finite_differences(folder: Path) -> None:
    model = stir(load(folder, guidance=2.0))
    found, start = gradients(model), kept(model)
    draw = torch.Generator().manual_seed(4)
    step = 2e-3
    for direction in (found, [torch.randn(g.shape, generator=draw) * g.norm() / g.numel() ** 0.5 for g in found]):
        size = torch.stack([d.norm() for d in direction]).norm()
        unit = [d / size for d in direction]
        values = []
        for sign in (1, -1):
            moved = {n: t + sign * step * u for (n, t), u in zip(start.items(), unit, strict=True)}
            with model.with_weights(moved):
                values.append(weigh(velocity_of(model)).double())
        slope = sum((g * u).sum() for g, u in zip(found, unit, strict=True))
        assert (values[0] - values[1]).item() / (2 * step) == pytest.approx(slope.item(), rel=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_checkpointing_gives_the_same_gradient(folder: Path, dtype: torch.dtype) -> None:
    saving = stir(load(folder, gradient_checkpointing=True, dtype=dtype))
    assert same(gradients(saving), gradients(stir(load(folder, dtype=dtype))))


@pytest.mark.parametrize(("checkpointing", "calls"), [(False, 1), (True, 2)])
def test_checkpointing_recomputes_in_evaluation_mode(folder: Path, checkpointing: bool, calls: int) -> None:
    model, seen = stir(load(folder, gradient_checkpointing=checkpointing)), []
    model._network.network.transformer_blocks[0].attn.register_forward_pre_hook(
        lambda module, _: seen.append(module.training)
    )
    gradients(model)
    assert seen == [False] * calls


def test_low_precision_sees_fresh_weights_after_every_step_of_the_optimizer(folder: Path) -> None:
    model, witness = stir(load(folder, dtype=torch.bfloat16)), load(folder, dtype=torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x, sigma = model.noise(3, 2), torch.tensor(0.7)

    def body(velocity) -> None:
        last = None
        for _ in range(3):
            v = velocity(x, sigma)
            witness.load_lora_state(model.lora_state())
            assert torch.equal(v.detach(), velocity_of(witness))
            assert last is None or not torch.equal(v.detach(), last)
            last = v.detach()
            optimizer.zero_grad()
            weigh(v).backward()
            optimizer.step()

    model.run([model.encode(PROMPT)], body)
    with torch.autocast("cpu", torch.bfloat16):  # a region around it all, of a caller who does not know better
        model.run([model.encode(PROMPT)], body)


def test_low_precision_is_near_the_exact_velocity_and_the_lora_stays_float32(folder: Path) -> None:
    exact, low = velocity_of(stir(load(folder))), velocity_of(stir(load(folder, dtype=torch.bfloat16)))
    assert 0 < (low - exact).norm() / exact.norm() < 3e-2


def test_float16_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found float16.*1e-8"):
        load(tmp_path, dtype=torch.float16)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_inputs_that_stay_in_bfloat16_change_no_number_and_keep_less(folder, checkpointing):
    """Against peft's own way, which makes float32 of every input of a LoRA layer."""

    def passed(model):
        kept = {}

        def keep(tensor):
            kept[tensor.untyped_storage().data_ptr()] = tensor.nbytes
            return tensor

        model.checkpointing = checkpointing
        x, cond = model.noise(3, 2), model.drawn(torch.Generator().manual_seed(1))

        def body(velocity):
            v = velocity(x, torch.tensor(0.7))
            v.square().mean().backward()
            return v.detach()

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            v = model.run((cond,), body)
        return v, [parameter.grad.clone() for parameter in model.parameters()], sum(kept.values())

    ours, peft = (stir(load(folder, dtype=torch.bfloat16)) for _ in range(2))
    for layer in peft.lora.layers:
        layer.cast_input_dtype_enabled = True
    (v, gradients, kept), (v_peft, gradients_peft, kept_peft) = passed(ours), passed(peft)
    assert torch.equal(v, v_peft)
    assert all(map(torch.equal, gradients, gradients_peft))
    assert kept == kept_peft if checkpointing else kept < kept_peft  # blocks keep nothing of their inside there
