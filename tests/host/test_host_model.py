"""A MODEL of ComfyUI as the core's policy, with the same model in diffusers as a reference."""

from pathlib import Path

import comfy.model_management
import comfy.sd
import pytest
import torch
from canvas import loaded, policy, prompt_set, short_config
from mixgrpo_pack.mixgrpo_core import train
from mixgrpo_pack.mixgrpo_core.models.families.demo import load_demo
from mixgrpo_pack.mixgrpo_core.models.lora import export_lora
from mixgrpo_pack.mixgrpo_core.models.lora_file import load_lora
from mixgrpo_pack.mixgrpo_core.rewards.shapes import ShapeReward

CAPTION = "a small red circle on the left"


@pytest.fixture(scope="module")
def parts():
    return loaded()


def field(model, x, sigma=0.7):
    return model.run([model.encode(CAPTION)], lambda v: v(x, torch.tensor(sigma)))


def test_velocities_are_those_of_diffusers(parts):
    there = load_demo(rank=2)
    with policy(*parts) as here:
        state = {name: torch.randn_like(tensor) * 0.1 for name, tensor in here.lora_state().items()}
        for home in (here, there):
            home.load_lora_state(state)
        x = here.noise(3, 4)
        for sigma in (1.0, 0.7, 0.2, 0.05):
            with torch.no_grad():
                torch.testing.assert_close(field(here, x, sigma), field(there, x, sigma), atol=1e-5, rtol=1e-5)
                with here.with_weights(None), there.with_weights(None):
                    torch.testing.assert_close(field(here, x, sigma), field(there, x, sigma), atol=1e-5, rtol=1e-5)


def test_guidance_is_that_of_the_headless_model(parts):
    there = load_demo(rank=2, guidance=3.0)
    with policy(*parts, cfg=3.0) as here, torch.no_grad():
        x = here.noise(3, 2)
        torch.testing.assert_close(field(here, x), field(there, x), atol=3e-5, rtol=1e-5)


def test_gradients_are_those_of_diffusers(parts):
    def gradients(home):
        x = home.noise(3, 4)
        home.run([home.encode(CAPTION)], lambda v: v(x, torch.tensor(0.7)).square().mean().backward())
        return {name: p.grad for name, p in zip(home.lora_state(), home.parameters(), strict=True)}

    with policy(*parts) as plain, policy(*parts, checkpointing=True) as checkpointed:
        there = load_demo(rank=2)
        state = {name: torch.randn_like(tensor) * 0.1 for name, tensor in plain.lora_state().items()}
        for home in (plain, checkpointed, there):
            home.load_lora_state(state)
        want = gradients(there)
        for home in (plain, checkpointed):
            for name, gradient in gradients(home).items():
                torch.testing.assert_close(gradient, want[name], atol=1e-5, rtol=1e-3, msg=name)


def test_training_is_the_same_run_in_both_homes(parts, tmp_path):
    """Same seeds, same LoRA start, same images: the two homes differ by rounding and by nothing else."""
    clip = parts[1]
    prompts, config = prompt_set(clip), short_config()

    def trained(home):
        reports = list(train(home, prompts.train, {"shape": ShapeReward()}, config, held_out=prompts.held_out))
        return reports, {name: tensor.clone() for name, tensor in home.lora_state().items()}

    there, there_state = trained(load_demo(rank=2, seed=0))
    with torch.inference_mode(), policy(*parts) as home:
        here, here_state = trained(home)
    for a, b in zip(here, there, strict=True):
        assert a.update.figures["ratio_first"] < 1e-5
        assert b.update.figures["ratio_first"] < 1e-5
        assert a.nfe == b.nfe
        assert a.rewards["shape"].mean == pytest.approx(b.rewards["shape"].mean, abs=1e-4)
        assert a.update.figures["loss"] == pytest.approx(b.update.figures["loss"], abs=1e-4)
    moved = max(float(tensor.abs().max()) for name, tensor in there_state.items() if "lora_B" in name)
    for name, tensor in here_state.items():
        torch.testing.assert_close(tensor, there_state[name], atol=0.05 * moved, rtol=0, msg=name)


