"""Reward models on the canvas: files found, scored as headless, held by the host, and sentences for what is missing."""

import gc
import weakref

import folder_paths
import pytest
import reward_files
import reward_files_more
import torch
from mixgrpo_pack.mixgrpo_core.rewards.classifier.reward import ImageClassifier
from mixgrpo_pack.mixgrpo_core.rewards.clip import CLIPScore, HPSv2, PickScore
from mixgrpo_pack.mixgrpo_core.rewards.edits.direction import DirectionalCLIP
from mixgrpo_pack.mixgrpo_core.rewards.edits.preservation import PSNR, EditPreservation
from mixgrpo_pack.mixgrpo_core.rewards.embedders.aesthetic import AestheticScore
from mixgrpo_pack.mixgrpo_core.rewards.embedders.dino import DinoV2
from mixgrpo_pack.mixgrpo_core.rewards.embedders.similarity import ClipImages, ImageSimilarity
from mixgrpo_pack.mixgrpo_core.rewards.image_reward import ImageReward
from mixgrpo_pack.mixgrpo_core.rewards.networks.places import Resident
from mixgrpo_pack.mixgrpo_core.rewards.networks.reference_picture import Pixels
from mixgrpo_pack.mixgrpo_core.rewards.port import RewardBatch
from mixgrpo_pack.mixgrpo_core.rewards.siglip.scores import SigLIPScore
from mixgrpo_pack.mixgrpo_core.rewards.told_apart import recognised
from mixgrpo_pack.nodes.host.reward_files import NOTHING
from mixgrpo_pack.nodes.rewards.edits import DirectionReward, PreservationReward
from mixgrpo_pack.nodes.rewards.images import AestheticReward, ClassifierReward, SimilarityReward
from mixgrpo_pack.nodes.rewards.prompted import ClipReward, ImageRewardNode
from mixgrpo_pack.nodes.rewards.score import ScoreImages

