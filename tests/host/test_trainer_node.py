"""The trainer node itself in this process: what a second queue finds, what it hands on, what it refuses at once."""

import math
import re
import shutil
import sys
import unicodedata
from pathlib import Path
from urllib.parse import unquote

import comfy.sd
import comfy.taesd.taesd
import folder_paths
import pytest
import torch
from canvas import loaded, prompt_set, short_config
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from mixgrpo_pack.mixgrpo_core.advantages.combine import BatchNormalised
from mixgrpo_pack.mixgrpo_core.evaluation.guards import PixelDrift
from mixgrpo_pack.mixgrpo_core.rewards.shapes import ShapeReward
from mixgrpo_pack.nodes.host.lora_layouts import DIFFUSERS
from mixgrpo_pack.nodes.live.board import Command, board
from mixgrpo_pack.nodes.live.events import Line
from mixgrpo_pack.nodes.loras.files import SaveLora
from mixgrpo_pack.nodes.rewards.combine import combined
from mixgrpo_pack.nodes.rewards.pixels import PixelRewardNode
from mixgrpo_pack.nodes.sockets import Rewards, TrainerSettings
from mixgrpo_pack.nodes.training.loop import OutOfMemory
from mixgrpo_pack.nodes.training.runs import settled
from mixgrpo_pack.nodes.training.trainer import TrainLora, configured, host_model
from safetensors.torch import load_file, save_file


@pytest.fixture(scope="module")
def parts():
    return loaded()


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    monkeypatch.setattr(folder_paths, "get_temp_directory", lambda: str(tmp_path / "temp"))
    return tmp_path


class Queued(TrainLora):
    """The node as the host calls it."""

    class hidden:
        unique_id = "12:5"
        extra_pnginfo = None
        prompt = None


class Saved(SaveLora):
    """Save LoRA as the host calls it."""

    hidden = Queued.hidden


SMALL = {"iterations": 1, "eval_every": 0, "steps": 4, "images_per_prompt": 2, "prompts_per_iteration": 1, "updates": 1}
"""What these tests ask of a training is that there is one."""


def queue(model, clip, vae, name="run", start_from="none", rewards=None, **changes):
    changes = {**SMALL, **changes}
    settings = TrainerSettings(train=short_config(**changes), width=64, height=64, rank=2, alpha=4, checkpointing=False)
    rewards = rewards or {"shape": ShapeReward()}
    given = Rewards(rewards=rewards, weights=dict.fromkeys(rewards, 1.0))
    with torch.inference_mode():
        return Queued.execute(model, vae, prompt_set(clip), given, settings, name, start_from)


def runs(output):
    return sorted(path.name for path in (output / "mixgrpo").iterdir())


def test_the_lora_of_a_run_whose_folder_is_gone_is_not_written_over(parts, output):
    queue(*parts)
    file = output / "loras" / "mixgrpo" / "run-last.safetensors"
    before = file.read_bytes()
    shutil.rmtree(output / "mixgrpo" / "run")
    queue(*parts, seed=5)
    assert file.read_bytes() == before
    assert runs(output) == ["run-2"]


def test_a_run_of_any_script_in_a_sub_folder_goes_on_and_shows_itself_by_its_name(parts, output, monkeypatch):
    told = []
    monkeypatch.setattr(Line, "send", lambda line, event, **data: told.append((line.run, event, data)))
    queue(*parts, name="portraits/Käthe")
    extended = queue(*parts, name=unicodedata.normalize("NFD", "portraits/Käthe"), iterations=2)
    assert extended.result[-1].startswith("portraits/Käthe: 2 of 2 iterations")
    queue(*parts, name="portraits/Käthe", seed=5)
    assert sorted(path.name for path in (output / "mixgrpo" / "portraits").iterdir()) == ["Käthe", "Käthe-2"]
    folder = output / "loras" / "mixgrpo" / "portraits"
    assert {path.name for path in folder.iterdir()} >= {"Käthe-last.safetensors", "Käthe-2-last.safetensors"}
    for name in ("Käthe", "Käthe-2"):  # each has its card, with pictures of its own
        card = (folder / f"{name}-card.md").read_text(encoding="utf-8")
        linked = [unquote(link) for link in re.findall(r"!\[.*?\]\((.*?)\)", card)]
        assert linked and all((folder / link).is_file() and link.startswith(f"{name}-") for link in linked)
        assert "A LoRA of **SD3" in card and "Rank 2." in card and "| shape | ShapeReward: " in card
        assert str(output) not in card
    [saved] = Saved.execute(extended.result[1], "mine/a b", DIFFUSERS).args
    card = (output / "loras" / "mixgrpo" / "mine" / "a b-card.md").read_text(encoding="utf-8")
    assert "](a%20b-before_after.png)" in card and "K%C3%A4the" not in card
    assert (output / "loras" / saved).with_name("a b-before_after.png").is_file()
    assert {run for run, *_ in told if run} == {"portraits/Käthe", "portraits/Käthe-2"}
    shown = {data["image"]["filename"] for _, event, data in told if event == "group"}
    assert shown and all((output / "temp" / "mixgrpo" / name).is_file() for name in shown)
    for name, words in (
        ("portraits", "is a folder of runs"),
        ("portraits/Käthe/x", "is a run"),
        ("Portraits/x", "one name on Windows"),
        ("portraits/käthe-2", "one name on Windows"),
    ):
        assert words in TrainLora.validate_inputs(run_name=name, start_from="none")


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells what is mapped")
def test_what_the_node_hands_on_does_not_hold_the_file(parts, output):
    """Windows cannot replace a file that is mapped into memory, and the next checkpoint replaces this one."""
    _, lora, *_ = queue(*parts).result
    assert lora, "kept by the host's cache"
    assert "run-last" not in Path("/proc/self/maps").read_text()


