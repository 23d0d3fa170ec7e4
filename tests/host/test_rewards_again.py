"""Reward nodes queued again: the host keeps what they made, files and endpoints change, runs are recognised."""

import json
import shutil

import folder_paths
import pytest
import reward_files
import torch
from canvas import loaded, prompt_set, short_config
from mixgrpo_pack.mixgrpo_core.rewards.clip import PickScore
from mixgrpo_pack.mixgrpo_core.rewards.told_apart import recognised
from mixgrpo_pack.mixgrpo_core.rewards.wrappers.transforms import RunningZ, Transformed
from mixgrpo_pack.nodes.rewards.changes import RewardTransform
from mixgrpo_pack.nodes.rewards.edits import DirectionReward
from mixgrpo_pack.nodes.rewards.images import AestheticReward, ClassifierReward, SimilarityReward
from mixgrpo_pack.nodes.rewards.judge import JudgeNode
from mixgrpo_pack.nodes.rewards.pixels import PixelRewardNode
from mixgrpo_pack.nodes.rewards.prompted import ClipReward, ImageRewardNode
from mixgrpo_pack.nodes.sockets import TrainerSettings
from mixgrpo_pack.nodes.training.fit_check import FitCheck
from test_judge_node import endpoints
from test_trainer_node import output, queue, runs

__all__ = ["endpoints", "output"]


@pytest.fixture(scope="module")
def parts():
    return loaded()


def first_report(output, run):
    lines = (output / "mixgrpo" / run / "metrics.jsonl").read_text().splitlines()
    return json.loads(lines[0])


def test_running_statistics_are_those_of_the_run_and_of_no_other(parts, output):
    """ComfyUI hands on the same reward as long as its node does not change."""
    made = PixelRewardNode.execute("brightness", "more", 0.5, 1.0).args[0]
    kept = RewardTransform.execute(made, {"transform": "running z-score"}).args[0]
    model, clip, vae = parts
    settings = TrainerSettings(train=short_config(eval_every=0), width=64, height=64, rank=2, alpha=4)
    with torch.inference_mode():
        FitCheck.execute(model, vae, prompt_set(clip), kept, settings)
    queue(*parts, name="one", rewards=kept.rewards)
    queue(*parts, name="two", rewards=kept.rewards)
    first, second = (first_report(output, run)["rewards"]["brightness"] for run in ("one", "two"))
    queue(*parts, name="three", rewards=RewardTransform.execute(made, {"transform": "running z-score"}).args[0].rewards)
    assert first_report(output, "three")["rewards"]["brightness"] == second == first


# Files and endpoints that change under the same name


@pytest.fixture
def models(tmp_path, monkeypatch):
    """An empty models/reward_models."""
    folder = tmp_path / "models"
    folder.mkdir()
    for kind in ("reward_models", "clip_vision", "text_encoders"):
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(folder / kind)], set()))
    return folder / "reward_models"


def another_clip(path, seed):
    tensors = {name: tensor.clone() for name, tensor in reward_files.clip().items()}
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in tensors.items():
        if name.endswith("weight"):
            tensors[name] = tensor + 0.01 * torch.randn(tensor.shape, generator=generator)
    reward_files.write(path, tensors)


def test_another_file_under_an_old_name_is_read_again(models):
    chosen = {"kind": "PickScore", "file": "pick.safetensors"}
    assert ClipReward.fingerprint_inputs(**chosen) == ClipReward.fingerprint_inputs(**chosen), "it is missing"
    another_clip(models / "pick.safetensors", 1)
    before = ClipReward.fingerprint_inputs(**chosen)
    assert ClipReward.fingerprint_inputs(**chosen) == before
    another_clip(models / "pick.safetensors", 2)
    assert ClipReward.fingerprint_inputs(**chosen) != before
    assert str(models) not in before, "it stands in the history"


@pytest.mark.parametrize(
    "node,inputs",
    [
        (ImageRewardNode, {"file": "a.pt"}),
        (AestheticReward, {"head": "a.pt", "file": "b.pt"}),
        (AestheticReward, {"head": "b.pt", "file": "a.pt"}),
        (SimilarityReward, {"file": "a.pt"}),
        (DirectionReward, {"file": "a.pt"}),
        (ClassifierReward, {"folder": "folder"}),
        (JudgeNode, {"judge": "in process: folder"}),
    ],
)
def test_every_loader_looks_at_its_files(models, node, inputs):
    (models / "folder").mkdir(parents=True)
    for file in ("a.pt", "b.pt", "folder/config.json", "folder/model.safetensors"):
        (models / file).write_bytes(b"1")
    before = node.fingerprint_inputs(**inputs, weight=1.0)
    for file in ("a.pt", "folder/model.safetensors"):
        (models / file).write_bytes(b"22")
    assert node.fingerprint_inputs(**inputs, weight=1.0) != before


def test_a_changed_endpoint_is_another_judge_and_its_key_is_not_told(endpoints):
    written = '[lamp]\nurl = "http://127.0.0.1:{}"\nkey = "{}"\n[other]\nurl = "http://127.0.0.1:1"\n'

    def told():
        return JudgeNode.fingerprint_inputs(judge="endpoint: lamp", asks="?")

    endpoints(written.format(1, "sk-secret-1"))
    first = told()
    assert told() == first
    endpoints(written.format(2, "sk-secret-1"))
    second = told()
    endpoints(written.format(2, "sk-secret-2"))
    third = told()
    assert len({first, second, third}) == 3
    endpoints(written.format(2, "sk-secret-2") + "# a remark\n")
    assert told() == third and not any("secret" in text or "127" in text for text in (first, second, third))


def test_a_run_goes_on_with_the_same_weights_wherever_they_are_and_not_with_others(models, tmp_path):
    def known(path):
        return recognised(Transformed(PickScore(str(path)), RunningZ()))

    another_clip(models / "pick.safetensors", 1)
    first = known(models / "pick.safetensors")
    assert first.startswith("Transformed(reward=PickScore(file='pick.safetensors ") and str(models) not in first
    (tmp_path / "elsewhere").mkdir()
    shutil.copyfile(models / "pick.safetensors", tmp_path / "elsewhere" / "pick.safetensors")
    assert known(tmp_path / "elsewhere" / "pick.safetensors") == first
    another_clip(models / "pick.safetensors", 2)
    assert known(models / "pick.safetensors") != first
    assert recognised(PickScore("lost.pt")) == repr(PickScore("lost.pt"))


def test_a_replaced_weight_file_makes_another_run(parts, output, models):
    def train():
        rewards = ClipReward.execute("PickScore", "pick.safetensors", 1.0).args[0]
        queue(*parts, rewards=rewards.rewards)

    another_clip(models / "pick.safetensors", 1)
    train()
    train()
    assert runs(output) == ["run"]
    another_clip(models / "pick.safetensors", 2)
    train()
    assert runs(output) == ["run", "run-2"]
