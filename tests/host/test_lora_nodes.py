"""LoRA files in every layout: they load whole in ComfyUI and in diffusers, do the same, and come back bit for bit."""

import json
import os

import comfy.lora
import comfy.sd
import comfy.utils
import folder_paths
import pytest
import safetensors.torch
import torch
from comfy_api.latest import io
from comfy_extras.nodes_train import LoraModelLoader, SaveLoRA
from diffusers import SD3Transformer2DModel
from mixgrpo_pack.mixgrpo_core.models.families.demo import load_demo
from mixgrpo_pack.mixgrpo_core.models.lora_file import in_file, load_lora, save_lora
from mixgrpo_pack.mixgrpo_core.models.lora_reading import plain
from mixgrpo_pack.nodes.demo import ASSETS, load_model
from mixgrpo_pack.nodes.host.lora_layouts import (
    DIFFUSERS,
    LAYOUTS,
    LoraLayer,
    fused,
    lora_for,
    read,
    to_diffusers,
    to_native,
)
from mixgrpo_pack.nodes.host.lora_layouts import _taken_apart as taken_apart
from mixgrpo_pack.nodes.host.lora_names import Part, trained_layers
from mixgrpo_pack.nodes.loras.files import ConvertLora, SaveLora, laid_out
from mixgrpo_pack.nodes.sockets import LoraWeights
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_models import FAMILIES, tiny

NATIVE, KOHYA = "ComfyUI native", "kohya"