class Unnamed(ShapeReward):
    """A reward of another pack, without a repr of its own."""

    __repr__ = object.__repr__


def test_a_reward_without_a_repr_is_the_same_one_in_the_next_session(parts, output):
    first, second = Unnamed(), Unnamed()
    queue(*parts, rewards={"shape": first})
    queue(*parts, rewards={"shape": second})
    assert runs(output) == ["run"]
    queue(*parts, rewards={"shape": ShapeReward()})
    assert runs(output) == ["run", "run-2"]


def test_another_lora_to_start_from_is_another_run(parts, output, monkeypatch):
    queue(*parts)
    found = str(output / "loras" / "mixgrpo" / "run-last.safetensors")
    start = str(output / "start.safetensors")
    monkeypatch.setattr(folder_paths, "get_full_path_or_raise", lambda kind, name: start)
    monkeypatch.setattr(folder_paths, "get_filename_list", lambda kind: ["start.safetensors"])
    shutil.copy(found, start)
    queue(*parts, start_from="start.safetensors")
    queue(*parts, start_from="start.safetensors")
    assert runs(output) == ["run", "run-2"], "a LoRA to start from makes a run of its own, and it goes on"
    state = load_file(start)
    save_file({name: tensor + 0.01 for name, tensor in state.items()}, start)
    queue(*parts, start_from="start.safetensors")
    assert runs(output) == ["run", "run-2", "run-3"], "the file has become another one"


def test_another_text_encoder_or_vae_is_another_run(parts, output):
    model, clip, vae = parts
    queue(*parts)
    other_clip, other_vae = loaded()[1:]
    with torch.no_grad():
        other_vae.first_stage_model.state_dict()["taesd_decoder.1.weight"].mul_(1.01)
    queue(model, clip, other_vae)
    assert runs(output) == ["run", "run-2"]
    queue(model, other_clip.clone(), vae)
    assert runs(output)[-1] == "run-2", "the same encoder, loaded again"
    other_clip.clip_layer(-2)
    queue(model, other_clip, vae)
    assert runs(output)[-1] == "run-3"


def fingerprint(name="run", start_from="none"):
    return TrainLora.fingerprint_inputs(run_name=name, start_from=start_from)


def test_a_finished_run_is_known_to_the_cache_until_its_folder_changes(parts, output):
    """The host runs a node again when its fingerprint differs from the one before it last ran."""
    asked = fingerprint()
    queue(*parts)
    assert fingerprint() == asked
    asked_other = fingerprint()
    queue(*parts, seed=5)  # another node of the graph, with the same name
    assert fingerprint() == asked == asked_other
    newest = max((output / "mixgrpo" / "run-2" / "checkpoints").iterdir())
    added = Path(shutil.copyfile(newest, newest.with_name("000009.safetensors")))
    assert fingerprint() != asked
    added.unlink()
    assert fingerprint() == asked
    shutil.rmtree(output / "mixgrpo")
    shutil.rmtree(output / "loras")
    assert fingerprint() != asked, "the folder is gone: trained again"


def test_a_run_that_was_paused_is_not_known_to_the_cache(parts, output):
    class Paused(ShapeReward):
        def __call__(self, batch):
            if len(batch.images) and not board.find("run").snapshot()["pending"]:
                board.find("run").ask(Command.PAUSE)
            return super().__call__(batch)

    asked = fingerprint()
    found = queue(*parts, rewards={"shape": Paused()}, iterations=2)
    assert [blocked.message for blocked in found.args] == [None] * len(TrainLora.define_schema().outputs)
    assert fingerprint() != asked
    asked = fingerprint()
    settled.left("run")  # with no checkpoint since
    assert fingerprint() != asked


def test_a_name_may_come_by_wire_and_is_checked_all_the_same(parts, output):
    assert TrainLora.validate_inputs(run_name=None, start_from=None) is True
    assert math.isnan(fingerprint(name=None))
    with pytest.raises(ValueError, match="run_name"):
        queue(*parts, name="../out")
    with pytest.raises(ValueError, match="no LoRA file"):
        queue(*parts, start_from="../secret.safetensors")
    assert not (output.parent / "out").exists()


