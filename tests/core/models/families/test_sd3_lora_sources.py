"""LoRAs as diffusers and peft write them: what we load does what it does with them, strength included."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from tiny_sd3 import PROMPT, load, make_folder, stir, velocity_of
from torch import Tensor

from mixgrpo_core.models.lora import export_lora
from mixgrpo_core.models.lora_file import load_lora, save_lora
from mixgrpo_core.models.lora_names import LoraFileError
from mixgrpo_core.models.lora_reading import ADAPTER_METADATA, plain

LAYERS = ["attn.to_q", "attn.to_out.0", "attn.add_k_proj", "ff.net.2"]
STRENGTHS = {
    "alpha": {"r": 4, "lora_alpha": 1},
    "patterns": {
        "r": 4,
        "lora_alpha": 3,
        "rank_pattern": {"ff.net.2": 2, "transformer_blocks.1.attn.to_q": 6},
        "alpha_pattern": {"attn.to_q": 1, r"transformer_blocks\.\d+\.ff\.net\.2": 5},
    },
    "rank-stabilised": {"r": 4, "lora_alpha": 3, "use_rslora": True},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "sd3")


@pytest.fixture(scope="module")
def embedded(folder: Path) -> tuple[Tensor, Tensor]:
    pipe = StableDiffusion3Pipeline.from_pretrained(folder)
    embeds, _, pooled, _ = pipe.encode_prompt(PROMPT, None, None, do_classifier_free_guidance=False)
    return embeds.expand(2, -1, -1), pooled.expand(2, -1)


def network_of(folder: Path) -> SD3Transformer2DModel:
    return SD3Transformer2DModel.from_pretrained(folder / "transformer")


def shake(network: torch.nn.Module) -> None:
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)


def their_velocity(network: torch.nn.Module, folder: Path, embedded: tuple[Tensor, Tensor]) -> Tensor:
    x = load(folder).noise(3, 2)
    with torch.no_grad():
        return network(x, *embedded, torch.tensor([700.0, 700.0])).sample


@pytest.mark.parametrize("kind", STRENGTHS)
def test_a_file_of_diffusers_has_the_strength_of_its_header(kind: str, folder: Path, embedded, tmp_path: Path) -> None:
    network = network_of(folder)
    network.add_adapter(LoraConfig(target_modules=LAYERS, **STRENGTHS[kind]))
    shake(network)
    about = _collate_lora_metadata({"transformer": network})
    layers = get_peft_model_state_dict(network)
    StableDiffusion3Pipeline.save_lora_weights(tmp_path, transformer_lora_layers=layers, **about)
    path = tmp_path / "pytorch_lora_weights.safetensors"
    pipe = StableDiffusion3Pipeline.from_pretrained(
        folder, text_encoder=None, text_encoder_2=None, text_encoder_3=None, tokenizer=None, tokenizer_2=None
    )
    pipe.load_lora_weights(path)
    theirs = their_velocity(pipe.transformer, folder, embedded)
    torch.testing.assert_close(theirs, their_velocity(network, folder, embedded), rtol=0, atol=1e-5)
    ours = load(folder, rank=None, lora=path)
    torch.testing.assert_close(velocity_of(ours), theirs, rtol=0, atol=1e-5)
    again = export_lora(ours, tmp_path / "again.safetensors", load_lora(path).metadata)
    assert ADAPTER_METADATA not in load_lora(again).metadata
    torch.testing.assert_close(velocity_of(load(folder, rank=None, lora=again)), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", STRENGTHS)
def test_a_folder_of_peft_has_the_strength_of_its_settings(kind: str, folder: Path, embedded, tmp_path: Path) -> None:
    network = get_peft_model(network_of(folder), LoraConfig(target_modules=LAYERS, **STRENGTHS[kind]))
    shake(network)
    network.save_pretrained(tmp_path)
    theirs = their_velocity(PeftModel.from_pretrained(network_of(folder), tmp_path), folder, embedded)
    torch.testing.assert_close(velocity_of(load(folder, rank=None, lora=tmp_path)), theirs, rtol=0, atol=1e-5)
    file = tmp_path / "adapter_model.safetensors"
    torch.testing.assert_close(velocity_of(load(folder, rank=None, lora=file)), theirs, rtol=0, atol=1e-5)
    shutil.copy(file, tmp_path / "renamed.safetensors")
    with pytest.raises(LoraFileError, match=r"alpha stands in adapter_config.json, and there is none"):
        load_lora(tmp_path / "renamed.safetensors")


@pytest.mark.parametrize("prefix", ["lora_transformer_", "lycoris_"])
def test_names_with_underscores_for_points_are_read(prefix: str, folder: Path, tmp_path: Path) -> None:
    model = stir(load(folder))
    state = load_file(export_lora(model, tmp_path / "a.safetensors"))
    flat = {}
    for name, tensor in state.items():
        layer, end = name.removeprefix("transformer.").rsplit(".lora_", 1)
        kind = {"A.weight": "down", "B.weight": "up"}[end]
        flat[f"{prefix}{layer.replace('.', '_')}.lora_{kind}.weight"] = tensor
    save_file(flat, tmp_path / "flat.safetensors")
    ours = load(folder, rank=None, lora=tmp_path / "flat.safetensors")
    torch.testing.assert_close(velocity_of(ours), velocity_of(model), rtol=0, atol=2e-6)


def test_a_file_of_comfyui_says_who_converts_it(folder: Path, tmp_path: Path) -> None:
    state = {f"diffusion_model.x.lora_{kind}.weight": torch.ones(2, 2) for kind in "AB"}
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="node MixGRPO Convert LoRA"):
        load(folder, rank=None, lora=tmp_path / "a.safetensors")


PAIR = {"m.lora_A.weight": torch.ones(2, 3), "m.lora_B.weight": torch.ones(3, 2)}
UNKNOWN = {
    "no JSON": ("{", "is not JSON"),
    "deep JSON": ("[" * 100_000, "is not JSON"),
    "a list": ("[]", "expected a JSON object"),
    "an alpha of words": ('{"lora_alpha": "much"}', "finite number as lora_alpha"),
    "an alpha of nan": ('{"lora_alpha": NaN}', "finite number as lora_alpha"),
    "patterns in a list": ('{"lora_alpha": 1, "alpha_pattern": ["m"]}', "expected a table alpha_pattern"),
    "no expression": ('{"lora_alpha": 1, "alpha_pattern": {"(": 1}}', "too intricate"),
    "an expression without an end": ('{"lora_alpha": 1, "alpha_pattern": {"(a+)+b": 1}}', "too intricate"),
    "DoRA": ('{"lora_alpha": 1, "use_dora": true}', "use_dora"),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_settings_that_tell_no_strength_are_refused(kind: str) -> None:
    said, words = UNKNOWN[kind]
    with pytest.raises(LoraFileError, match=words):
        plain(PAIR, {ADAPTER_METADATA: said}, "it")


def test_two_strengths_are_refused_and_one_said_twice_is_not() -> None:
    said = {ADAPTER_METADATA: json.dumps({"transformer.lora_alpha": 1, "text_encoder.lora_alpha": 7})}
    agreed = plain({**PAIR, "m.alpha": torch.tensor(1.0)}, said, "it").tensors
    assert torch.equal(agreed["m.lora_B.weight"], torch.full((3, 2), 0.5))
    with pytest.raises(LoraFileError, match="two strengths of m, 0.5 and 2"):
        plain({**PAIR, "m.alpha": torch.tensor(4.0)}, said, "it")


def test_the_alpha_of_another_file_is_not_written_into_ours(tmp_path: Path) -> None:
    path = save_lora(tmp_path / "a.safetensors", PAIR, metadata={ADAPTER_METADATA: '{"lora_alpha": 8}'})
    assert torch.equal(load_lora(path).state["m.lora_B.weight"], PAIR["m.lora_B.weight"])
