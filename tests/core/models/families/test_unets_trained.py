"""A tiny SDXL learns, carries its LoRA on the layers that are chosen, and has other LoRAs under it."""

from pathlib import Path
from typing import Any

import diffusers
import pytest
import tiny_unets
import torch
from safetensors.torch import load_file, save_file
from tiny_pipelines import opened
from tiny_unets import SD1, SDXL, euler
from torch import Tensor

from mixgrpo_core import TrainConfig, train
from mixgrpo_core.models.diffusers.model import PipelineModel
from mixgrpo_core.models.diffusers.proof import prove
from mixgrpo_core.models.families.facts_of import facts_of
from mixgrpo_core.models.lora import export_lora
from mixgrpo_core.rewards import FunctionReward
from mixgrpo_core.sampling import FrozenWindow, WindowPlanner


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "sdxl"
    return tiny_unets.make_folder(SDXL, folder, euler(timestep_spacing="trailing"), layers_per_block=1)


def loaded(folder: Path, **changes: object) -> PipelineModel:
    return opened(folder, resolution=(64, 64), **changes)


def shaken(model: PipelineModel, seed: int = 0) -> PipelineModel:
    """With a LoRA that does something."""
    draw = torch.Generator().manual_seed(seed)
    state = {name: 0.2 * torch.randn(tensor.shape, generator=draw) for name, tensor in model.lora_state().items()}
    model.load_lora_state(state)
    return model


def velocity(model: PipelineModel) -> Tensor:
    x, sigma = model.noise(0, 1), torch.tensor(0.5)
    with torch.no_grad():
        return model.run([model.encode("a red circle")], lambda v: v(x, sigma))


def layers_of(model: PipelineModel) -> set[str]:
    return {name.rpartition(".lora_")[0] for name in model.lora_state()}


def test_its_reward_rises_on_prompts_that_it_never_saw(sdxl: Path) -> None:
    model = loaded(sdxl, rank=4)
    config = TrainConfig(
        iterations=12,
        steps=4,
        images_per_prompt=16,
        prompts_per_iteration=2,
        updates=1,
        learning_rate=0.1,
        planner=WindowPlanner(window=FrozenWindow(size=2)),
        eval_every=12,
        eval_images=8,
    )
    bright = FunctionReward(lambda images, prompts: images.mean((1, 2, 3)))
    prompts, held_out = ["a red circle", "a blue square"], ["a green cat", "two dogs"]
    reports = list(train(model, prompts, {"bright": bright}, config, held_out=held_out))
    before, after = [found.rewards["bright"] for report in reports for found in report.evaluations]
    assert after.mean > before.mean + before.spread / 2  # of the same noise


def test_every_choice_of_layers_is_proven_and_its_file_is_loaded_by_the_pipeline(sdxl: Path, tmp_path: Path) -> None:
    usual = layers_of(loaded(sdxl))
    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(sdxl)
    for layers in ("attention", "all linear"):
        model = loaded(sdxl, layers=layers)
        prove(model)
        path = export_lora(shaken(model), tmp_path / f"{layers}.safetensors")
        assert torch.equal(velocity(loaded(sdxl, rank=None, lora=path, layers=layers)), velocity(model))
        pipe.load_lora_weights(path, adapter_name=layers.replace(" ", "_"))
        found = layers_of(model)
        assert found < usual if layers == "attention" else usual < found
    assert not any(".ff." in layer for layer in layers_of(loaded(sdxl, layers="attention")))
    assert any(layer.endswith("time_emb_proj") for layer in found)
    assert any(layer.endswith("proj_in") for layer in found)


def test_a_lora_of_another_trainer_lies_under_it_as_diffusers_fuses_it(sdxl: Path, tmp_path: Path) -> None:
    """With an alpha of half its rank, which stands beside the matrices."""
    own = export_lora(shaken(loaded(sdxl), 1), tmp_path / "own.safetensors")
    halved = {name: tensor / 2 if name.endswith(".alpha") else tensor for name, tensor in load_file(own).items()}
    save_file(halved, tmp_path / "halved.safetensors")
    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(sdxl)
    pipe.load_lora_weights(tmp_path / "halved.safetensors")
    pipe.fuse_lora(lora_scale=0.5)
    pipe.unload_lora_weights()
    plain, under = loaded(sdxl), loaded(sdxl, loras={tmp_path / "halved.safetensors": 0.5})
    wanted = dict(pipe.unet.named_parameters())
    found = {name.replace(".base_layer", ""): each for name, each in under._network.network.named_parameters()}
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6)
    assert (velocity(under) - velocity(plain)).norm() > 1e-3 * velocity(plain).norm()


def test_its_facts_are_those_of_its_family(sdxl: Path, tmp_path: Path) -> None:
    assert (facts_of(sdxl).side, facts_of(sdxl).cfg) == (1024, 5.0)
    assert facts_of(sdxl, ["SDXL-Lightning-4step-lora.safetensors"]).few_steps
    other = tiny_unets.make_folder(SD1, tmp_path / "model")
    assert (facts_of(other).side, facts_of(other).cfg) == (512, 7.0)