def random_lora(model, rank=3, seed=0):
    """A LoRA of every trained layer, in diffusers names, in whole numbers: sums of products are exact."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randint(-3, 4, shape, generator=generator) / 8.0

    state = {}
    for layer in trained_layers(model):
        for part in layer.parts:
            state[f"transformer.{part.name}.lora_A.weight"] = draw(rank, layer.inputs)
            state[f"transformer.{part.name}.lora_B.weight"] = draw(part.stop - part.start, rank)
    return state


def weights(patcher, lora):
    """Every changed weight as the host computes it, and the names of the file that it did not read."""
    keys = comfy.lora.model_lora_keys_unet(patcher.model, {})
    loaded = comfy.lora.load_lora(dict(lora), keys)
    read_names = set().union(*(adapter.loaded_keys for adapter in loaded.values()))
    patched, _ = comfy.sd.load_lora_for_models(patcher, None, dict(lora), 1.0, 0.0)
    state = patcher.model.state_dict()
    found = {
        key: comfy.lora.calculate_weight(patches, state[key].double(), key, intermediate_dtype=torch.float64)
        for key, patches in patched.patches.items()
    }
    return found, set(lora) - read_names


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "Lumina 2"])
def test_all_layouts_do_the_same_and_come_back(family):
    there = tiny(family)
    model, patcher = there.model, there.patcher
    state = in_file({name.removeprefix("transformer."): tensor for name, tensor in random_lora(model).items()})
    expected, unread = weights(patcher, state)
    assert not unread and expected
    layouts = {name: make(read(state, model), model) for name, make in LAYOUTS.items()}
    assert_same(layouts[DIFFUSERS], state)
    for name, found in layouts.items():
        changed, unread = weights(patcher, found)
        assert not unread, f"{name}: the host does not read {sorted(unread)[:3]}"
        assert_same(changed, expected)
        for other, make in LAYOUTS.items():
            assert_same(make(read(found, model), model), layouts[other])


def test_a_model_without_names_of_diffusers_has_the_two_other_layouts():
    there = tiny("Lumina 2")
    state = random_lora(there.model)
    native = to_native(read(state, there.model), there.model)
    assert_same(native, {name.removeprefix("transformer."): tensor for name, tensor in state.items()})
    expected, unread = weights(there.patcher, native)
    assert not unread and expected
    kohya = LAYOUTS[KOHYA](read(native, there.model), there.model)
    assert_same(weights(there.patcher, kohya)[0], expected)
    assert_same(to_native(read(kohya, there.model), there.model), native)
    with pytest.raises(ValueError, match="choose the layout 'ComfyUI native'"):
        to_diffusers(read(native, there.model), there.model)
    with pytest.raises(ValueError, match="connect the model"):
        laid_out(plain(state, {}, "it"), None, DIFFUSERS)


def test_names_of_the_layouts():
    there = tiny("FLUX.1 dev")
    state = random_lora(there.model, rank=2)
    pieces = read(state, there.model)
    native, kohya = to_native(pieces, there.model), LAYOUTS[KOHYA](pieces, there.model)
    assert native["diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight"].shape[0] == 6, "the rank grew threefold"
    assert native["diffusion_model.double_blocks.1.img_mlp.2.lora_B.weight"].shape[1] == 2
    assert kohya["lora_unet_single_blocks_1_linear1.lora_down.weight"].shape[0] == 8
    assert kohya["lora_unet_single_blocks_1_linear1.alpha"] == 8.0
    assert not any(name.endswith(".alpha") for name in (*native, *state))


def test_a_shared_a_is_kept_and_shared_again():
    there = tiny("SD3")
    state = random_lora(there.model)
    for block in ("0", "1"):
        for part in ("to_k", "to_v"):
            at = f"transformer.transformer_blocks.{block}.attn."
            state[f"{at}{part}.lora_A.weight"] = state[f"{at}to_q.lora_A.weight"].clone()
    native = to_native(read(state, there.model), there.model)
    assert native["diffusion_model.joint_blocks.0.x_block.attn.qkv.lora_A.weight"].shape[0] == 3
    assert native["diffusion_model.joint_blocks.0.context_block.attn.qkv.lora_A.weight"].shape[0] == 9
    assert_same(to_diffusers(read(native, there.model), there.model), state)


def test_fusing_by_hand():
    q = LoraLayer(path="x", start=0, stop=2, down=torch.tensor([[1.0, 2.0]]), up=torch.tensor([[3.0], [4.0]]))
    v = LoraLayer(path="x", start=4, stop=5, down=torch.tensor([[5.0, 6.0]]), up=torch.tensor([[7.0]]))
    down, up = fused([q, v], 5)
    assert torch.equal(up @ down, torch.tensor([[3.0, 6.0], [4.0, 8.0], [0.0, 0.0], [0.0, 0.0], [35.0, 42.0]]))
    parts = tuple(Part(name=name, start=a, stop=b) for name, a, b in (("q", 0, 2), ("k", 2, 4), ("v", 4, 5)))
    whole = LoraLayer(path="x", start=0, stop=5, down=down, up=up)
    apart = {name: (a, b) for name, a, b in taken_apart([whole], parts)}
    assert apart.keys() == {"q", "v"}, "k does not change"
    assert torch.equal(apart["q"][0], q.down) and torch.equal(apart["v"][1], v.up)
    mixed = LoraLayer(path="x", start=0, stop=5, down=torch.eye(2), up=torch.arange(10.0).view(5, 2) + 1)
    apart = {name: b @ a for name, a, b in taken_apart([mixed], parts)}
    assert torch.equal(torch.cat([apart["q"], apart["k"], apart["v"]]), mixed.up)


@pytest.mark.parametrize("alpha", [2.0, 3.0])
def test_the_alpha_of_a_file_is_baked_in(alpha):
    there = tiny("SD3")
    native = to_native(read(random_lora(there.model, rank=4), there.model), there.model)
    trained = {}  # as the host's own trainer writes it
    for name, tensor in native.items():
        module, kind = name.rsplit(".lora_", 1)
        trained[f"{module}.lora_{'down' if kind == 'A.weight' else 'up'}.weight"] = tensor
        trained[f"{module}.alpha"] = torch.tensor(alpha)
    expected, _ = weights(there.patcher, trained)
    for make in LAYOUTS.values():
        found, unread = weights(there.patcher, make(read(trained, there.model), there.model))
        assert not unread
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=1e-6)


def test_16_bits_stay_16_bits_unless_a_factor_would_be_rounded():
    there = tiny("SD3")
    state = {name: tensor.bfloat16() for name, tensor in random_lora(there.model).items()}
    native = laid_out(plain(state, {}, "it"), there.patcher, NATIVE)
    assert {tensor.dtype for tensor in native.values()} == {torch.bfloat16}
    name = "diffusion_model.joint_blocks.0.x_block.mlp.fc1"
    third = {f"{name}.lora_A.weight": torch.ones(3, 128).half(), f"{name}.lora_B.weight": torch.ones(512, 3).half()}
    third[f"{name}.alpha"] = torch.tensor(1.0)
    found = laid_out(plain(third, {}, "it"), there.patcher, NATIVE)
    assert found[f"{name}.lora_B.weight"].dtype == torch.float32
    torch.testing.assert_close(found[f"{name}.lora_B.weight"][0, 0], torch.tensor(1 / 3))


@pytest.fixture
def output(tmp_path, monkeypatch):
    """Folders of its own as ComfyUI's output folder and its LoRA folders."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    loras = tmp_path / "output" / "loras"
    loras.mkdir(parents=True)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(loras)], {".safetensors"}))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return loras


