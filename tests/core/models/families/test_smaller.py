"""A frozen base in fewer bytes: float8 of the package's own, and what libraries quantise, where they are installed."""

import json
from importlib.util import find_spec

import pytest
import torch
from diffusers import FluxTransformer2DModel
from quantised_bases import NEEDS, gguf_file, installed
from tiny_pipelines import flux_network, make_folder
from tiny_sd3 import PROMPT, gradients, load, stir
from tiny_sd3 import make_folder as sd3_folder
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from mixgrpo_core.models import load_pipeline
from mixgrpo_core.models.diffusers.loading import load_network
from mixgrpo_core.models.diffusers.smaller import Smaller
from mixgrpo_core.models.families.sd3_memory import unloaded_sd3
from mixgrpo_core.models.lora import export_lora
from mixgrpo_core.models.quantization import FLOAT8, LIBRARIES, NF4, QUANTO, TORCHAO
from mixgrpo_core.rewards import PixelReward
from mixgrpo_core.rewards.pixels.measures import Brightness
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.training.loop import train

LONG = pytest.mark.long("bases")
X = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
ASKED = {
    "timestep": torch.tensor([700.0, 300.0]),
    "encoder_hidden_states": torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(1)),
    "pooled_projections": torch.randn(2, 20, generator=torch.Generator().manual_seed(2)),
    "return_dict": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sd3_folder(tmp_path_factory.mktemp("model") / "sd3")


def network(folder, dtype=torch.float32, **how):
    """The folder's network as a training has it, without a LoRA."""
    smaller = Smaller(**how).there()
    found = load_network(folder / "transformer", "SD3Transformer2DModel", dtype, smaller).requires_grad_(False)
    smaller.finish(found, dtype, torch.device("cpu"))
    return found


def slope(found):
    """Of a weighted sum of what the network gives by its input."""
    x = X.clone().requires_grad_()
    given = found(x, **ASKED)[0]
    (given * torch.linspace(-1, 1, given.numel()).view_as(given)).sum().backward()
    return given.detach(), x.grad


def plain(tensor):
    """The tensors of numbers that a weight is made of."""
    if not is_traceable_wrapper_subclass(tensor):
        return [tensor]
    return [part for name in tensor.__tensor_flatten__()[0] for part in plain(getattr(tensor, name))]


def size(found):
    """Bytes of the weights."""
    return sum(part.numel() * part.element_size() for weight in found.parameters() for part in plain(weight))


def waiting(found):
    """Bytes that wait for the backward pass and do not grow with the rows: copies of weights."""
    own = {part.untyped_storage().data_ptr() for weight in found.parameters() for part in plain(weight)}

    def kept(rows):
        seen = {}

        def keep(tensor):
            for part in plain(tensor):
                storage = part.untyped_storage()
                if storage.data_ptr() not in own:
                    seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        asked = {name: value[:rows] if name != "return_dict" else value for name, value in ASKED.items()}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            found(X[:rows].clone().requires_grad_(), **asked)
        return sum(seen.values())

    one, two = kept(1), kept(2)
    return 2 * one - two


def without_biases(found):
    """Theirs are rounded too, which is why they are left out here."""
    with torch.no_grad():
        for module in found.modules():
            if isinstance(module, torch.nn.Linear) and module.bias is not None:
                module.bias.zero_()
    return found


def test_float8_computes_what_diffusers_layerwise_casting_does(folder):
    exact, theirs, ours = (without_biases(network(folder, quantization=kind)) for kind in (None, None, FLOAT8))
    theirs.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    (found, our_slope), (expected, expected_slope) = slope(ours), slope(theirs)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(our_slope, expected_slope, rtol=0, atol=1e-5)
    assert (found - slope(exact)[0]).abs().max() > 1e-3, "it is rounded"


def test_float8_keeps_no_copy_of_a_weight_for_the_backward_pass(folder):
    assert waiting(network(folder, quantization=FLOAT8)) <= waiting(network(folder))


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=LONG)])
def test_a_float8_base_is_proven_and_its_plan_knows_its_bytes(folder, dtype):
    model = load_pipeline(
        folder, rank=2, dtype=dtype, smaller=Smaller(quantization=FLOAT8)
    )  # proves velocity and gradient
    planned = unloaded_sd3(folder, rank=2, dtype=dtype, smaller=Smaller(quantization=FLOAT8)).weights
    if dtype == torch.float32:  # below, diffusers keeps a few layers in float32, quantised or not
        assert planned == size(network(folder, quantization=FLOAT8))
    assert planned < 0.8 * unloaded_sd3(folder, rank=2, dtype=dtype).weights
    assert model.pass_memory(checkpointing=False) is not None


