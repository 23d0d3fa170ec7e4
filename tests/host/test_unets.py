"""SDXL and Stable Diffusion 1.5 on the canvas: the host's sampling, the headless model's velocities and its LoRA."""

from pathlib import Path

import comfy.lora
import comfy.model_patcher
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.supported_models as host
import comfy.utils
import pytest
import tiny_unets
import torch
from canvas import loaded
from mixgrpo_pack.mixgrpo_core import FlowSDE, FrozenWindow
from mixgrpo_pack.mixgrpo_core.models.families.loading import load_pipeline
from mixgrpo_pack.mixgrpo_core.models.lora import export_lora
from mixgrpo_pack.mixgrpo_core.sampling.ode import sample
from mixgrpo_pack.nodes.host.family import require_flow_model
from mixgrpo_pack.nodes.host.model import HostModel
from mixgrpo_pack.nodes.sampling.mixed_sampling import MixedSampling
from safetensors.torch import load_file
from tiny_unets import SD1, SDXL

KINDS = [
    (SDXL, {"prediction_type": "epsilon"}),
    (SDXL, {"prediction_type": "v_prediction"}),
    (SDXL, {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}),
    (SD1, {"prediction_type": "epsilon"}),
]
CPU = torch.device("cpu")
ROUNDED = 1e-5
"""With a LoRA drawn with 0.3 it is 5e-5 at every level, and float32's rounding of x alone moves one home as far: the
network is that steep then. Timesteps and their embeddings are the same numbers in both homes."""


class Texts:
    """Prompts as the headless model has encoded them."""

    def __init__(self, there) -> None:
        self.there, self.negative, self.contexts = there, "", {}

    def encode(self, text):
        made = self.there.encode(text).positive if text else self.there._embed.negative()
        named = {name.removeprefix("negative_"): tensor for name, tensor in made.items()}
        pooled = named.get("pooled_prompt_embeds")
        return [[named["prompt_embeds"], {} if pooled is None else {"pooled_output": pooled}]]


def of_host(pipeline, network, settings):
    """The host's MODEL with the weights of a network of diffusers."""
    config = (host.SDXL if pipeline == SDXL else host.SD15)(dict(tiny_unets.of_host(pipeline)))
    config.set_inference_dtype(torch.float32, None)
    marks = {"v_pred": torch.ones(0)} if settings["prediction_type"] == "v_prediction" else {}
    marks |= {"ztsnr": torch.ones(0)} if settings.get("rescale_betas_zero_snr") else {}
    model = config.get_model(marks, "", device=CPU)
    names = comfy.utils.unet_to_diffusers(config.unet_config)
    weights = {names[name]: tensor for name, tensor in network.state_dict().items()}
    model.diffusion_model.load_state_dict(weights)
    return comfy.model_patcher.ModelPatcher(model.eval(), load_device=CPU, offload_device=CPU)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: "-".join(map(str, [kind[0], *kind[1].values()])))
def homes(request, tmp_path_factory):
    """The MODEL, the same headless, and a VAE of another model, which these do not decode with."""
    pipeline, settings = request.param
    folder = tmp_path_factory.mktemp("models") / "model"
    tiny_unets.make_folder(pipeline, folder, tiny_unets.euler(**settings, timestep_spacing="trailing"))
    there = load_pipeline(folder, rank=2, alpha=4, dtype=torch.float32, resolution=(64, 64), guidance=3.0, prove=False)
    base = load_pipeline(folder, rank=2, dtype=torch.float32, resolution=(64, 64), prove=False)
    model = of_host(pipeline, diffusers_network(folder), settings)
    return model, there, loaded()[2], base, folder


def diffusers_network(folder):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(folder / "unet")


def policy(model, there, vae, **changes):
    given = {"width": 64, "height": 64, "rank": 2, "alpha": 4, "seed": 0, "cfg": 3.0, "checkpointing": False}
    return HostModel(model, vae, Texts(there), **{**given, **changes})


def drawn(model):
    draw = torch.Generator().manual_seed(0)
    return {name: torch.randn(tensor.shape, generator=draw) * 0.1 for name, tensor in model.lora_state().items()}


def asked(home, x, sigma):
    return home.run([home.encode("a cat")], lambda v: v(x, sigma))


def test_velocities_grid_and_fresh_lora_are_those_of_the_headless_model(homes):
    model, there, vae, *_ = homes
    with policy(model, there, vae) as here:
        torch.testing.assert_close(here.grid(5), there.grid(5), rtol=0, atol=3e-5)  # where either ends pure noise
        fresh = there.lora_state()
        assert fresh.keys() == here.lora_state().keys()
        for name, tensor in here.lora_state().items():
            torch.testing.assert_close(tensor, fresh[name])
        before, state = {name: tensor.clone() for name, tensor in fresh.items()}, drawn(there)
        here.load_lora_state(state)
        there.load_lora_state(state)
        x = here.noise(3, 2)
        for sigma in here.grid(5)[:-1]:
            with torch.no_grad():
                ours, theirs = (asked(home, x, sigma) for home in (here, there))
            assert (ours - theirs).norm() <= ROUNDED * theirs.norm()
        there.load_lora_state(before)


def test_velocities_of_another_size_are_those_of_the_headless_model_at_it(homes):
    """SDXL is told the size of its images, which is the prompt's."""
    model, there, vae, *_ = homes
    with policy(model, there, vae) as here, torch.no_grad():
        here.load_lora_state(there.lora_state())
        ours, theirs = (home.at((96, 64)) for home in (here, there))
        x, sigma = ours.noise(3, 2), ours.grid(5)[2]
        assert torch.equal(x, theirs.noise(3, 2))
        want = asked(theirs, x, sigma)
        assert (asked(ours, x, sigma) - want).norm() <= ROUNDED * want.norm()