@pytest.fixture(scope="module")
def demo():
    with torch.inference_mode():
        return load_model()


def run(node, workflow=None, **values):
    """Outputs of a node, executed as ComfyUI does."""
    said = node.validate_inputs(**{key: values[key] for key in ("name", "layout", "lora_file") if key in values})
    if said is not True:
        raise ValueError(said)
    extra = {"workflow": workflow} if workflow else {}
    clone = node.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.extra_pnginfo: extra}})
    with torch.inference_mode():
        return clone.execute(**values).args


def velocity(patcher, lora=None):
    """Of the demo model in ComfyUI, with a LoRA put on by the host's loader."""
    if lora is not None:
        patcher, _ = comfy.sd.load_lora_for_models(patcher, None, dict(lora), 1.0, 0.0)
    generator = torch.Generator().manual_seed(3)
    x, tokens, pooled = (torch.randn(shape, generator=generator) for shape in ((2, 16, 8, 8), (2, 8, 128), (2, 128)))
    network = patcher.model.diffusion_model
    tokens = torch.randn(2, 8, network.context_embedder.in_features, generator=generator)
    pooled = torch.randn(2, network.y_embedder.mlp[0].in_features, generator=generator)
    with torch.inference_mode():
        patcher.patch_model(device_to=torch.device("cpu"))
        try:
            return network(x, torch.tensor([700.0, 700.0]), context=tokens, y=pooled).clone(), (x, tokens, pooled)
        finally:
            patcher.unpatch_model(torch.device("cpu"))


def demo_lora(demo):
    generator = torch.Generator().manual_seed(5)
    state = random_lora(demo.model, rank=2)
    return {name: 0.1 * torch.randn(tensor.shape, generator=generator) for name, tensor in state.items()}