def test_a_float8_base_trains_with_a_first_ratio_of_one(folder):
    model = load_pipeline(folder, rank=2, dtype=torch.float32, smaller=Smaller(quantization=FLOAT8), prove=False)
    before = {name: weight.clone() for name, weight in model._network.network.named_parameters() if "lora" not in name}
    require_training(model)
    for name, weight in model._network.network.named_parameters():
        assert "lora" in name or torch.equal(weight.float(), before[name].float()), "the base stays as it is"


def require_training(model):
    config = TrainConfig(iterations=1, steps=6, images_per_prompt=3, prompts_per_iteration=1, updates=1)
    start = {name: tensor.clone() for name, tensor in model.lora_state().items()}
    (report,) = train(model, [PROMPT], {"bright": PixelReward(Brightness())}, config)
    assert report.to_json()["update"]["ratio_first"] < 1e-5
    assert any(not torch.equal(tensor, start[name]) for name, tensor in model.lora_state().items())


def test_checkpointing_gives_the_same_gradient_of_a_float8_base(folder):
    model = stir(load(folder))  # of the plain one, to see that it is another
    small = stir(load_pipeline(folder, rank=4, dtype=torch.float32, smaller=Smaller(quantization=FLOAT8), prove=False))
    plain = gradients(small)
    small.checkpointing = True
    again = gradients(small)
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))
    assert any(not torch.allclose(one, other) for one, other in zip(plain, gradients(model), strict=True))


@pytest.mark.parametrize("quantization", [TORCHAO, QUANTO, NF4])
def test_a_library_that_is_not_there_is_named(quantization, folder):
    if not installed(quantization):
        with pytest.raises(ValueError, match=f"pip install {LIBRARIES[quantization].replace('.', '-')}"):
            load_pipeline(folder, smaller=Smaller(quantization=quantization))


def test_a_folder_quantised_with_dynamic_activations_is_refused(folder, tmp_path):
    copy = tmp_path / "model"
    copy.mkdir()
    for part in folder.iterdir():
        if part.name != "transformer":
            (copy / part.name).symlink_to(part)
    (copy / "transformer").mkdir()
    config = json.loads((folder / "transformer/config.json").read_text())
    kind = {"_type": "Int8DynamicActivationInt8WeightConfig", "_version": 2, "_data": {}}
    config["quantization_config"] = {"quant_method": "torchao", "quant_type": {"default": kind}}
    (copy / "transformer/config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="dynamic activations, which have no gradient"):
        load_pipeline(copy)


def test_what_does_not_go_together_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="found both"):
        load_pipeline(folder, smaller=Smaller(quantization=FLOAT8, gguf="a.gguf"))
    if find_spec("gguf") is None:
        with pytest.raises(ValueError, match="needs the library gguf, which is not installed: pip install gguf"):
            load_pipeline(folder, smaller=Smaller(gguf=tmp_path / "a.gguf"))


@pytest.mark.parametrize("quantization", [FLOAT8, pytest.param(NF4, marks=LONG)])
def test_loras_underneath_are_merged_before_the_base_is_rounded(quantization, folder, tmp_path):
    if quantization == NF4 and not installed(NF4):
        pytest.skip(NEEDS)
    source = stir(load(folder), size=0.1)
    export_lora(source, tmp_path / "under.safetensors")
    loras = {tmp_path / "under.safetensors": 1.0}
    smaller = Smaller(quantization=quantization)
    both = load_pipeline(folder, rank=2, dtype=torch.float32, smaller=smaller, loras=loras, prove=False)
    merged = load_pipeline(folder, rank=2, dtype=torch.float32, loras=loras, prove=False)._network.network
    smaller.finish(merged, torch.float32, torch.device("cpu"))
    found, expected = (
        net.get_submodule("transformer_blocks.0.attn.to_q").base_layer for net in (both._network.network, merged)
    )
    assert [*dict(found.named_parameters())] == [*dict(expected.named_parameters())]
    kept = zip(found.parameters(), expected.parameters(), strict=True)
    assert all(torch.equal(one.float(), other.float()) for one, other in kept)


