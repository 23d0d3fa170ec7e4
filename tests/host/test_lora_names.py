"""The LoRA's names on a model of the host, against the modules of the same architecture in diffusers."""

import re

import comfy.sd
import diffusers
import pytest
import torch
from mixgrpo_pack.mixgrpo_core.models.families.sd3 import SD3
from mixgrpo_pack.mixgrpo_core.models.lora_file import save_lora
from mixgrpo_pack.mixgrpo_core.models.lora_layers import is_attention, list_of
from mixgrpo_pack.nodes.host.bypass_lora import HostLora
from mixgrpo_pack.nodes.host.lora_names import block_of, trained_layers
from safetensors.torch import load_file
from tiny_models import CPU, FAMILIES, tiny

FLUX_SIZES = {
    "in_channels": 16,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 12,
    "axes_dims_rope": (4, 6, 6),
}
# the tiny models again, in diffusers
TWINS = {
    "SD3": (
        diffusers.SD3Transformer2DModel,
        {
            "num_layers": 2,
            "num_attention_heads": 2,
            "caption_projection_dim": 128,
            "joint_attention_dim": 24,
            "pooled_projection_dim": 20,
        },
    ),
    "FLUX.1 dev": (diffusers.FluxTransformer2DModel, FLUX_SIZES | {"pooled_projection_dim": 10}),
    "FLUX.2": (
        diffusers.Flux2Transformer2DModel,
        FLUX_SIZES | {"in_channels": 8, "axes_dims_rope": (4, 4, 4, 4), "mlp_ratio": 3.0},
    ),
    "Chroma": (diffusers.ChromaTransformer2DModel, FLUX_SIZES),
    "Qwen-Image": (
        diffusers.QwenImageTransformer2DModel,
        {
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 12,
            "axes_dims_rope": (4, 6, 6),
        },
    ),
    "Z-Image": (
        diffusers.ZImageTransformer2DModel,
        {"dim": 256, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 12},
    ),
    "HiDream": (
        diffusers.HiDreamImageTransformer2DModel,
        {
            "patch_size": 2,
            "in_channels": 4,
            "num_layers": 1,
            "num_single_layers": 1,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "caption_channels": [12, 12],
            "text_emb_dim": 10,
            "num_routed_experts": 2,
            "llama_layers": [0, 1],
        },
    ),
    "AuraFlow": (
        diffusers.AuraFlowTransformer2DModel,
        {
            "num_mmdit_layers": 2,
            "num_single_dit_layers": 1,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 12,
            "caption_projection_dim": 32,
        },
    ),
    "Krea 2": (
        diffusers.Krea2Transformer2DModel,
        {
            "in_channels": 16,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 128,
            "text_hidden_dim": 16,
            "num_text_layers": 3,
            "text_num_attention_heads": 2,
            "text_num_key_value_heads": 2,
            "text_intermediate_size": 128,
            "axes_dims_rope": (4, 6, 6),
        },
    ),
    "Ernie-Image": (
        diffusers.ErnieImageTransformer2DModel,
        {
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_layers": 2,
            "ffn_hidden_size": 24,
            "rope_axes_dim": (4, 6, 6),
        },
    ),
}
NATIVE = ["Lumina 2"]


def parts(name):
    return [(layer, part) for layer in trained_layers(tiny(name).model) for part in layer.parts]


def sizes(name):
    return {part.name: (part.stop - part.start, layer.inputs) for layer, part in parts(name)}


def twin(name):
    make, settings = TWINS[name]
    with torch.device("meta"):
        network = make(**settings)
    return {path: tuple(m.weight.shape) for path, m in network.named_modules() if isinstance(m, torch.nn.Linear)}


def is_attention_or_mlp(path):
    in_a_block = re.search(r"\.\d+\.(?=[a-z])", path)
    return in_a_block is not None and not re.search(r"norm|mod|emb|caption|guidance", path)


@pytest.mark.parametrize("name", TWINS)
def test_names_and_shapes_are_those_of_diffusers_and_none_is_left_out(name):
    expected = {path: shape for path, shape in twin(name).items() if is_attention_or_mlp(path)}
    assert len(expected) > 10
    assert sizes(name) == expected