def test_saved_files_give_the_same_velocities_in_comfyui_and_in_diffusers(demo, output):
    state = demo_lora(demo)
    base, _ = velocity(demo)
    expected, (x, tokens, pooled) = velocity(demo, state)
    assert (expected - base).abs().max() > 0.01
    for layout in LAYOUTS:
        [file] = run(SaveLora, lora=LoraWeights(state, {}), name="a", layout=layout, model=demo)
        found = comfy.utils.load_torch_file(str(output / file), safe_load=True)
        assert not weights(demo, found)[1]
        torch.testing.assert_close(velocity(demo, found)[0], expected, atol=1e-5, rtol=0)
    again, _ = velocity(demo)
    assert torch.equal(again, base), "the base model is as it was"

    there = SD3Transformer2DModel.from_pretrained(ASSETS / "transformer")
    saved = comfy.utils.load_torch_file(str(output / "mixgrpo" / "a.safetensors"))
    there.load_lora_adapter(saved, prefix="transformer", adapter_name="a")
    with torch.no_grad():
        found = there(x, tokens, pooled, torch.tensor([700.0, 700.0]), return_dict=False)[0]
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_a_headless_lora_is_converted_and_read_by_the_core_again(demo, output):
    headless = load_demo(rank=2)
    state = {
        name: torch.randn(tensor.shape, generator=torch.Generator().manual_seed(i))
        for i, (name, tensor) in enumerate(headless.lora_state().items())
    }
    save_lora(output / "trained.safetensors", state, metadata={"mixgrpo.config": "{}", "ss_seed": "7"})
    native, file = run(ConvertLora, lora_file="trained.safetensors", model=demo, layout=KOHYA, name="k")
    assert {name.split("_")[0] for name in native} == {"lora"}
    back, file = run(ConvertLora, lora_file=file, model=demo, layout=DIFFUSERS, name="back")
    found = load_lora(output / file)
    assert_same(dict(found.state), state)
    assert found.metadata["ss_seed"] == "7" and found.metadata["mixgrpo.config"] == "{}"
    assert isinstance(back, LoraWeights)


def test_the_hosts_own_nodes_take_the_lora(demo, output, tmp_path):
    lora = LoraWeights(demo_lora(demo), {"ss_seed": "1"})
    [with_lora] = LoraModelLoader.execute(demo, lora, 1.0).args
    assert len(with_lora.patches) == len(trained_layers(demo.model))
    SaveLoRA.execute(lora, "loras/from_host")
    [file] = list(output.glob("from_host*.safetensors"))
    assert_same(comfy.utils.load_torch_file(str(file)), dict(lora))


def test_the_header_and_the_place_of_a_file(demo, output):
    lora = LoraWeights(demo_lora(demo), {"ss_seed": "11", "mixgrpo.config": "{}", "modelspec.date": "2026-01-01"})
    workflow = {"nodes": [1, "ü"]}
    [file] = run(SaveLora, workflow, lora=lora, name="my lora", layout=DIFFUSERS, trigger=" shapes ")
    [second] = run(SaveLora, lora=lora, name="my lora", layout=DIFFUSERS)
    assert (file, second) == ("mixgrpo/my lora.safetensors", "mixgrpo/my lora-2.safetensors")
    folder_paths.filename_list_cache.clear()
    assert {file, second} <= set(folder_paths.get_filename_list("loras")), "LoRA loaders list it"
    with safe_open(output / file, framework="pt") as found:
        words = found.metadata()
    assert words["workflow"] == '{"nodes": [1, "\\u00fc"]}'
    assert words["ss_seed"] == "11" and words["mixgrpo.config"] == "{}" and words["modelspec.date"] == "2026-01-01"
    assert words["modelspec.title"] == words["ss_output_name"] == "my lora"
    assert (words["ss_network_dim"], words["ss_network_alpha"], words["format"]) == ("2", "2", "pt")
    assert words["modelspec.trigger_phrase"] == "shapes" and words["modelspec.implementation"] == "diffusers"
    [file] = run(SaveLora, lora=lora, name="n", layout=NATIVE, model=demo, dtype="bfloat16")
    with safe_open(output / file, framework="pt") as found:
        words = found.metadata()
        assert {found.get_tensor(name).dtype for name in found.keys()} == {torch.bfloat16}  # noqa: SIM118
    assert words["modelspec.architecture"] == "stable-diffusion-3/lora"
    assert (words["ss_network_dim"], words["modelspec.implementation"]) == ("6", "comfyui")


