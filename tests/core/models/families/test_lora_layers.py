"""Which layers carry the LoRA, and LoRAs that lie under it."""

from pathlib import Path
from typing import Any

import diffusers
import pytest
import tiny_pipelines
import torch
from safetensors.torch import load_file, save_file
from tiny_pipelines import opened
from torch import Tensor
from torch.nn import Linear

from mixgrpo_core.cli.frozen_loras import frozen_loras
from mixgrpo_core.models import load_demo
from mixgrpo_core.models.diffusers.model import PipelineModel
from mixgrpo_core.models.diffusers.proof import prove
from mixgrpo_core.models.lora import export_lora
from mixgrpo_core.models.lora_file import LoraFileError, save_lora

FAMILIES = ("sd3", "flux-dev", "flux2-dev", "z-image")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


def made(name: str, kept: Path) -> Path:
    path = kept / name
    return path if path.exists() else tiny_pipelines.make_folder(name, path)


def velocity(model: PipelineModel) -> Tensor:
    x, sigma = model.noise(0, 1), torch.tensor(0.5)
    with torch.no_grad():
        return model.run([model.encode("a red circle")], lambda v: v(x, sigma))


def shaken(model: PipelineModel, seed: int = 0) -> PipelineModel:
    """With a LoRA that does something."""
    draw = torch.Generator().manual_seed(seed)
    state = {name: 0.2 * torch.randn(tensor.shape, generator=draw) for name, tensor in model.lora_state().items()}
    model.load_lora_state(state)
    return model


def layers_of(model: PipelineModel) -> set[str]:
    return {name.rpartition(".lora_")[0] for name in model.lora_state()}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_choice_is_proven_and_its_file_is_loaded_by_the_pipeline(name: str, kept: Path, tmp_path: Path) -> None:
    usual = layers_of(opened(made(name, kept)))
    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(made(name, kept))
    found = {layers: opened(made(name, kept), layers=layers) for layers in ("attention", "all linear")}
    for layers, model in found.items():
        prove(model)
        path = export_lora(shaken(model), tmp_path / f"{layers}.safetensors")
        again = opened(made(name, kept), rank=None, lora=path)
        assert torch.equal(velocity(again), velocity(model)), "the layers are the file's where none are asked for"
        pipe.load_lora_weights(path, adapter_name=layers.replace(" ", "_"))
    attention, every = map(layers_of, found.values())
    assert attention <= usual <= every
    assert all("attn" in layer or "attention" in layer for layer in attention)
    linear = {path for path, module in pipe.transformer.named_modules() if isinstance(module, Linear)}
    blocks = {layer.split(".")[0] for layer in usual}
    plain = {path.removesuffix(".base_layer") for path in linear if "lora_" not in path}
    assert every == {path for path in plain if path.split(".")[0] in blocks and path.count(".") > 1}


def test_layers_of_another_choice_are_not_lost_in_silence(kept: Path, tmp_path: Path) -> None:
    path = export_lora(shaken(load_demo(layers="all linear")), tmp_path / "all.safetensors")
    with pytest.raises(ValueError, match=r"also changes .* layers that are not trained here .*choose layers that hold"):
        load_demo(lora=path, layers="attention")


