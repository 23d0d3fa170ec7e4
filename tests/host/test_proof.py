"""A MODEL is proven before a run: tiny models of every family pass, what would teach wrong things is refused."""

import logging

import comfy.latent_formats
import pytest
import torch
from canvas import loaded, policy
from comfy.patcher_extension import WrappersMP
from mixgrpo_pack.nodes.host import proof
from mixgrpo_pack.nodes.host.model import HostModel
from mixgrpo_pack.nodes.host.proof import prove, rounds_activations
from mixgrpo_pack.nodes.training.loop import probe
from quantised_models import quantise_activations, quantised
from streamed import stream
from tiny_models import FAMILIES, Tiny, tiny

SIDE = 64
PROVEN = [name for name in FAMILIES if name != "Ernie-Image"]  # ComfyUI's code of it has no gradient
PROMPTS = ("a cat", "a dog")


@pytest.fixture(autouse=True)
def as_in_a_node(monkeypatch):
    monkeypatch.setattr(proof, "_proven", set())
    with torch.inference_mode():
        yield


class Texts:
    """Conditionings of a tiny model's own shapes, drawn by the words, or the same for all words."""

    negative, contexts = "", {}

    def __init__(self, model: Tiny, *, read: bool = True) -> None:
        self.model, self.read = model, read

    def encode(self, text, picture=None):
        draw = torch.Generator().manual_seed(len(text) + sum(map(ord, text)) if self.read else 0)

        def drawn(name):
            return torch.randn((1, *self.model.inputs[name].shape[1:]), generator=draw)

        inputs, values = self.model.inputs, {}
        if "y" in inputs:
            values["pooled_output"] = drawn("y")
            if self.model.model.adm_channels and hasattr(self.model.model, "noise_augmentor"):
                values["pooled_output"] = values["pooled_output"][:, :16]  # SDXL's sizes are the rest
        if "encoder_hidden_states_llama3" in inputs:
            values["conditioning_llama3"] = drawn("encoder_hidden_states_llama3")
        return [[drawn("c_crossattn"), values]]


def home(model: Tiny, **changes) -> HostModel:
    """The tiny model behind the port, with latents of its own shape."""
    latent, texts = model.family.latent, changes.pop("texts", None)
    form = comfy.latent_formats.LatentFormat()
    form.latent_channels, form.latent_dimensions = latent[0], len(latent) - 1
    form.spacial_downscale_ratio = SIDE // latent[-1]
    model.model.latent_format = form
    given = {"width": SIDE, "height": SIDE, "rank": 2, "alpha": 4, "seed": 0, **changes}
    return HostModel(model.patcher, object(), texts or Texts(model), **given)


@pytest.mark.parametrize("name", PROVEN)
def test_a_family_is_proven_and_is_as_before(name):
    with home(tiny(name)) as model:
        before = {key: tensor.clone() for key, tensor in model.lora_state().items()}
        counted, state = model.evaluations, torch.get_rng_state()
        prove(model, PROMPTS)
        assert model.evaluations == counted
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(tensor, before[key]) for key, tensor in model.lora_state().items())
        assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
        assert proof._proven


def test_guidance_checkpoints_and_a_lora_that_does_something_are_proven():
    with home(tiny("SD3.5 medium"), cfg=3.0, checkpointing=False) as model:
        draw = torch.Generator().manual_seed(0)
        state = {key: 0.2 * torch.randn(tensor.shape, generator=draw) for key, tensor in model.lora_state().items()}
        model.load_lora_state(state)
        prove(model, PROMPTS)
        assert all(torch.equal(tensor, state[key]) for key, tensor in model.lora_state().items())


LOW = [("FLUX.1 dev", torch.bfloat16), ("Qwen-Image", torch.float16), ("SDXL", torch.bfloat16)]


@pytest.mark.parametrize(("name", "dtype"), LOW)
def test_low_precision_is_proven(name, dtype):
    with home(tiny(name, dtype)) as model:
        prove(model, PROMPTS)
    assert proof._proven, "it was not passed over"


@pytest.mark.parametrize("form", ["float8_e4m3fn", "nvfp4"])
def test_quantised_weights_are_proven_and_where_activations_are_rounded_too_all_but_the_slope(form, caplog):
    caplog.set_level(logging.INFO)
    with home(quantised("FLUX.1 dev", form)[0]) as model:
        assert not rounds_activations(model.patcher.model)
        prove(model, PROMPTS)
    assert "on trust" not in caplog.text
    given = quantised("FLUX.1 dev", form)[0]
    quantise_activations(given)
    with home(given) as model:
        assert rounds_activations(model.patcher.model)
        proof._proven.clear()  # it has the weights of the other
        prove(model, PROMPTS)
    assert "the slope of Flux on trust" in caplog.text
    proof._proven.clear()
    with home(given, texts=Texts(given, read=False)) as model, pytest.raises(ValueError, match="two prompts the same"):
        prove(model, PROMPTS)


