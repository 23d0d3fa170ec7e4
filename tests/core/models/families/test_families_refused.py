"""What a folder or a setting cannot be, in one sentence before any work."""

import json
import shutil
from pathlib import Path

import pytest
import tiny_pipelines
import torch
from safetensors.torch import load_file, save_file
from tiny_more import COSTLY
from tiny_pipelines import opened

from mixgrpo_core.models import load_pipeline
from mixgrpo_core.models.diffusers.loading import ModelFilesError
from mixgrpo_core.models.diffusers.model import PipelineModel
from mixgrpo_core.models.diffusers.peft_lora import attach_lora
from mixgrpo_core.models.diffusers.proof import prove
from mixgrpo_core.models.families import loading
from mixgrpo_core.models.lora import export_lora


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


def made(name: str, kept: Path) -> Path:
    path = kept / name
    return path if path.exists() else tiny_pipelines.make_folder(name, path)


@pytest.fixture
def flux(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made("flux-dev", kept), tmp_path / "flux"))


def changed(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_pipeline_that_is_none_or_not_known_is_told(flux: Path) -> None:
    changed(flux / "model_index.json", _class_name="NoPipeline")
    with pytest.raises(ModelFilesError, match=r"expected the name of a diffusers pipeline in .*found NoPipeline"):
        opened(flux)
    changed(flux / "model_index.json", _class_name="FluxPipeline", transformer=["diffusers", "NoTransformer"])
    with pytest.raises(ModelFilesError, match="expected a NoTransformer in .*found FluxTransformer2DModel"):
        opened(flux)
    (flux / "model_index.json").unlink()
    with pytest.raises(ModelFilesError, match="lacks model_index.json"):
        opened(flux)


def test_a_model_that_is_no_flow_is_told(flux: Path) -> None:
    changed(flux / "scheduler" / "scheduler_config.json", _class_name="DDIMScheduler", prediction_type="epsilon")
    with pytest.raises(ModelFilesError, match="expected a flow model in .*DDIMScheduler"):
        opened(flux)


def test_what_a_row_knows_not_to_be_trainable_is_told(kept: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made("wan", kept), tmp_path / "wan"))
    changed(folder / "model_index.json", transformer_2=["diffusers", "WanTransformer3DModel"])
    with pytest.raises(
        ModelFilesError, match=r"wan cannot be trained: it has two networks .*use Wan 2.1, or Wan 2.2 5B"
    ):
        opened(folder)
    folder = tiny_pipelines.written(*COSTLY["hunyuan-image"], tmp_path / "hunyuan")
    changed(folder / "transformer" / "config.json", use_meanflow=True)
    with pytest.raises(ModelFilesError, match="velocities over a whole step .use_meanflow., .*use the base"):
        opened(folder)


def test_text_encoders_that_the_index_leaves_out_are_told(flux: Path) -> None:
    changed(flux / "model_index.json", text_encoder_2=[None, None])
    with pytest.raises(ModelFilesError, match="names no text_encoder_2, through which a FluxPipeline reads"):
        opened(flux)


def test_sizes_that_the_pipeline_would_round_are_told(kept: Path) -> None:
    with pytest.raises(ValueError, match="multiples of 4, found 32 x 34"):
        opened(made("flux-dev", kept), resolution=(32, 34))
    wide = opened(made("hidream", kept), resolution=(32, 64))
    assert wide.resolution == (32, 64)
    assert wide.decode(wide.noise(0, 1)).shape == (1, 32, 64, 3)


def test_a_guidance_that_a_network_is_not_told_is_refused(kept: Path) -> None:
    with pytest.raises(ValueError, match="found 2.0: this network of FLUX.1 is not told of any"):
        opened(made("flux-schnell", kept), embedded_guidance=2.0)
    model, stronger = (opened(made("flux-dev", kept), embedded_guidance=value) for value in (None, 7.0))
    x, sigma = model.noise(0, 1), torch.tensor(0.5)
    with torch.no_grad():
        one, two = (each.run([each.encode("a cat")], lambda v: v(x, sigma)) for each in (model, stronger))
    assert (one - two).abs().max() > 1e-5


def test_experts_that_infer_without_a_gradient_are_found(kept: Path) -> None:
    model = opened(made("hidream", kept))
    model._network.network.eval()
    with pytest.raises(ValueError, match=r"no gradient reaches the LoRA on double_stream_blocks.N.*experts.* in any"):
        prove(model)


