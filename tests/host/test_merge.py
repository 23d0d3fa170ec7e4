"""Merge LoRAs on the canvas: the student of the headless command, the exact sum, and what cannot be merged."""

import comfy.sd
import folder_paths
import pytest
import torch
from canvas import loaded, short_config
from mixgrpo_pack.mixgrpo_core.demo import train_prompts
from mixgrpo_pack.mixgrpo_core.models.families.demo import load_demo
from mixgrpo_pack.mixgrpo_core.models.lora_file import load_lora, save_lora
from mixgrpo_pack.mixgrpo_core.training.merging.loop import MergeConfig, merge, teachers_of
from mixgrpo_pack.nodes.host.texts import PromptSet
from mixgrpo_pack.nodes.loras.merge import MergeLoras, _named
from mixgrpo_pack.nodes.loras.teacher import WIRED, LoraTeacherNode
from mixgrpo_pack.nodes.sockets import LoraWeights, TrainerSettings
from test_live import output

__all__ = ["output"]

PROMPTS = {"colour": train_prompts()[:2], "shape": train_prompts()[64:65]}
TRAINED = {
    "how": "by training",
    "updates": 4,
    "rank": 4,
    "learning_rate": 3e-3,
    "anchor": 0.0,
    "prompts_per_update": 2,
    "images": 2,
    "steps": 4,
    "seed": 0,
}


class Queued(MergeLoras):
    """The node as the host calls it."""

    class hidden:
        unique_id = "7"
        extra_pnginfo = None


@pytest.fixture(scope="module")
def parts():
    return loaded()


@pytest.fixture
def files(output, monkeypatch):
    """Two LoRA files of the demo model, of ranks 2 and 3, which the host lists."""
    folder = output / "loras"
    monkeypatch.setattr("mixgrpo_pack.mixgrpo_core.views.before_after.IMAGES", 1)
    for seed, (name, rank) in enumerate({"colour": 2, "shape": 3}.items()):
        draw = torch.Generator().manual_seed(seed)
        state = load_demo(rank=rank).lora_state()
        save_lora(
            folder / f"{name}.safetensors", {k: torch.randn(t.shape, generator=draw) / 10 for k, t in state.items()}
        )
    monkeypatch.setattr(folder_paths, "get_filename_list", lambda kind: ["colour.safetensors", "shape.safetensors"])
    monkeypatch.setattr(folder_paths, "get_full_path_or_raise", lambda kind, name: str(folder / name))
    return folder


def teachers(clip, **changes):
    def one(name, negative=""):
        prompts = PromptSet(train=PROMPTS[name], held_out=(), negative=negative, clip=changes.get(name, clip))
        return LoraTeacherNode.execute(f"{name}.safetensors", prompts).args[0]

    return {"teacher0": one("colour"), "teacher1": one("shape", changes.get("negative", ""))}


def merged(parts, how, given, name="merged"):
    model, _, vae = parts
    settings = TrainerSettings(train=short_config(eval_steps=4), width=64, height=64, checkpointing=False)
    with torch.inference_mode():
        return Queued.execute(model, vae, settings, given, dict(how), name).result


def apart(here, there):
    """How far the changes of the weights are from one another, by how large they are. AdamW takes whole steps where a
    gradient is nothing but rounding, so single numbers may differ."""
    names = modules(there)
    far = sum(float((change(here, name) - change(there, name)).square().sum()) for name in names)
    return (far / sum(float(change(there, name).square().sum()) for name in names)) ** 0.5


def change(state, module):
    return state[f"{module}.lora_B.weight"] @ state[f"{module}.lora_A.weight"]


def modules(state):
    return [name.removesuffix(".lora_A.weight") for name in state if name.endswith(".lora_A.weight")]


def test_the_student_is_that_of_the_headless_command(parts, files, output):
    _, lora, grid, report = merged(parts, TRAINED, teachers(parts[1]))
    here = load_lora(output / "loras/mixgrpo/merged.safetensors")
    home = load_demo(rank=4, alpha=8, seed=0)
    loras = {name: load_lora(files / f"{name}.safetensors") for name in PROMPTS}
    config = MergeConfig(updates=4, learning_rate=3e-3, prompts=2, images=2, steps=4)
    *_, last = merge(home, teachers_of(home, loras, PROMPTS), config)
    there = {name: t * home.lora_about.scale if "lora_B" in name else t for name, t in home.lora_state().items()}
    assert apart(here.state, there) < 0.02
    left = ", ".join(f"{name} {far:.0%}" for name, far in last.distances.items())
    assert f"left of the way to {left}" in report and grid.ndim == 4
    assert isinstance(lora, LoraWeights)


def test_the_exact_sum_adds_up_what_each_changes(parts, files, output):
    model, lora, _, report = merged(parts, {"how": "exact sum"}, teachers(parts[1]))
    found = load_lora(output / "loras/mixgrpo/merged.safetensors")
    loras = [load_lora(files / f"{name}.safetensors").state for name in PROMPTS]
    assert found.rank == 5 and "rank 5" in report and len(modules(found.state)) > 10
    for module in modules(found.state):
        assert torch.allclose(change(found.state, module), sum(change(one, module) for one in loras), atol=1e-5)
    alone, _ = comfy.sd.load_lora_for_models(parts[0], None, dict(lora), 1.0, 0.0)
    assert {*model.patches} == {*alone.patches}


def test_what_cannot_be_merged_is_one_sentence(parts, files, output):
    def refused(match, given, how=TRAINED):
        with pytest.raises(ValueError, match=match):
            merged(parts, how, given)

    good = teachers(parts[1])
    refused("expected two LoRAs or more to merge, found 1", {"teacher0": good["teacher0"], "teacher1": None})
    with torch.inference_mode():
        other = loaded()[1]
    refused("the prompts of shape have a text encoder of their own", teachers(parts[1], shape=other))
    refused("the prompts of shape have another negative prompt", teachers(parts[1], negative="blurry"))
    refused("rank lies in", good, {**TRAINED, "rank": 0})
    foreign = {
        "transformer.x_embedder.lora_A.weight": torch.ones(2, 9),
        "transformer.x_embedder.lora_B.weight": torch.ones(9, 2),
    }
    lora = LoraWeights(foreign, {"modelspec.title": "flux"})
    wired = LoraTeacherNode.execute(WIRED, good["teacher0"].prompts, lora=lora).args[0]
    assert wired.name == "flux"
    refused("expected a LoRA of this model", {**good, "teacher1": wired})
    assert not (output / "loras/mixgrpo/merged.safetensors").exists()


def test_a_teacher_has_one_lora(files):
    kinds = {"prompts": "MIXGRPO_PROMPTS"}
    valid = LoraTeacherNode.validate_inputs
    assert valid("colour.safetensors", kinds) is True
    assert valid(WIRED, {**kinds, "lora": "LORA_MODEL"}) is True
    assert "take the wire off" in valid("colour.safetensors", {**kinds, "lora": "LORA_MODEL"})
    assert "connect lora" in valid(WIRED, kinds)
    assert "no LoRA file 'lost'" in valid("lost", kinds)


def test_two_loras_of_one_name_are_two_teachers(parts, files):
    one = teachers(parts[1])["teacher0"]
    assert list(_named([one, one, one])) == ["colour", "colour 2", "colour 3"]
