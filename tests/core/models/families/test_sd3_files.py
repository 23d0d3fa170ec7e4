"""The SD3 model's files: LoRAs that diffusers loads too, prompts, and folders that are not what they should be."""

import gc
import json
import shutil
import weakref
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusion3Pipeline
from safetensors.torch import load_file, save_file
from tiny_sd3 import PROMPT, UNUSED, kept, load, make_folder, same, stir, transformer, velocity_of, without_gradient
from torch import Tensor

from mixgrpo_core.models.diffusers.loading import ModelFilesError
from mixgrpo_core.models.diffusers.model import PipelineModel
from mixgrpo_core.models.families.caption_encoder import CaptionEncoder
from mixgrpo_core.models.families.demo import load_demo
from mixgrpo_core.models.families.sd3 import load_sd3
from mixgrpo_core.models.lora import export_lora
from mixgrpo_core.models.lora_file import LoraFileError, load_lora, save_lora


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "sd3")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


# The file


def euler(model: PipelineModel, x: Tensor, sigmas: Tensor) -> Tensor:
    def body(velocity) -> Tensor:
        state = x
        for sigma, following in pairwise(sigmas):
            state = state + (following - sigma) * velocity(state, sigma)
        return state

    with torch.no_grad():
        return model.run([model.encode(PROMPT)], body)


def test_diffusers_loads_the_exported_file_and_computes_the_same(folder: Path, tmp_path: Path) -> None:
    model = stir(load(folder, alpha=6, guidance=3.0))
    path = export_lora(model, tmp_path / "ours.safetensors", {"mixgrpo.note": "x"})
    pipe = StableDiffusion3Pipeline.from_pretrained(folder)
    x = model.noise(3, 2)
    embeds, _, pooled, _ = pipe.encode_prompt(PROMPT, None, None, do_classifier_free_guidance=False)
    asked = (x, embeds.expand(2, -1, -1), pooled.expand(2, -1), torch.tensor([700.0, 700.0]))
    with torch.no_grad():
        base = pipe.transformer(*asked).sample
        pipe.load_lora_weights(path)
        theirs = pipe.transformer(*asked).sample
    plain = load(folder, lora=path)
    torch.testing.assert_close(velocity_of(plain), theirs, rtol=0, atol=1e-5)
    assert (theirs - base).abs().max() > 1e-2
    pipe.set_progress_bar_config(disable=True)
    wishes = {"num_inference_steps": 4, "guidance_scale": 3.0, "height": 16, "width": 16, "output_type": "latent"}
    sampled = pipe(PROMPT, latents=x[:1], **wishes).images
    pipe.scheduler.set_timesteps(4)
    ours = euler(model, x[:1], pipe.scheduler.sigmas)
    torch.testing.assert_close(ours, sampled, rtol=0, atol=1e-5)
    assert set(load_file(path)) == {f"transformer.{name}" for name in model.lora_state()}


def test_the_exported_file_tells_of_the_model_and_of_the_training(folder: Path, tmp_path: Path) -> None:
    model = stir(load(folder, alpha=6))
    average = {name: tensor / 2 for name, tensor in model.lora_state().items()}
    file = load_lora(export_lora(model, tmp_path / "a.safetensors", {"ss_steps": "3"}, average))
    name = next(name for name in average if name.endswith("lora_B.weight"))
    assert torch.equal(file.state[name], average[name] * 1.5)
    expected = {"ss_steps": "3", "ss_network_dim": "4", "mixgrpo.alpha": "6.0", "modelspec.resolution": "16x16"}
    expected |= {"ss_sd_model_name": "sd3", "modelspec.architecture": "stable-diffusion-3.5-medium/lora"}
    assert expected.items() <= file.metadata.items()
    with pytest.raises(ValueError, match="without"):
        export_lora(model, tmp_path / "a.safetensors", {}, {name: average[name]})