def test_gradients_are_those_of_the_headless_model_with_and_without_checkpointing(homes):
    model, there, vae, *_ = homes
    before = {name: tensor.clone() for name, tensor in there.lora_state().items()}

    def gradient(home):
        x, sigma = home.noise(3, 1), home.grid(4)[1]
        home.run([home.encode("a cat")], lambda v: v(x, sigma).square().mean().backward())
        found = torch.cat([p.grad.flatten() for p in home.parameters()])
        for parameter in home.parameters():
            parameter.grad = None
        return found

    state = drawn(there)
    there.load_lora_state(state)
    want = gradient(there)
    there.load_lora_state(before)
    for checkpointing in (False, True):
        with policy(model, there, vae, checkpointing=checkpointing) as here:
            here.load_lora_state(state)
            assert (gradient(here) - want).norm() <= 10 * ROUNDED * want.norm()


def test_eulers_method_is_the_hosts_own(homes):
    model, there, vae, *_ = homes
    with policy(model, there, vae) as here:
        sigmas = here.grid(4)
        noise = here.noise(5, 2)
        with torch.no_grad():
            ours = sample(here, here.encode("a cat"), noise, sigmas)
        positive, negative = here.encode("a cat")
    table = model.get_model_object("model_sampling")
    levels = torch.cat([table.sigma(torch.tensor([999, 749, 499, 249])), torch.zeros(1)])
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(3.0)
    euler = comfy.samplers.sampler_object("euler")
    theirs = guider.sample(noise, torch.zeros_like(noise), euler, levels, disable_pbar=True)
    theirs = model.model.process_latent_in(theirs)
    # the host's latents are as large as their noise, and rounded so
    assert (ours - theirs).norm() <= max(3e-6, 2e-8 * float(levels[0])) * theirs.norm()


def test_the_lora_is_one_that_the_host_loads_and_diffusers_too(homes, tmp_path: Path):
    model, there, vae, base, folder = homes
    state = drawn(there)
    with policy(model, there, vae, cfg=1.0) as here:
        here.load_lora_state(state)
        x, sigma = here.noise(3, 1), here.grid(4)[2]
        with torch.no_grad():
            ours = asked(here, x, sigma)
        file = export_lora(here, tmp_path / "canvas.safetensors")
    targets = comfy.lora.model_lora_keys_unet(model.model, {})
    tensors = load_file(file)
    assert {name.rsplit(".lora_", 1)[0].removesuffix(".alpha") for name in tensors} <= targets.keys()
    with_lora, _ = comfy.sd.load_lora_for_models(model, None, tensors, 1.0, 0.0)
    with policy(with_lora, there, vae, cfg=1.0) as loaded_by_the_host, torch.no_grad():
        theirs = asked(loaded_by_the_host, x, sigma)
    assert (ours - theirs).norm() <= 1e-5 * ours.norm()
    headless = load_pipeline(folder, lora=file, dtype=torch.float32, resolution=(64, 64), prove=False)
    with torch.no_grad():
        found = asked(headless, x, sigma)
        without = asked(base, x, sigma)
    assert (found - ours).norm() <= 1e-5 * ours.norm()
    assert (without - ours).norm() > 0.01 * ours.norm()


def test_what_a_unet_is_is_known(homes):
    model, *_ = homes
    about = require_flow_model(model)
    assert about.name in ("SDXL", "SD15")
    assert about.architecture.startswith("stable-diffusion-")
    assert about.shift is None
    assert about.latent_shape(64, 128) == (4, 16, 8)


def test_the_mixed_sampler_is_the_hosts_euler_without_noise_and_trains_steps_with_it(homes):
    model, there, *_ = homes
    table = model.get_model_object("model_sampling")
    levels = torch.cat([table.sigma(torch.tensor([999, 749, 499, 249])), torch.zeros(1)])
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(Texts(there).encode("a cat"), [])
    guider.set_cfg(1.0)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def sampled(sampler, sigmas=levels):
        return guider.sample(noise, torch.zeros_like(noise), sampler, sigmas, disable_pbar=True, seed=3)

    euler = comfy.samplers.sampler_object("euler")
    quiet = MixedSampling(window=FrozenWindow(size=2, start=1), kernel=FlowSDE(eta=0.0)).sample_mixed_ode_sde
    noisy = MixedSampling(window=FrozenWindow(size=2, start=1), kernel=FlowSDE(eta=0.7)).sample_mixed_ode_sde
    for sigmas in (levels, levels[:-1]):  # to the image, and to where another sampler goes on
        want = sampled(euler, sigmas)
        rounded = max(1e-5, 3e-8 * float(levels[0]))
        assert (sampled(comfy.samplers.KSAMPLER(quiet), sigmas) - want).norm() <= rounded * want.norm()
        assert (sampled(comfy.samplers.KSAMPLER(noisy), sigmas) - want).norm() > 0.05 * want.norm()


@pytest.mark.parametrize("layers", ["attention", "all linear"])
def test_every_choice_of_layers_is_the_same_in_both_homes(homes, layers):
    model, there, vae, _, folder = homes
    headless = load_pipeline(folder, rank=2, dtype=torch.float32, resolution=(64, 64), prove=False, layers=layers)
    with policy(model, there, vae, cfg=1.0, layers=layers) as here:
        assert here.lora_state().keys() == headless.lora_state().keys()
        x, sigma, state = here.noise(3, 1), here.grid(4)[3], drawn(headless)
        for home in (here, headless):
            home.load_lora_state(state)
        with torch.no_grad():
            ours, theirs = (asked(home, x, sigma) for home in (here, headless))
        assert (ours - theirs).norm() <= ROUNDED * theirs.norm()
