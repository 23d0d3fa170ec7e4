"""Tiny autoencoders in the files that people have, and in the place of a pipeline's own."""

import pytest
import torch
from diffusers import AutoencoderTiny, FluxPipeline
from safetensors.torch import save_file
from tiny_autoencoders import taesd_decoder
from tiny_pipelines import SIDE, make_folder, opened
from tiny_unets import SDXL
from tiny_unets import make_folder as unet_folder

from mixgrpo_core.cli.model_config import ModelConfig
from mixgrpo_core.models import load_demo, tiny
from mixgrpo_core.models.diffusers.loading import ModelFilesError
from mixgrpo_core.models.diffusers.tiny import load_tiny, tiny_digest
from mixgrpo_core.models.families.demo import DEMO


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("taesd")
    network = taesd_decoder(4, width=8)
    save_file(network.state_dict(), folder / "taesd_decoder.safetensors")
    torch.save(network.state_dict(), folder / "taesd_decoder.pth")
    save_file({f"taesd_decoder.{k}": v for k, v in network.state_dict().items()}, folder / "both.safetensors")
    return folder, network


@torch.no_grad()
@pytest.mark.parametrize("file", ["taesd_decoder.safetensors", "taesd_decoder.pth", "both.safetensors"])
def test_a_decoder_as_its_author_publishes_it_decodes_as_that_does(raw, file):
    folder, network = raw
    x = 3 * torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(1))
    found = load_tiny(folder / file).decode(x, return_dict=False)[0]
    assert found.shape == (2, 3, 24, 40) and torch.equal(found, network(x) * 2 - 1)


@torch.no_grad()
def test_a_folder_and_its_file_decode_as_diffusers_does(tmp_path):
    torch.manual_seed(0)
    sizes = {"decoder_block_out_channels": (8, 8, 8), "num_decoder_blocks": (2, 1, 1), "latent_channels": 16}
    encoder = {"encoder_block_out_channels": (8, 8, 8), "num_encoder_blocks": (1, 1, 1)}
    network = AutoencoderTiny(**sizes, **encoder).eval()
    network.save_pretrained(tmp_path)
    x = torch.randn(1, 16, 4, 4)
    expected = network.decode(x).sample
    for path in (tmp_path, tmp_path / "diffusion_pytorch_model.safetensors"):
        found = load_tiny(path)
        assert torch.equal(found.decode(x, return_dict=False)[0], expected) and found.encoder is None
        assert tiny_digest(found) == tiny_digest(network)


def test_what_is_none_is_refused_in_a_sentence(raw, tmp_path):
    folder, network = raw
    tensors = network.state_dict()
    save_file({"encoder.1.weight": torch.zeros(1)}, tmp_path / "encoder.safetensors")
    pooled = {**tensors, "3.pool.0.weight": torch.zeros(1)}  # a newer kind
    save_file(pooled, tmp_path / "pooled.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((folder / "both.safetensors").read_bytes()[:500])
    (tmp_path / "text.pth").write_bytes(b"not a pickle")
    for name, words in {
        "nothing.safetensors": "found nothing: correct the path",
        "encoder.safetensors": "found none: give a folder of AutoencoderTiny or a TAESD decoder",
        "pooled.safetensors": r"other layers \(such as layers.2.pool.0.weight\)",
        "cut.safetensors": "cannot be read",
        "text.pth": "cannot be read",
    }.items():
        with pytest.raises(ModelFilesError, match=words):
            load_tiny(tmp_path / name)


def test_another_familys_is_refused_before_work(raw, tmp_path):
    folder = make_folder("sd3", tmp_path / "sd3")
    with pytest.raises(ModelFilesError, match=r"expected a tiny autoencoder of 16 latent channels .* found 4 in"):
        opened(folder).take_tiny(raw[0] / "taesd_decoder.safetensors")
    save_file(taesd_decoder(16, width=8).state_dict(), tmp_path / "taesd3.safetensors")
    with pytest.raises(ValueError, match="expected images of 32 x 32 .* found 128 x 128: take the one of this model's"):
        opened(folder).take_tiny(tmp_path / "taesd3.safetensors")
    save_file(taesd_decoder(16).state_dict(), tmp_path / "taef1.safetensors")
    with pytest.raises(ValueError, match="to decode a picture as the model's own does, found other pixels"):
        load_demo().take_tiny(tmp_path / "taef1.safetensors")
    with pytest.raises(ModelFilesError, match="expected an AutoencoderKL, .* leave tiny_autoencoder out"):
        opened(make_folder("sana", tmp_path / "sana")).take_tiny(tmp_path / "taef1.safetensors")


@torch.no_grad()
@pytest.mark.parametrize("family", ["sd3", "flux-schnell", "sdxl"])
def test_the_pipeline_decodes_with_it_and_without_the_scale_of_its_own(family, tmp_path, monkeypatch):
    """A tiny one takes latents as the network makes them; random weights show no picture, so the proof is off."""
    monkeypatch.setattr(tiny, "LEAST", -1.0)
    channels, stages = {"sd3": (16, 2), "flux-schnell": (4, 2), "sdxl": (4, 4)}[family]
    network = taesd_decoder(channels, width=8, stages=stages)
    save_file(network.state_dict(), tmp_path / "tiny.safetensors")
    folder = unet_folder(SDXL, tmp_path / "m") if family == "sdxl" else make_folder(family, tmp_path / "m")
    model = opened(folder)
    model.take_tiny(tmp_path / "tiny.safetensors")
    x = model.noise(0, 3)
    own = model.decode(x)
    latents = FluxPipeline._unpack_latents(x, *model.resolution, 2) if family == "flux-schnell" else x
    assert torch.allclose(model.decode_tiny(x), network(latents).clamp(0, 1).movedim(1, -1), atol=1e-6)
    low = model.decode_tiny(x, low=True)
    assert low.dtype == torch.float32 and 0 < (low - model.decode_tiny(x)).abs().max() < 0.05
    assert torch.equal(model.decode(x), own) and model.at((SIDE, 48)).tiny == model.tiny


@torch.no_grad()
def test_a_run_file_names_it_and_the_demos_own_decodes_alike():
    model = ModelConfig(tiny_autoencoder=str(DEMO / "vae")).make()
    latents = model.noise(0, 2)
    assert model.tiny and not load_demo().tiny
    assert torch.equal(model.decode_tiny(latents), model.decode(latents))
    assert torch.equal(model.decode_tiny(latents, low=True), model.decode_low(latents))