@pytest.mark.parametrize("alpha", [1.0, 4.0, 7.0])
def test_training_goes_on_from_a_file_with_the_same_function(folder: Path, tmp_path: Path, alpha: float) -> None:
    first = stir(load(folder, rank=3, alpha=5))
    path = export_lora(first, tmp_path / "a.safetensors")
    second = load_sd3(folder, dtype=torch.float32, alpha=alpha, lora=path)
    assert (second.lora.rank, second.lora_about.scale) == (3, alpha / 3)
    torch.testing.assert_close(velocity_of(second), velocity_of(first), rtol=0, atol=2e-6)
    again = load(folder, rank=3, alpha=5)
    again.load_lora_file(load_lora(path))
    torch.testing.assert_close(velocity_of(again), velocity_of(first), rtol=0, atol=2e-6)
    again.load_lora_file(load_lora(export_lora(again, tmp_path / "b.safetensors")))
    torch.testing.assert_close(velocity_of(again), velocity_of(first), rtol=0, atol=2e-6)
    assert without_gradient(second) == {UNUSED}


def test_a_file_of_some_layers_leaves_the_others_fresh(folder: Path, tmp_path: Path) -> None:
    whole = stir(load(folder))
    part = {name: tensor for name, tensor in whole.lora_state().items() if ".attn." in name}
    path = save_lora(tmp_path / "part.safetensors", part, scale=whole.lora_about.scale)
    rest = {name: tensor * 0 if name not in part else tensor for name, tensor in whole.lora_state().items()}
    with whole.with_weights(rest):
        expected = velocity_of(whole)
    torch.testing.assert_close(velocity_of(load(folder, lora=path)), expected, rtol=0, atol=2e-6)
    model = stir(load(folder), seed=2)
    model.load_lora_file(load_lora(path))
    torch.testing.assert_close(velocity_of(model), expected, rtol=0, atol=2e-6)


def test_states_of_another_model_are_told_apart(folder: Path) -> None:
    model = load(folder)
    state = kept(model)
    first, *others = state
    with pytest.raises(ValueError, match=rf"without {first}; it belongs to another architecture"):
        model.load_lora_state({name: state[name] for name in others})
    with pytest.raises(ValueError, match="with unknown b, c, d and 1 more"):
        model.load_lora_state({**state, **dict.fromkeys("bcde", state[first])})
    with pytest.raises(ValueError, match=r"\(expected \[4, 16\], found \[6, 16\]\).* more"):
        model.load_lora_state(kept(load(folder, rank=6)))
    wider = kept(load(folder, rank=6))
    with model.with_weights(wider):  # another rank can be active, two at once cannot
        pass
    with pytest.raises(ValueError, match="rank"), model.with_weights({**wider, others[-1]: state[others[-1]]}):
        pass
    assert same(list(state.values()), model.parameters())


def test_lora_files_of_another_model_are_told_apart(folder: Path, tmp_path: Path) -> None:
    state = kept(load(folder))
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match="expected a LoRA of rank 6, found rank 4"):
        load(folder, rank=6, lora=save_lora(path, state))
    flux = {
        f"single_transformer_blocks.0.{kind}": t for kind, t in zip(_kinds(), list(state.values())[:2], strict=True)
    }
    with pytest.raises(ValueError, match=r"another architecture's: .*found single_transformer_blocks"):
        load(folder, lora=save_lora(path, flux))
    with pytest.raises(ValueError, match="also changes 1 layers .* .single_transformer_blocks.0"):
        load(folder, lora=save_lora(path, {**state, **flux}))
    wider = {name: torch.cat([t, t], dim=int(name.endswith(_kinds()[0]))) for name, t in state.items()}
    with pytest.raises(ValueError, match=r"shapes are another architecture's.*\[4, 16\], found \[4, 32\]"):
        load(folder, lora=save_lora(path, wider))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(LoraFileError, match="not a whole safetensors file"):
        load(folder, lora=path)


def _kinds() -> tuple[str, str]:
    return "lora_A.weight", "lora_B.weight"