def test_streamed_weights_are_proven(monkeypatch):
    given = tiny("FLUX.1 dev")
    stream(given.model.diffusion_model, monkeypatch)
    with home(given) as model:
        prove(model, PROMPTS)
    assert proof._proven, "it was not passed over"


@pytest.mark.parametrize("number", [0, 1])
def test_a_block_that_lets_no_gradient_through_is_refused(number):
    given = tiny("FLUX.1 dev")
    block = given.model.diffusion_model.single_blocks[number]
    block.register_forward_hook(lambda _, args, out: args[0] + (out - args[0]).detach())
    with home(given) as model:
        before = {key: tensor.clone() for key, tensor in model.lora_state().items()}
        with pytest.raises(ValueError, match=r"expected a gradient for every layer of Flux .* found none for some of"):
            prove(model, PROMPTS)
        assert model.evaluations == 0
        assert all(parameter.grad is None for parameter in model.parameters())
        assert all(torch.equal(tensor, before[key]) for key, tensor in model.lora_state().items())
        assert not proof._proven


def test_layers_of_a_kind_that_get_no_gradient_in_any_block_are_refused():
    given = tiny("FLUX.1 dev")
    for block in given.model.diffusion_model.single_blocks:
        block.register_forward_hook(lambda _, args, out: args[0] + (out - args[0]).detach())
    with (
        home(given) as model,
        pytest.raises(ValueError, match=r"the LoRA on single_transformer_blocks\.N.*in any block"),
    ):
        prove(model, PROMPTS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_that_is_bent_on_its_way_is_refused(dtype):
    given = tiny("Qwen-Image", dtype)
    for block in given.model.diffusion_model.transformer_blocks:
        block.attn.to_out[0].register_forward_hook(lambda _, args, out: 0.5 * out + 0.5 * out.detach())
    with home(given) as model, pytest.raises(ValueError, match="QwenImage is not the slope of what it computes"):
        prove(model, PROMPTS)


def test_a_lora_that_binds_nothing_is_refused():
    with home(tiny("FLUX.1 dev")) as model:
        model.patcher.injections.clear()
        with pytest.raises(ValueError, match=r"none of its \d+ layers does: it binds nothing"):
            prove(model, PROMPTS)


def test_another_velocity_for_a_gradient_or_for_the_same_question_is_refused():
    def bent(run, *args, **options):
        return run(*args, **options) * (1.1 if torch.is_grad_enabled() else 1)

    calls = []

    def remembering(run, *args, **options):
        calls.append(1)
        return run(*args, **options) * (1 + 0.1 * len(calls))

    for wrapper, words in ((bent, "where a gradient is wanted"), (remembering, "for the same question")):
        given = tiny("SD3")
        given.patcher.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "wrong", wrapper)
        with home(given) as model, pytest.raises(ValueError, match=words):
            prove(model, PROMPTS)


def test_prompts_that_are_not_read_are_refused_where_there_are_two():
    given = tiny("SD3")
    with home(given, texts=Texts(given, read=False)) as model:
        prove(model, PROMPTS[:1])
        with pytest.raises(ValueError, match="gives two prompts the same velocity"):
            prove(model, PROMPTS)


def test_it_is_proven_once_for_its_settings_and_small():
    given, asked = tiny("FLUX.1 dev"), []

    def seen(run, x, *args, **options):
        asked.append(tuple(x.shape[-2:]))
        return run(x, *args, **options)

    given.patcher.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "seen", seen)
    with home(given, width=768, height=512) as model:
        prove(model, PROMPTS)
        height, width = (side // model.family.pixels for side in (176, 256))
        assert set(asked) == {(height, width)}
        asked.clear()
        prove(model, PROMPTS)
        assert not asked
    with home(given, width=768, height=512, rank=3) as model:
        prove(model, PROMPTS)
        assert asked


def test_the_probe_before_a_run_has_it_proven():
    with policy(*loaded()) as model:
        network = model.patcher.model.diffusion_model
        hook = network.joint_blocks[0].register_forward_hook(lambda _, args, out: tuple(each.detach() for each in out))
        with pytest.raises(ValueError, match="gradient"):
            probe(model, model.texts.train)
        hook.remove()
        probe(model, model.texts.train)
        assert model.evaluations > 0