@pytest.mark.parametrize("name", ["SD3", "SD3.5 medium"])
def test_sd3_has_the_layers_of_the_headless_lora(name):
    names = list(sizes(name))
    assert all(re.fullmatch(SD3.linears, found) for found in names)
    dual = name == "SD3.5 medium"
    assert sum(".attn2." in found for found in names) == 4 * dual
    assert len(names) == 12 + 9 + 4 * dual  # the last block has no text to give on


def test_both_kinds_of_flux_have_one_name_for_each_slice():
    one, two = sizes("FLUX.1 dev"), sizes("FLUX.2")
    assert "single_transformer_blocks.0.proj_mlp" in one
    assert "single_transformer_blocks.0.attn.to_qkv_mlp_proj" in two
    for names in (one, two):
        assert len({name.split(".ff.")[0] for name in names if ".ff." in name}) == 2
        assert len([name for name in names if name.startswith("transformer_blocks.0.ff.")]) == 2


@pytest.mark.parametrize("name", NATIVE)
def test_a_model_that_the_hosts_table_does_not_fit_keeps_the_hosts_names(name):
    """Lumina 2 has fewer keys than queries; the table is that of Z-Image."""
    assert all(part.name == layer.path and part.start == 0 for layer, part in parts(name))


@pytest.mark.parametrize("name", FAMILIES)
def test_parts_tile_their_layers_in_order(name):
    model = tiny(name).model
    for layer in trained_layers(model):
        assert [part.start for part in layer.parts] == [0, *(part.stop for part in layer.parts[:-1])]
        module = model.get_submodule(layer.path)
        assert (module.out_features, module.in_features) == (layer.parts[-1].stop, layer.inputs)
        assert layer.path.startswith(block_of(layer.path) + ".")


@pytest.mark.parametrize("name", TWINS)
def test_every_choice_of_layers_is_that_of_diffusers(name):
    linear = twin(name)
    usual = {path for path in linear if is_attention_or_mlp(path)}
    lists = {list_of(path) for path in usual}
    for kind in ("attention", "all linear"):
        found = {part.name for layer in trained_layers(tiny(name).model, kind) for part in layer.parts}
        every = {path for path in linear if list_of(path) in lists}
        every -= {"transformer_blocks.1.norm1_context.linear"} if name == "SD3" else set()  # the host swaps its rows
        expected = {path for path in usual if is_attention(path)} if kind == "attention" else every
        assert found == expected, kind


CHOICES = [(name, "attention and MLP") for name in FAMILIES]
CHOICES += [(name, kind) for name in ("SD3", "FLUX.1 dev", "FLUX.2") for kind in ("attention", "all linear")]


@pytest.mark.parametrize("name, kind", CHOICES)
def test_the_hosts_own_loader_reads_the_file_and_gives_the_same_velocity(name, kind, tmp_path, caplog):
    model = tiny(name)
    layers = trained_layers(model.model, kind)
    lora = HostLora(model.model, rank=2, alpha=4.0, seed=0, device=CPU, layers=kind)
    draw = torch.Generator().manual_seed(3)
    lora.load_state({key: torch.randn(tensor.shape, generator=draw) / 8 for key, tensor in lora.trained.items()})
    state = load_file(save_lora(tmp_path / "lora.safetensors", lora.state(), scale=lora.scale))
    if name in NATIVE:
        state = {key.removeprefix("transformer."): tensor for key, tensor in state.items()}

    with torch.no_grad():
        base = model.velocity()
        loaded, _ = comfy.sd.load_lora_for_models(model.patcher, None, state, 1.0, 0.0)
        assert len(loaded.patches) == len(layers)
        assert sum(map(len, loaded.patches.values())) == sum(len(layer.parts) for layer in layers)
        assert "not loaded" not in caplog.text
        loaded.patch_model()
        patched = model.velocity()
        loaded.unpatch_model()
        lora.attach(model.patcher)
        model.patcher.inject_model()
        injected = model.velocity()
    assert (patched - base).abs().max() > 0.1
    torch.testing.assert_close(injected, patched, atol=2e-5, rtol=1e-4)


def test_a_model_without_blocks_is_told_in_plain_words():
    model = tiny("SD3").model
    model.diffusion_model.joint_blocks = torch.nn.ModuleList()
    with pytest.raises(ValueError, match="SD3 without any: this model cannot be trained"):
        trained_layers(model)