def test_a_gradient_that_is_bent_on_its_way_is_found(kept: Path) -> None:
    model = opened(made("qwen-image", kept))
    for block in model._network.network.transformer_blocks:
        block.attn.to_out[0].register_forward_hook(lambda module, told, out: 0.7 * out + 0.3 * out.detach())
    with pytest.raises(ValueError, match="is not the slope of what it computes"):
        prove(model)
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_a_network_that_does_not_read_its_prompts_is_found(flux: Path) -> None:
    path = flux / "transformer" / "diffusion_pytorch_model.safetensors"
    silent = ("context_embedder.weight", "time_text_embed.text_embedder.linear_1.weight")
    tensors = {name: 0 * tensor if name in silent else tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ValueError, match="gives two prompts the same velocity"):
        opened(flux, prove=True)


def test_a_network_that_remembers_earlier_calls_is_found(kept: Path) -> None:
    model = opened(made("wan", kept))
    forward, calls = model._network.network.forward, []

    def remembering(*args: object, **named: object) -> tuple[torch.Tensor]:
        calls.append(1)
        return (forward(*args, **named)[0] * (1 + 0.01 * len(calls)),)

    model._network.network.forward = remembering
    with pytest.raises(ValueError, match="another velocity for the same question"):
        prove(model)


def test_another_models_autoencoder_is_found(kept: Path) -> None:
    model: PipelineModel = opened(made("chroma", kept))
    model.resolution = (64, 64)
    with pytest.raises(ValueError, match="expected images of 64 x 64 out of the autoencoder of Chroma, found 32 x 32"):
        prove(model)


def test_a_lora_that_binds_nothing_or_leaves_blocks_out_is_an_error() -> None:
    network = tiny_pipelines.flux_network()
    with pytest.raises(ValueError, match="found none in FluxTransformer2DModel.*learns nothing"):
        attach_lora(network, r"blocks\.\d+\.attn\.to_q", rank=1, alpha=1, seed=0, file=None, default_rank=1)
    with pytest.raises(ValueError, match=r"in every block of transformer_blocks, found none in transformer_blocks\.1"):
        attach_lora(network, r"transformer_blocks\.0\.attn\.to_q", rank=1, alpha=1, seed=0, file=None, default_rank=1)
    with pytest.raises(ValueError, match=r"expected linear layers.*norm_q"):
        attach_lora(network, r".*\.attn\.norm_q", rank=1, alpha=1, seed=0, file=None, default_rank=1)


def test_a_lora_of_another_family_is_told(kept: Path, tmp_path: Path) -> None:
    path = export_lora(opened(made("wan", kept)), tmp_path / "wan.safetensors")
    with pytest.raises(ValueError, match=r"the LoRA is another architecture's.*found blocks\.0"):
        load_pipeline(made("flux-dev", kept), lora=path, resolution=(32, 32), prove=False)


def test_a_pipeline_that_no_row_is_about_is_read_from_its_code_and_proven(kept: Path, monkeypatch) -> None:
    """The families that need no row for a velocity give the same without it."""
    sigma = torch.tensor(0.5)
    listed = {name: opened(made(name, kept)) for name in ("sd3", "flux-dev", "lumina2", "wan", "chroma")}
    monkeypatch.setattr(loading, "family_of", lambda pipeline: None)
    for name, model in listed.items():
        found, x = opened(made(name, kept), prove=True), model.noise(0, 1)
        with torch.no_grad():
            ours, theirs = (each.run([each.encode("a cat")], lambda v, x=x: v(x, sigma)) for each in (found, model))
        assert torch.equal(ours, theirs), name
        assert set(found.lora_state()) == set(model.lora_state()), name
    with pytest.raises(ValueError, match="FluxPipeline is in no row.*expected guidance 1 for Flux, found 2.0"):
        opened(made("flux-dev", kept), guidance=2.0)


def test_a_pipeline_whose_code_does_not_say_enough_is_refused(kept: Path, monkeypatch) -> None:
    monkeypatch.setattr(loading, "family_of", lambda pipeline: None)
    with pytest.raises(ValueError, match="ZImagePipeline is in no row of the table.*fails .*negative_prompt_embeds"):
        opened(made("z-image", kept), prove=True)