def test_a_lora_may_lie_in_a_folder_of_its_own(demo, output):
    for number in ("", "-2"):
        [file] = run(SaveLora, lora=demo_lora(demo), name="Künstler/anna", layout=DIFFUSERS)
        assert file == os.path.join("mixgrpo", "Künstler", f"anna{number}.safetensors") and (output / file).is_file()
    with pytest.raises(ValueError, match="one name on Windows"):
        run(SaveLora, lora=demo_lora(demo), name="künstler/anna", layout=DIFFUSERS)


@pytest.mark.parametrize("name", ["../x", "a/../../b", "C:x", "nul", "", "x\n"])
def test_nothing_is_written_outside_of_the_folder(demo, output, name):
    before = sorted(output.parent.parent.rglob("*.safetensors"))
    with pytest.raises(ValueError, match="becomes the name of a file"):
        run(SaveLora, lora=demo_lora(demo), name=name, layout=DIFFUSERS)
    with pytest.raises(ValueError, match="becomes the name of a file"), torch.inference_mode():
        SaveLora.PREPARE_CLASS_CLONE({"hidden_inputs": {}}).execute(demo_lora(demo), name, DIFFUSERS)
    assert sorted(output.parent.parent.rglob("*.safetensors")) == before


def test_what_cannot_be_converted_is_told(demo, output):
    state = demo_lora(demo)
    with pytest.raises(ValueError, match="connect the model"):
        run(SaveLora, lora=state, name="a", layout=KOHYA)
    with pytest.raises(ValueError, match="connect the model"):
        run(SaveLora, lora={"diffusion_model.x.lora_up.weight": torch.ones(1)}, name="a", layout=DIFFUSERS)

    def refused(changed, words):
        safetensors.torch.save_file(changed, output / "bad.safetensors")
        folder_paths.filename_list_cache.clear()
        with pytest.raises(ValueError, match=words):
            run(ConvertLora, lora_file="bad.safetensors", model=demo, layout=NATIVE, name="a")

    module = next(iter(state)).removesuffix(".lora_A.weight")
    refused({**state, f"{module}.dora_scale": torch.ones(1)}, "is DoRA.*Load LoRA before the trainer")
    refused({f"{module}.hada_w1_a": torch.ones(1)}, "is LoHa")
    refused({**state, f"{module}.lora_B.weight": torch.full((5, 2), torch.nan)}, "not finite")
    refused({name: tensor for name, tensor in state.items() if name != f"{module}.lora_A.weight"}, "not whole")
    refused({**state, f"{module}.diff_b": torch.ones(1)}, "bias")
    refused({"transformer.other.lora_A.weight": torch.ones(2, 2)}, "no place for")
    refused({**state, f"{module}.lora_B.weight": torch.ones(5, 2)}, "another model's")
    refused({**state, f"{module}.lora_A.weight": torch.ones(2, 5)}, "another model's")
    refused({**state, f"{module}.lora_A.weight": state[f"{module}.lora_A.weight"][:1]}, "not whole")
    (output / "bad.safetensors").write_bytes(b"no file")
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        run(ConvertLora, lora_file="bad.safetensors", model=demo, layout=NATIVE, name="a")
    for outside in ("../secret.safetensors", "/etc/passwd", "missing.safetensors"):
        with pytest.raises(ValueError, match="no LoRA file"):
            run(ConvertLora, lora_file=outside, model=demo, layout=NATIVE, name="a")


def test_parts_for_text_encoders_stay_out_and_the_rest_is_converted(demo, output):
    state = demo_lora(demo)
    text = {f"text_encoder.layers.0.q.lora_{kind}.weight": torch.ones(2, 2) for kind in "AB"}
    text["lora_te1_text_model_x.alpha"] = torch.ones(())
    safetensors.torch.save_file({**state, **text}, output / "both.safetensors")
    clone = ConvertLora.PREPARE_CLASS_CLONE({"hidden_inputs": {}})
    with torch.inference_mode():
        made = clone.execute("both.safetensors", demo, DIFFUSERS, "a")
    assert_same(dict(made.args[0]), state)
    assert "without its 3 tensors of text encoders (lora_te1_text_model_x.alpha" in str(made.ui.as_dict())