# Texts


def test_prompts_are_the_pipelines_encoded_once_and_kept_when_the_encoders_go(folder: Path) -> None:
    pipe = StableDiffusion3Pipeline.from_pretrained(folder)
    embeds, negative, pooled, negative_pooled = pipe.encode_prompt(PROMPT, None, None)
    model = load(folder, guidance=2.0)
    cond = model.encode(PROMPT)
    for ours, theirs in (
        (cond.positive["prompt_embeds"], embeds),
        (cond.positive["pooled_prompt_embeds"], pooled),
        (cond.negative["negative_prompt_embeds"], negative),
        (cond.negative["negative_pooled_prompt_embeds"], negative_pooled),
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)
    encoder = weakref.ref(model._texts._pipeline.text_encoder)
    model.prepare(["a dog", PROMPT])
    gc.collect()
    assert encoder() is None  # the memory is free
    assert model.encode(PROMPT).positive["prompt_embeds"] is cond.positive["prompt_embeds"]
    assert model._texts._pipeline is None  # known prompts do not load it again, new ones do
    torch.testing.assert_close(
        model.encode("a cat").positive["prompt_embeds"],
        pipe.encode_prompt("a cat", None, None)[0],
        rtol=1e-5,
        atol=2e-5,
    )


def test_encoded_prompts_lie_in_files_that_another_process_with_the_same_encoders_reads(copy: Path, tmp_path) -> None:
    model = load(copy, guidance=2.0)
    cond = model.encode(PROMPT)
    model.keep_texts(tmp_path / "prompts")
    model.prepare([PROMPT, "a dog"])
    assert len(list((tmp_path / "prompts").iterdir())) == 3  # and the empty one, for guidance
    assert model._embed._files._held == {}
    again = load(copy, guidance=2.0)
    again.keep_texts(tmp_path / "prompts")
    again.prepare([PROMPT, "a dog"])
    assert again._texts._pipeline is None, "its encoders were not asked for"
    for found in (model.encode(PROMPT), again.encode(PROMPT)):
        assert all(torch.equal(tensor, cond.positive[name]) for name, tensor in found.positive.items())
        assert all(torch.equal(tensor, cond.negative[name]) for name, tensor in found.negative.items())
    settings = copy / "tokenizer" / "tokenizer_config.json"
    settings.write_text(settings.read_text() + "\n")
    other = load(copy)
    other.keep_texts(tmp_path / "prompts")
    other.encode(PROMPT)
    assert other._texts._pipeline is not None, "files of another tokenizer are not its own"


def test_a_folder_without_t5_is_whole(copy: Path) -> None:
    shutil.rmtree(copy / "text_encoder_3")
    shutil.rmtree(copy / "tokenizer_3")
    assert load(copy).encode(PROMPT).positive["prompt_embeds"][:, 77:].abs().sum() == 0
    assert velocity_of(load(copy)).isfinite().all()


def test_guidance_needs_the_negative(folder: Path) -> None:
    cond = load(folder).encode(PROMPT)
    with pytest.raises(ValueError, match=r"negative for guidance 2\.0"):
        load(folder, guidance=2.0).run([cond], lambda velocity: velocity)


# Folders that are not what they should be


def test_bad_choices_are_told(folder: Path) -> None:
    for resolution in ((16, 18), (16, 52), (0, 16)):
        with pytest.raises(ValueError, match="multiples of 4 up to 48, found"):
            load(folder, resolution=resolution)
    with pytest.raises(ValueError, match="guidance scale of 1"):
        load(folder, guidance=0.5)
    with pytest.raises(ValueError, match="rank >= 1"):
        load(folder, rank=0)


def test_a_missing_folder_and_missing_parts_are_told(copy: Path) -> None:
    with pytest.raises(ModelFilesError, match="expected a model folder"):
        load(copy / "none")
    for part in ("vae", "text_encoder_2", "transformer/config.json", "scheduler/scheduler_config.json"):
        (copy / part).rename(copy / "aside")
        with pytest.raises(ModelFilesError, match=Path(part).name):
            load(copy)
        (copy / "aside").rename(copy / part)
    load(copy)