@LONG
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("quantization", [TORCHAO, QUANTO, NF4])
def test_what_a_library_quantises_is_proven_and_trains(quantization, dtype, folder):
    if not installed(quantization):
        pytest.skip(NEEDS)
    model = load_pipeline(
        folder, rank=2, dtype=dtype, smaller=Smaller(quantization=quantization)
    )  # proves velocity and gradient
    assert model.pass_memory(checkpointing=False) is not None
    assert model.digest != load_pipeline(folder, rank=2, dtype=dtype).digest
    if dtype == torch.float32:
        require_training(model)


def of_bitsandbytes(found, dtype=torch.float32):
    """The network with the library's own layers of 4 bits."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name, layer in list(found.named_modules()):
        if isinstance(layer, torch.nn.Linear):
            sizes = (layer.in_features, layer.out_features, layer.bias is not None)
            made = Linear4bit(*sizes, compute_dtype=dtype, quant_type="nf4", compress_statistics=False)
            made.weight = Params4bit(layer.weight.data, quant_type="nf4", compress_statistics=False).to("cpu")
            made.bias = layer.bias
            found.set_submodule(name, made)
    return found.requires_grad_(False)


@LONG
@pytest.mark.parametrize("quantization", [TORCHAO, QUANTO, NF4])
def test_what_a_library_quantises_keeps_no_copy_and_the_librarys_own_gradient(quantization, folder):
    if not installed(quantization):
        pytest.skip(NEEDS)
    smaller = Smaller(quantization=quantization)
    theirs = load_network(folder / "transformer", "SD3Transformer2DModel", torch.float32, smaller).requires_grad_(False)
    if quantization == NF4:
        theirs = of_bitsandbytes(theirs)
    ours = network(folder, quantization=quantization)
    for one, other in zip(slope(ours), slope(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert waiting(ours) <= waiting(network(folder))
    assert quantization != TORCHAO or waiting(theirs) > 2 * waiting(ours)
    assert size(ours) < 0.5 * size(network(folder))
    if quantization == NF4:
        planned = sum(smaller.bytes_of(network(folder), torch.float32).values())
        assert planned == pytest.approx(size(ours), rel=0.02)


@LONG
def test_loras_are_not_merged_into_quantised_weights(folder, tmp_path):
    if not installed(TORCHAO):
        pytest.skip(NEEDS)
    export_lora(stir(load(folder)), tmp_path / "under.safetensors")
    with pytest.raises(ValueError, match="expected plain weights to merge under:1 into, found quantised ones"):
        load_pipeline(folder, smaller=Smaller(quantization=TORCHAO), loras={tmp_path / "under.safetensors": 1.0})


@LONG
def test_a_gguf_file_is_the_network(tmp_path):
    if find_spec("gguf") is None:
        pytest.skip(NEEDS)
    folder = make_folder("flux-dev", tmp_path / "flux")
    whole = FluxTransformer2DModel.from_pretrained(folder / "transformer")
    file = gguf_file(tmp_path / "flux-Q8_0.gguf", whole)
    plain = load_pipeline(folder, rank=2, dtype=torch.float32)
    model = load_pipeline(
        folder, rank=2, dtype=torch.float32, smaller=Smaller(gguf=file)
    )  # proves velocity and gradient
    assert model.digest != plain.digest
    assert model.pass_memory(checkpointing=False) is not None
    sigma = torch.tensor(0.5)
    found = [
        one.run([one.drawn(torch.Generator().manual_seed(0))], lambda v, one=one: v(one.noise(0, 1), sigma).detach())
        for one in (plain, model)
    ]
    assert 0 < (found[0] - found[1]).norm() < 0.05 * found[0].norm()
    require_training(model)
    first = next(iter(whole.state_dict()))
    with pytest.raises(ValueError, match="take the GGUF file of this model"):
        load_pipeline(folder, smaller=Smaller(gguf=gguf_file(tmp_path / "part.gguf", whole, without=first)))
    with pytest.raises(ValueError, match="expected a GGUF file at .*none.gguf, found none"):
        load_pipeline(folder, smaller=Smaller(gguf=tmp_path / "none.gguf"))
    other = gguf_file(tmp_path / "other.gguf", flux_network(num_attention_heads=4, axes_dims_rope=(4, 4, 8)))
    with pytest.raises(ValueError, match="take the GGUF file of this model"):
        load_pipeline(folder, smaller=Smaller(gguf=other))