def test_frozen_loras_are_what_diffusers_fuses(kept: Path, tmp_path: Path) -> None:
    folder = made("flux-dev", kept)
    first = export_lora(shaken(opened(folder), 1), tmp_path / "first.safetensors")
    second = export_lora(shaken(opened(folder, layers="attention"), 2), tmp_path / "second.safetensors")
    model = opened(folder, loras={first: 0.5, second: 1.0})
    pipe: Any = diffusers.FluxPipeline.from_pretrained(folder)
    pipe.load_lora_weights(first, adapter_name="first")
    pipe.load_lora_weights(second, adapter_name="second")
    pipe.set_adapters(["first", "second"], [0.5, 1.0])
    asked = {"height": 32, "width": 32, "num_inference_steps": 2, "output_type": "latent", "guidance_scale": 3.5}
    noise = torch.Generator().manual_seed(7)
    wanted = pipe(prompt="a cat", generator=noise, return_dict=False, **asked)[0]
    sigmas, x = pipe.scheduler.sigmas, model.noise(7, 1)
    with torch.no_grad():
        for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
            x = x + (following - sigma) * model.run([model.encode("a cat")], lambda v, x=x, s=sigma: v(x, s))
    assert (x - wanted).norm() < 1e-5 * wanted.norm()
    assert model.digest != opened(folder).digest
    with model.with_weights(None):
        assert torch.equal(velocity(model), velocity(opened(folder, loras={first: 0.5, second: 1.0})))
    assert model.lora_about.metadata["ss_sd_model_name"] == "flux-dev + first:0.5, second:1"


def test_a_lora_of_kohyas_names_lies_under_it_too(kept: Path, tmp_path: Path) -> None:
    """Of two layers that are whole in both, with an alpha of half the rank."""
    names = {"lora_unet_double_blocks_0_img_attn_proj": "transformer_blocks.0.attn.to_out.0"}
    names |= {"lora_unet_double_blocks_1_txt_mlp_0": "transformer_blocks.1.ff_context.net.0.proj"}
    modules = dict(tiny_pipelines.flux_network().named_modules())
    draw, kohya, ours = torch.Generator().manual_seed(3), {}, {}
    for foreign, own in names.items():
        down = torch.randn(2, modules[own].in_features, generator=draw)
        up = torch.randn(modules[own].out_features, 2, generator=draw) / 8
        kohya |= {f"{foreign}.lora_down.weight": down, f"{foreign}.lora_up.weight": up}
        kohya[f"{foreign}.alpha"] = torch.tensor(1.0)
        ours |= {f"{own}.lora_A.weight": down, f"{own}.lora_B.weight": up / 2}
    save_file(kohya, tmp_path / "kohya.safetensors")
    save_lora(tmp_path / "ours.safetensors", ours)
    folder = made("flux-dev", kept)
    one, two = (velocity(opened(folder, loras={tmp_path / f"{name}.safetensors": 0.7})) for name in ("kohya", "ours"))
    torch.testing.assert_close(one, two, rtol=0, atol=1e-6)
    assert (one - velocity(opened(folder))).norm() > 1e-3 * one.norm()


def test_what_cannot_lie_under_it_is_told(kept: Path, tmp_path: Path) -> None:
    path = export_lora(load_demo(), tmp_path / "demo.safetensors")
    with pytest.raises(LoraFileError, match="is no LoRA of this WanTransformer3DModel, which has no linear layer"):
        opened(made("wan", kept), loras={path: 1.0})
    with pytest.raises(ValueError, match="the strength of .*nan"):
        load_demo(loras={path: float("nan")})
    save_file({**load_file(path), "lora_te1_x.lora_down.weight": torch.ones(1, 1)}, tmp_path / "te.safetensors")
    with pytest.raises(LoraFileError, match="changes text encoders too .*network alone"):
        load_demo(loras={tmp_path / "te.safetensors": 1.0})
    save_file({"lora_unet_some_layer.lora_down.weight": torch.ones(1, 1)}, tmp_path / "kohya.safetensors")
    with pytest.raises(LoraFileError, match="write it in the layout of diffusers"):
        load_demo(loras={tmp_path / "kohya.safetensors": 1.0})


def test_a_file_and_its_strength_are_read_from_a_word() -> None:
    words = ["a.safetensors", r"C:\b.safetensors", "c:0.5", "d.safetensors:-1"]
    assert frozen_loras(words) == {"a.safetensors": 1, r"C:\b.safetensors": 1, "c": 0.5, "d.safetensors": -1}
    with pytest.raises(ValueError, match="expected each LoRA once in model.loras, found a twice"):
        frozen_loras(["a:1", "a:2"])