CPU = Resident("cpu")
IMAGES = torch.rand(3, 40, 56, 3, generator=torch.Generator().manual_seed(0))
REFERENCE = torch.rand(1, 30, 30, 3, generator=torch.Generator().manual_seed(1))
MASK = (torch.arange(30) < 12).float()[None, :, None].expand(1, 30, 30)
PROMPT = "a red circle"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders with one tiny file of each kind in the layout of the real one."""
    root = tmp_path_factory.mktemp("models")
    own, vision = root / "reward_models", root / "clip_vision"
    clip = reward_files.clip()
    reward_files.write_open_clip(own / "HPS_v2.1_compressed.pt", clip, dtype=torch.float16)
    reward_files.write(own / "PickScore_v1.safetensors", clip)
    reward_files.write_folder(own / "siglip", reward_files.siglip(), reward_files.siglip_config())
    reward_files.write_tokenizer(own / "siglip")
    reward_files.write(vision / "CLIP-ViT-tiny.safetensors", reward_files.vision_only(clip))
    (own / "ImageReward").mkdir()
    torch.save(reward_files_more.image_reward(), own / "ImageReward" / "ImageReward.pt")
    reward_files_more.write_vocabulary(own / "ImageReward")
    reward_files.write(own / "dinov2.safetensors", reward_files_more.dinov2())
    torch.save(reward_files_more.aesthetic_head("linear", reward_files.PROJECTED), own / "linearMSE.pth")
    reward_files_more.write_classifier(own / "photo-or-drawing", "vit")
    return root


@pytest.fixture(autouse=True)
def folders(models, monkeypatch):
    for kind in ("reward_models", "clip_vision", "text_encoders"):
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(models / kind)], set()))


def headless(reward):
    reward.prepare([PROMPT])
    with torch.no_grad():
        return reward(RewardBatch(images=IMAGES, prompts=(PROMPT,) * 3)).values


def on_the_canvas(rewards):
    """Scores of ``IMAGES`` in their order, by Score Images as the host runs it."""
    with torch.inference_mode():
        ranked, _, _, scores = ScoreImages.execute(IMAGES, rewards, PROMPT, 0).args
    places = [next(i for i in range(3) if torch.equal(image, IMAGES[i])) for image in ranked]
    return torch.tensor([score for _, score in sorted(zip(places, scores, strict=True))])


CASES = {
    "HPSv2": (
        lambda: ClipReward.execute("HPSv2", "HPS_v2.1_compressed.pt", 1.0),
        lambda own, vision: HPSv2(f"{own}/HPS_v2.1_compressed.pt", place=CPU),
    ),
    "PickScore": (
        lambda: ClipReward.execute("PickScore", "PickScore_v1.safetensors", 1.0),
        lambda own, vision: PickScore(f"{own}/PickScore_v1.safetensors", place=CPU),
    ),
    "CLIPScore": (
        lambda: ClipReward.execute("CLIPScore", "PickScore_v1.safetensors", 1.0),
        lambda own, vision: CLIPScore(f"{own}/PickScore_v1.safetensors", place=CPU),
    ),
    "SigLIP": (
        lambda: ClipReward.execute("SigLIP", "siglip", 1.0),
        lambda own, vision: SigLIPScore(f"{own}/siglip", place=CPU),
    ),
    "ImageReward": (
        lambda: ImageRewardNode.execute("ImageReward/ImageReward.pt", 1.0),
        lambda own, vision: ImageReward(f"{own}/ImageReward/ImageReward.pt", place=CPU),
    ),
    "aesthetic": (
        lambda: AestheticReward.execute("linearMSE.pth", "clip_vision/CLIP-ViT-tiny.safetensors", 1.0),
        lambda own, vision: AestheticScore(f"{own}/linearMSE.pth", f"{vision}/CLIP-ViT-tiny.safetensors", place=CPU),
    ),
    "like, DINOv2": (
        lambda: SimilarityReward.execute(REFERENCE, "DINOv2", "dinov2.safetensors", 1.0),
        lambda own, vision: ImageSimilarity(DinoV2(f"{own}/dinov2.safetensors"), Pixels(REFERENCE), place=CPU),
    ),
    "like, CLIP": (
        lambda: SimilarityReward.execute(REFERENCE, "CLIP", "clip_vision/CLIP-ViT-tiny.safetensors", 1.0),
        lambda own, vision: ImageSimilarity(
            ClipImages(f"{vision}/CLIP-ViT-tiny.safetensors"), Pixels(REFERENCE), place=CPU
        ),
    ),
    "preserved": (
        lambda: PreservationReward.execute(REFERENCE, "PSNR", 1.0, MASK),
        lambda own, vision: EditPreservation(PSNR(), Pixels(REFERENCE), Pixels(MASK[..., None].expand(-1, -1, -1, 3))),
    ),
    "direction": (
        lambda: DirectionReward.execute(REFERENCE, "a blue square", "PickScore_v1.safetensors", 1.0),
        lambda own, vision: DirectionalCLIP(
            f"{own}/PickScore_v1.safetensors", "a blue square", Pixels(REFERENCE), place=CPU
        ),
    ),
    "classifier": (
        lambda: ClassifierReward.execute("photo-or-drawing", "drawing", "likes it", 0.2, 1.0),
        lambda own, vision: ImageClassifier(f"{own}/photo-or-drawing", "drawing", place=CPU),
    ),
    "penalty": (
        lambda: ClassifierReward.execute("photo-or-drawing", "drawing", "penalises it", 0.0, 1.0),
        lambda own, vision: ImageClassifier(f"{own}/photo-or-drawing", "drawing", 0.0, place=CPU),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_node_scores_as_headless(models, case):
    node, core = CASES[case]
    with torch.inference_mode():  # as the host runs nodes
        rewards = node().args[0]
    expected = headless(core(models / "reward_models", models / "clip_vision"))
    assert len(set(expected.tolist())) == 3, "images that score alike would prove nothing"
    assert torch.allclose(on_the_canvas(rewards), expected, atol=1e-6)
    [reward] = rewards.rewards.values()
    known = recognised(reward)
    assert "HostPlacement" not in known and str(models) not in known, "where it computes and lies makes no other run"


@pytest.mark.parametrize("case", ["HPSv2", "ImageReward", "classifier"])
def test_its_memory_is_free_when_the_workflow_has_another_reward(case):
    import comfy.model_management

    rewards = CASES[case][0]().args[0]
    on_the_canvas(rewards)
    loaded = [model.model for model in comfy.model_management.current_loaded_models if model.model is not None]
    networks = [weakref.ref(patcher.model.network) for patcher in loaded if hasattr(patcher.model, "network")]
    assert networks
    del rewards, loaded
    gc.collect()  # as the host does after a queue
    comfy.model_management.cleanup_models()
    assert [network() for network in networks] == [None] * len(networks)


def test_its_network_is_the_hosts_to_move(models):
    import comfy.model_management

    rewards = CASES["HPSv2"][0]().args[0]
    before = on_the_canvas(rewards)
    held = [loaded.model for loaded in comfy.model_management.current_loaded_models if loaded.model is not None]
    assert any("CLIPVision" in type(getattr(patcher.model, "network", None)).__name__ for patcher in held)
    comfy.model_management.unload_all_models()
    assert torch.equal(on_the_canvas(rewards), before)


@pytest.mark.parametrize(
    "node,inputs,words",
    [
        (ClipReward, {"kind": "HPSv2", "file": NOTHING}, ["HPS_v2.1_compressed.pt", "xswu/HPSv2", "GB", "Apache-2.0"]),
        (ClipReward, {"kind": "PickScore", "file": "lost.safetensors"}, ["PickScore_v1", "3.9", "MIT"]),
        (ImageRewardNode, {"file": NOTHING}, ["ImageReward.pt", "THUDM/ImageReward", "1.79 GB"]),
        (AestheticReward, {"head": NOTHING}, ["linearMSE.pth", "MB"]),
        (SimilarityReward, {"file": NOTHING}, ["dinov2-base", "facebook/dinov2-base"]),
        (ClassifierReward, {"folder": NOTHING}, ["nsfw_image_detection"]),
    ],
)
def test_a_missing_file_is_named_with_where_to_get_it(node, inputs, words):
    problem = node.validate_inputs(**inputs)
    assert isinstance(problem, str) and "models/reward_models" in problem
    assert [word for word in words if word not in problem] == []


def test_a_new_node_has_the_file_that_it_is_for():
    def chosen(node):
        return {item.id: item.default for item in node.define_schema().inputs if item.id in ("file", "head")}

    assert chosen(ClipReward) == {"file": "HPS_v2.1_compressed.pt"}, "of a list that begins with another one"
    assert chosen(ImageRewardNode) == {"file": "ImageReward/ImageReward.pt"}


def test_files_that_are_there_pass():
    assert ClipReward.validate_inputs(kind="HPSv2", file="HPS_v2.1_compressed.pt") is True
    assert AestheticReward.validate_inputs(head="linearMSE.pth", file="clip_vision/CLIP-ViT-tiny.safetensors") is True
    assert "kind" in ClipReward.validate_inputs(kind="HPSv9", file="HPS_v2.1_compressed.pt")


@pytest.mark.parametrize(
    "execute,words",
    [
        (lambda: ClipReward.execute("HPSv2", "linearMSE.pth", 1.0), "linearMSE.pth"),
        (lambda: ImageRewardNode.execute("PickScore_v1.safetensors", 1.0), "PickScore_v1.safetensors"),
        (lambda: ClassifierReward.execute("photo-or-drawing", "cat", "likes it", 0.2, 1.0), "drawing"),
        (lambda: ClipReward.execute("SigLIP", "photo-or-drawing", 1.0), "photo-or-drawing"),
    ],
)
def test_another_models_file_is_refused_when_the_node_runs(execute, words):
    with pytest.raises(ValueError, match=words):
        execute()