def test_a_vae_of_another_model_is_told_before_a_run_is_made(parts, output):
    model, clip, _ = parts
    with torch.inference_mode():
        other = comfy.sd.VAE(sd=comfy.taesd.taesd.TAESD(latent_channels=4).state_dict())
    with pytest.raises(ValueError, match="connect the VAE that belongs"):
        queue(model, clip, other)
    assert not (output / "mixgrpo").exists()


def test_a_precision_that_is_too_small_is_told_before_a_run_is_made(parts, output):
    model, clip, vae = parts
    broken = model.clone()
    broken.add_wrapper_with_key(
        WrappersMP.APPLY_MODEL, "broken", lambda apply, *rest, **options: apply(*rest, **options) * math.nan
    )
    with pytest.raises(ValueError, match="load it in bfloat16"):
        queue(broken, clip, vae)
    assert not (output / "mixgrpo").exists()


def test_too_little_memory_for_one_image_says_what_to_lower_before_a_run_is_made(parts, output):
    model, clip, vae = parts
    small = model.clone()

    def full(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    small.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "full", full)
    with pytest.raises(OutOfMemory, match="a smaller width"):
        queue(small, clip, vae)
    assert not (output / "mixgrpo").exists()


@pytest.mark.parametrize(("node", "key"), [(EasyCacheNode, "easycache"), (LazyCacheNode, "lazycache")])
def test_a_model_that_skips_steps_is_refused(parts, output, node, key):
    """Lazy caches answer with velocities of other noise, off by more than their size, and drop the gradient."""
    model, clip, vae = parts
    with pytest.raises(ValueError, match=key):
        queue(node.execute(model, 0.2, 0.15, 0.95, False).result[0], clip, vae)


def test_room_is_asked_for_the_largest_batch_of_sampling_and_of_training(parts):
    """The host makes room for twice the rows of the shape that it is told."""
    model, clip, vae = parts
    shapes = []

    def told(prepare, patcher, shape, *rest, **options):
        shapes.append(list(shape))
        return prepare(patcher, shape, *rest, **options)

    for sampled, trained in ((9, 1), (1, 9)):
        settings = TrainerSettings(
            train=short_config(rollout_batch=sampled, update_batch=trained), width=64, height=64, rank=2, alpha=4
        )
        with torch.inference_mode(), host_model(model, vae, prompt_set(clip), settings) as policy:
            policy.patcher.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "heard", told)
            policy.run([policy.encode("a small red circle on the left")], lambda velocity: None)
    assert [shape[0] for shape in shapes] == [9, 27]


def test_a_model_on_several_gpus_is_trained_on_one(parts):
    """Its copies on the others would not carry the LoRA, and would sample the base model."""
    model, clip, vae = parts
    several = model.clone()
    several.set_additional_models("multigpu", [model.clone()])
    settings = TrainerSettings(train=short_config(), width=64, height=64, rank=2, alpha=4)
    with torch.inference_mode(), host_model(several, vae, prompt_set(clip), settings) as policy:
        assert policy.patcher.get_additional_models() == []
    assert len(several.get_additional_models_with_key("multigpu")) == 1


def test_a_guard_that_stops_ends_the_run_as_stopped_with_its_reason(parts, output):
    watched = {"iterations": 3, "eval_every": 1, "guards": (PixelDrift(stop=1e-9),)}
    *_, summary = queue(*parts, **watched).result
    assert summary.startswith("run: 1 of 3 iterations")
    assert "warning of PixelDrift at iteration 1: the images'" in summary
    said = board.ended("run").snapshot()
    assert said["state"] == "stopped" and "times the spread it had at the start" in said["note"]
    *_, again = queue(*parts, **watched).result
    assert again == summary, "it stays stopped"
    *_, further = queue(*parts, **{**watched, "guards": ()}).result
    assert further.startswith("run: 3 of 3 iterations") and runs(output) == ["run"]


def test_rewards_that_are_only_watched_are_refused_before_a_run_is_made(parts, output):
    watched = PixelRewardNode.execute("contrast", "more", 0.5, 0.0).args[0]
    settings = TrainerSettings(train=short_config(), width=64, height=64, rank=2, alpha=4)
    model, clip, vae = parts
    with pytest.raises(ValueError, match="every reward has weight 0"), torch.inference_mode():
        Queued.execute(model, vae, prompt_set(clip), watched, settings, "run", "none")
    assert not (output / "mixgrpo").exists()


def test_how_rewards_are_combined_travels_with_them(parts, output):
    rewards = combined({"a": pixel("brightness"), "b": pixel("contrast")}, BatchNormalised())
    settings = TrainerSettings(train=short_config())
    assert configured(settings, rewards, parts[0]).credit == (BatchNormalised(),)
    assert configured(settings, pixel("contrast"), parts[0]).credit == settings.train.credit


def pixel(measure):
    return PixelRewardNode.execute(measure, "more", 0.5, 1.0).args[0]