def test_another_models_folder_is_told(copy: Path) -> None:
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps({**index, "_class_name": "FluxPipeline"}))
    with pytest.raises(ModelFilesError, match=r"expected a StableDiffusion3Pipeline .* found FluxPipeline"):
        load(copy)
    (copy / "model_index.json").write_text(json.dumps(index))
    (copy / "vae" / "config.json").write_text('{"_class_name": "VQModel"}')
    with pytest.raises(ModelFilesError, match="found VQModel"):
        load(copy)
    (copy / "transformer" / "config.json").write_text('{"_class_name": "FluxTransformer2DModel"}')
    with pytest.raises(ModelFilesError, match="found FluxTransformer2DModel"):
        load(copy)
    (copy / "transformer" / "config.json").write_text("{")
    with pytest.raises(ModelFilesError, match="cannot be read"):
        load(copy)


@pytest.mark.parametrize(
    "part", ["transformer/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"]
)
def test_weights_of_another_model_are_an_error(copy: Path, part: str) -> None:
    path = copy / f"{part}.safetensors"
    whole = path.read_bytes()
    tensors = load_file(path)
    name = sorted(tensors)[0]

    def encode_with(changed: dict[str, Tensor]) -> None:
        save_file(changed, path, {"format": "pt"})
        load(copy).encode(PROMPT)

    with pytest.raises(ModelFilesError, match=f"misses {name}"):
        encode_with({key: tensor for key, tensor in tensors.items() if key != name})
    with pytest.raises(ModelFilesError, match=f"do not load: .*{name}|mis-shaped {name}"):
        encode_with({**tensors, name: torch.cat([tensors[name]] * 2)})
    if not part.startswith("text"):
        with pytest.raises(ModelFilesError, match="has unknown stranger"):
            encode_with({**tensors, "stranger": torch.ones(1)})
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFilesError, match="do not load"):
        load(copy).encode(PROMPT)


# The demo model


@pytest.fixture
def demo(folder: Path, tmp_path: Path) -> Path:
    """Another model of the demo's make: half-precision files, a tiny autoencoder, captions of known words."""
    shutil.copytree(folder / "scheduler", tmp_path / "scheduler")
    blocks = {"encoder_block_out_channels": (4,) * 4, "decoder_block_out_channels": (4,) * 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        transformer(context=8, pooled=8).half().save_pretrained(tmp_path / "transformer")
        AutoencoderTiny(latent_channels=16, **blocks).half().save_pretrained(tmp_path / "vae")
    CaptionEncoder.create(["a", "red", "circle"], width=8).save(tmp_path / "caption_encoder.safetensors")
    return tmp_path


def test_the_demo_model_is_computed_in_float32_from_half_precision_files(demo: Path) -> None:
    model = stir(load_demo(folder=demo, guidance=2.0))
    assert (model.latent_shape, model.resolution, model.grid.shift) == ((16, 8, 8), (64, 64), 3.0)
    assert (model.lora.rank, model.lora_about.scale) == (8, 2.0)
    assert model.encode(PROMPT).positive["prompt_embeds"].shape == (1, 8, 8)
    assert velocity_of(model).dtype == torch.float32
    images = model.decode(model.noise(1, 2))
    assert images.shape == (2, 64, 64, 3)
    assert 0 <= images.min() < images.max() <= 1
    path = export_lora(model, demo / "a.safetensors")
    torch.testing.assert_close(velocity_of(load_demo(folder=demo, guidance=2.0, lora=path)), velocity_of(model))
    with pytest.raises(ValueError, match="Expected words out of: a, red, circle"):
        model.encode("a blue circle")


def test_a_missing_demo_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match="lacks transformer, vae, scheduler and 1 more"):
        load_demo(folder=tmp_path)