def test_the_base_model_samples_bit_identically_after_any_end(parts):
    base = parts[0]

    def sampled():
        guider = comfy.samplers.CFGGuider(base)
        clip = parts[1]
        guider.set_conds(clip.encode_from_tokens_scheduled(clip.tokenize(CAPTION)), [])
        noise = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
        sampler, sigmas = comfy.samplers.sampler_object("euler"), torch.linspace(1, 0, 5)
        return guider.sample(noise, torch.zeros_like(noise), sampler, sigmas, disable_pbar=True)

    with torch.inference_mode():
        before = sampled()
    prompts = prompt_set(parts[1])
    for ending in (ValueError, KeyboardInterrupt, comfy.model_management.InterruptProcessingException, None):

        def observer(event, ending=ending):
            if ending is not None and event.iteration == 1:
                raise ending

        def go(observer=observer):
            with torch.inference_mode(), policy(*parts, checkpointing=True) as home:
                list(train(home, prompts.train, {"shape": ShapeReward()}, short_config(), observer=observer))

        if ending is None:
            go()
        else:
            with pytest.raises(ending):
                go()
        assert comfy.model_management.in_training is False
        with torch.inference_mode():
            assert torch.equal(sampled(), before), ending


def test_a_model_that_carries_a_lora_is_the_base(parts, tmp_path):
    base, clip, vae = parts
    with policy(*parts) as first:
        x = first.noise(3, 2)
        first.load_lora_state({name: torch.randn_like(t) * 0.2 for name, t in first.lora_state().items()})
        with torch.no_grad():
            wanted = field(first, x)
        file = export_lora(first, tmp_path / "first.safetensors", {})
    with torch.inference_mode():
        state = comfy.utils.load_torch_file(str(file))
        carrying, _ = comfy.sd.load_lora_for_models(base, None, state, 1.0, 0.0)
    with policy(carrying, clip, vae) as second, torch.no_grad():
        assert torch.allclose(field(second, x), wanted, atol=1e-4)
        with second.with_weights(None):
            assert torch.allclose(field(second, x), wanted, atol=1e-4)
    with policy(*parts) as plain, torch.no_grad():
        assert not torch.allclose(field(plain, x), wanted, atol=1e-2)


def test_a_file_of_either_home_goes_on_in_the_other(parts, tmp_path):
    there = load_demo(rank=2)
    there.load_lora_state({name: torch.randn_like(t) * 0.2 for name, t in there.lora_state().items()})
    headless = export_lora(there, tmp_path / "headless.safetensors")
    with policy(*parts) as here, torch.no_grad():
        here.load_lora_file(load_lora(headless))
        x = here.noise(3, 2)
        torch.testing.assert_close(field(here, x), field(there, x), atol=1e-5, rtol=1e-5)
        canvas = export_lora(here, Path(tmp_path / "canvas.safetensors"), {"a": "b"})
        torch.testing.assert_close(field(load_demo(lora=canvas), x), field(here, x), atol=1e-5, rtol=1e-5)
    assert load_lora(canvas).metadata["ss_network_dim"] == "2"


def test_latents_that_need_a_gradient_get_one_through_the_vae(parts):
    with policy(*parts) as home:
        x = home.noise(5, 1).requires_grad_(True)
        brightness = home.decode(x, grad=True).mean()
        (gradient,) = torch.autograd.grad(brightness, x)
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            up, down = (home.decode(x + step * direction).double().mean() for step in (1e-2, -1e-2))
        assert float((gradient * direction).sum()) == pytest.approx(float(up - down) / 2e-2, rel=0.02)
        assert torch.equal(home.decode(x.detach()), home.decode(x, grad=True).detach())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 60}, "multiples of 16"),
        ({"height": 0}, "multiples of 16"),
        ({"cfg": 0.5}, "CFG of 1"),
        ({"rank": 0}, "rank"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_work(parts, changes, words):
    with pytest.raises(ValueError, match=words):
        policy(*parts, **changes)


def test_a_probe_leaves_nothing_behind_and_tells_what_the_model_refuses(parts, monkeypatch):
    with policy(*parts) as home:
        before = {name: tensor.clone() for name, tensor in home.lora_state().items()}
        home.probe(CAPTION)
        assert all(parameter.grad is None for parameter in home.parameters())
        assert all(torch.equal(tensor, before[name]) for name, tensor in home.lora_state().items())
    with pytest.raises(ValueError, match="1024 x 1024"), policy(*parts, width=1024, height=1024) as home:
        home.probe(CAPTION)
    with policy(*parts) as home:  # a host whose kernels have no backward
        monkeypatch.setattr(
            home.lora, "trained", {n: p.detach().requires_grad_(True) for n, p in home.lora.trained.items()}
        )
        with pytest.raises(ValueError, match="no gradient reaches the LoRA"):
            home.probe(CAPTION)
