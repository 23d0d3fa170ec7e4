"""What decodes on the canvas: the host's VAE, in less than float32, and a tiny VAE of the host's own loader."""

from dataclasses import replace

import comfy.sd
import folder_paths
import pytest
import torch
from canvas import loaded, policy, prompt_set, short_config
from comfy.taesd.taesd import TAESD
from mixgrpo_pack.mixgrpo_core import train
from mixgrpo_pack.mixgrpo_core.models.diffusers.tiny import load_tiny
from mixgrpo_pack.mixgrpo_core.models.families.demo import DEMO, load_demo
from mixgrpo_pack.mixgrpo_core.models.port import DecodesBeside, DecodesLow, DecodesTiny
from mixgrpo_pack.mixgrpo_core.rewards.shapes import ShapeReward
from safetensors.torch import load_file, save_file

import nodes as host_nodes


@pytest.fixture(scope="module")
def parts():
    return loaded()


@pytest.fixture
def tiny_files(tmp_path, monkeypatch):
    """The demo's autoencoder as TAESD's author publishes one: two files of numbered layers, in models/vae_approx."""
    tensors = load_file(DEMO / "vae" / "diffusion_pytorch_model.safetensors")
    for half, shift in (("encoder", 0), ("decoder", 1)):
        named = {}
        for name, tensor in tensors.items():
            if name.startswith(f"{half}.layers."):
                number, rest = name.removeprefix(f"{half}.layers.").split(".", 1)
                named[f"{int(number) + shift}.{rest}"] = tensor
        save_file(named, tmp_path / f"taesd3_{half}.safetensors")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "vae_approx", ([str(tmp_path)], {".safetensors"}))
    folder_paths.filename_list_cache.pop("vae_approx", None)
    yield tmp_path
    folder_paths.filename_list_cache.pop("vae_approx", None)


def test_a_raw_decoder_is_read_as_the_host_reads_it(tiny_files):
    path = tiny_files / "taesd3_decoder.safetensors"
    there = TAESD(None, str(path), latent_channels=16)
    latents = torch.randn(2, 16, 4, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = load_tiny(path).decode(latents, return_dict=False)[0]
        torch.testing.assert_close(found, there.decode(latents), atol=1e-6, rtol=0)


def test_rollouts_are_decoded_by_the_hosts_tiny_vae_and_held_out_images_by_the_models_own(parts, tiny_files):
    model, clip, vae = parts
    tiny = host_nodes.VAELoader().load_vae("taesd3")[0]
    calls = []
    with policy(model, clip, vae) as here:
        assert isinstance(here, DecodesTiny) and not here.tiny
        latents = here.noise(3, 2)
        plain = here.decode(latents)
        # the host's loader scales for Stable Diffusion 3, whose latents the demo's are not: undo that here
        tiny.first_stage_model.vae_scale.data.fill_(vae_scale(here)[0])
        tiny.first_stage_model.vae_shift.data.fill_(vae_scale(here)[1])
        here.take_tiny(tiny)
        torch.testing.assert_close(here.decode_tiny(latents), plain, atol=2e-5, rtol=0)
        assert here.at((64, 64)).tiny == here.tiny
        for one, name in ((vae, "own"), (tiny, "tiny")):
            one.decode = heard(one.decode, name, calls)
        try:
            config = short_config(iterations=1, eval_every=1, steps=4, prompts_per_iteration=1, updates=1)
            prompts = prompt_set(clip, held_out=1)
            rewards = {"shape": ShapeReward()}
            (report,) = train(here, prompts.train, rewards, config, held_out=prompts.held_out)
        finally:
            del vae.decode, tiny.decode
    assert report.decoded["tiny"] == here.tiny and report.decoded["agreement"]["shape"] > 0.99
    # its one group in both, then the held-out prompt before and after
    assert calls == ["tiny", "own", "own", "own"]


def vae_scale(here):
    """By what the demo's latents are multiplied and moved before its own VAE, undone."""
    moved = here.patcher.model.process_latent_out(torch.tensor([0.0, 1.0]))
    return 1 / float(moved[1] - moved[0]), float(moved[0])


def heard(decode, name, calls):
    def decoded(latents, *args, **more):
        calls.append(name)
        return decode(latents, *args, **more)

    return decoded


def test_another_familys_tiny_vae_is_refused_in_a_sentence(parts, tiny_files):
    tensors = {f"taesd_decoder.{k}": v for k, v in TAESD(latent_channels=4).taesd_decoder.state_dict().items()}
    tensors |= {f"taesd_encoder.{k}": v for k, v in TAESD(latent_channels=4).taesd_encoder.state_dict().items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = {name: torch.randn_like(tensor) * 0.05 for name, tensor in tensors.items()}
        wide = TAESD(latent_channels=16)
        random = {f"taesd_decoder.{k}": torch.randn_like(v) * 0.05 for k, v in wide.taesd_decoder.state_dict().items()}
        random |= {f"taesd_encoder.{k}": torch.randn_like(v) for k, v in wide.taesd_encoder.state_dict().items()}
    with policy(*parts) as here:
        with pytest.raises(ValueError, match="reward_vae could not decode what the model's own VAE encodes"):
            here.take_tiny(comfy.sd.VAE(sd=drawn))
        with pytest.raises(ValueError, match="to decode a picture as the model's own does, found other pixels"):
            here.take_tiny(comfy.sd.VAE(sd=random))
        assert not here.tiny


def test_latents_with_channels_last_decode_to_the_images_of_the_usual_layout(parts):
    """Up to the rounding that benchmarks/levers.md names."""
    model, clip, vae = parts
    with policy(model, clip, vae) as here:
        latents, handed, decode = here.noise(3, 5), [], vae.decode
        vae.decode = lambda x, *args, **more: (handed.append(x), decode(x, *args, **more))[1]
        try:
            found = here.decode(latents)
        finally:
            del vae.decode
        (given,) = handed
        assert given.is_contiguous(memory_format=torch.channels_last) and not given.is_contiguous()
        with torch.no_grad():
            expected = decode(given.contiguous())[..., :3].clamp(0, 1)
    assert expected.std() > 0.01, "pictures of one colour would prove nothing"
    assert (found - expected).abs().max() <= 1e-5 * expected.max()


def test_the_lower_precision_of_the_hosts_vae_is_chosen_as_headless(parts):
    model, clip, vae = parts
    with policy(model, clip, vae) as here:
        assert isinstance(here, DecodesLow) and here.decode_dtype == torch.float32
        assert not isinstance(here, DecodesBeside), "the host moves models in and out for one call at a time"
        latents = here.noise(3, 4)
        plain, low, there = here.decode(latents), here.decode_low(latents), load_demo().decode_low(latents)
        assert low.dtype == torch.float32 and 0 < (plain - low).abs().max() < 0.1
        assert (low - there).abs().mean() < 2e-3, "the headless one's, up to another order of rounding"
        config = short_config(iterations=1, eval_every=0, steps=4, prompts_per_iteration=1, updates=1)
        config = replace(config, decode_dtype="auto")
        prompts = prompt_set(clip)
        (report,) = train(here, prompts.train, {"shape": ShapeReward()}, config)
        assert report.decoded["dtype"] == "bfloat16" and report.decoded["moved"] <= 0.1