def test_an_alpha_of_the_header_is_baked_in_once(demo, output):
    """As diffusers' save_lora_weights writes it: the host does not read it, so the file is saved for the host, too."""
    state = demo_lora(demo)
    header = {"lora_adapter_metadata": json.dumps({"transformer.lora_alpha": 8.0, "transformer.r": 2})}
    scaled = {name: tensor * 4 if "lora_B" in name else tensor for name, tensor in state.items()}
    safetensors.torch.save_file(state, output / "diffusers.safetensors", metadata=header)
    _, converted = run(ConvertLora, lora_file="diffusers.safetensors", model=demo, layout=NATIVE, name="a")
    [saved] = run(SaveLora, lora=LoraWeights(state, header), name="b", layout=DIFFUSERS)
    for file in (converted, saved):
        assert_same(weights(demo, load_file(output / file))[0], weights(demo, scaled)[0])
        with safe_open(output / file, framework="pt") as opened:
            assert "lora_adapter_metadata" not in opened.metadata()


def test_a_folder_of_peft_is_converted(demo, output):
    state = demo_lora(demo)
    folder = output / "peft"
    folder.mkdir()
    named = {f"base_model.model.{name.removeprefix('transformer.')}": tensor for name, tensor in state.items()}
    safetensors.torch.save_file(named, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 1}))
    found, _ = run(ConvertLora, lora_file="peft/adapter_model.safetensors", model=demo, layout=DIFFUSERS, name="a")
    assert_same(dict(found), {name: tensor / 2 if "lora_B" in name else tensor for name, tensor in state.items()})


@pytest.mark.parametrize("family", ["SD3", "FLUX.1 dev", "Lumina 2"])
def test_a_policy_starts_from_a_lora_of_any_layout(family):
    there = tiny(family)
    state = {name.removeprefix("transformer."): tensor for name, tensor in random_lora(there.model).items()}
    pieces = read({f"transformer.{name}": tensor for name, tensor in state.items()}, there.model)
    for layout in (NATIVE, KOHYA):
        given = plain(LAYOUTS[layout](pieces, there.model), {}, "it")
        assert_same(dict(lora_for(given, there.model, state, "it").state), state)


def test_layers_beyond_the_trained_ones_are_kept():
    """Other trainers change modulation and embedders, too."""
    there = tiny("FLUX.1 dev")
    names = ("double_blocks.0.img_mod.lin", "time_in.in_layer", "final_layer.adaLN_modulation.1")
    modules = dict(there.model.named_modules())
    state = {}
    for number, name in enumerate(names):
        module = modules[f"diffusion_model.{name}"]
        generator = torch.Generator().manual_seed(number)
        state[f"diffusion_model.{name}.lora_A.weight"] = torch.randn(2, module.in_features, generator=generator)
        state[f"diffusion_model.{name}.lora_B.weight"] = torch.randn(module.out_features, 2, generator=generator)
    assert_same(to_native(read(state, there.model), there.model), state)
    with pytest.raises(ValueError, match=r"no diffusers names for diffusion_model.final_layer.adaLN_modulation.1"):
        to_diffusers(read(state, there.model), there.model)
    some = {name: tensor for name, tensor in state.items() if "final" not in name}
    found = to_diffusers(read(some, there.model), there.model)
    assert "transformer.transformer_blocks.0.norm1.linear.lora_A.weight" in found
    assert_same(weights(there.patcher, found)[0], weights(there.patcher, some)[0])
    turned = {
        name.replace("diffusion_model.final_layer.adaLN_modulation.1", "transformer.norm_out.linear"): tensor
        for name, tensor in state.items()
        if "final" in name
    }
    assert_same(
        weights(there.patcher, to_native(read(turned, there.model), there.model))[0], weights(there.patcher, turned)[0]
    )
