"""Networks of rewards: shared, read once, and where their place says between calls."""

import ast
import gc
import weakref
from pathlib import Path

import pytest
import reward_files_more
import torch
from safetensors.torch import save_file
from tiny_judge import save_judge
from torch import nn

from mixgrpo_core.rewards.classifier.reward import ImageClassifier
from mixgrpo_core.rewards.embedders.dino import DinoV2
from mixgrpo_core.rewards.image_reward import ImageReward
from mixgrpo_core.rewards.judges import LocalChat
from mixgrpo_core.rewards.networks import places
from mixgrpo_core.rewards.networks.places import Network, Offloaded, Released, Resident, dtype_for, shared
from mixgrpo_core.rewards.networks.tower import Tower


class Counted:
    def __init__(self):
        self.loads = 0

    def __call__(self):
        self.loads += 1
        return nn.Linear(2, 1)


def test_the_same_key_is_read_once_and_shared():
    one, other = Counted(), Counted()
    first, second, third = shared("a", one), shared("a", other), shared("b", other)
    assert first is second and first is not third
    for network in (first, second, first):
        with network.at(Resident("cpu")) as module:
            assert not module.training and not any(p.requires_grad for p in module.parameters())
    assert (one.loads, other.loads) == (1, 0)


def test_nothing_is_kept_when_no_reward_holds_it():
    network = shared("gone", Counted())
    del network
    gc.collect()
    again = Counted()
    with shared("gone", again).at(Resident("cpu")):
        assert again.loads == 1


@pytest.mark.parametrize("place,loads", [(Resident("cpu"), 1), (Offloaded("cpu"), 1), (Released("cpu"), 3)])
def test_a_place_decides_whether_the_file_is_read_again(place, loads):
    load = Counted()
    network = Network(load)
    for _ in range(3):
        with network.at(place) as module:
            assert module(torch.ones(1, 2)).isfinite().all()
    assert load.loads == loads and network.loaded == place.keeps


def test_an_offloaded_network_goes_back_and_a_resident_one_stays():
    """On "meta", from which nothing can be moved back, going back is an error."""
    with Network(Counted()).at(Resident("meta")) as module:
        assert module.weight.device.type == "meta"
    with pytest.raises(NotImplementedError), Network(Counted()).at(Offloaded("meta")) as module:
        assert module.weight.device.type == "meta"


def test_a_network_that_does_not_fit_leaves_nothing_of_itself_on_the_device():
    network, moved = nn.Linear(2, 1), []

    def to(device):
        moved.append(torch.device(device).type)
        if moved == ["meta"]:
            raise torch.cuda.OutOfMemoryError("half of it is there")

    network.to = to
    with pytest.raises(torch.cuda.OutOfMemoryError), Network(lambda: network).at(Offloaded("meta")):
        pass
    assert moved == ["meta", "cpu"]


def test_an_error_inside_leaves_the_network_usable():
    network = Network(Counted())
    with pytest.raises(ZeroDivisionError), network.at(Offloaded("cpu")):
        1 / 0  # noqa: B018
    with network.at(Offloaded("cpu")) as module:
        assert module.weight.device.type == "cpu"


def test_a_network_that_is_read_in_inference_mode_gives_gradients_later():
    network = Network(Counted())
    with torch.inference_mode(), network.at(Resident("cpu")):
        pass
    x = torch.ones(1, 2, requires_grad=True)
    with network.at(Resident("cpu")) as module:
        module(x).sum().backward()
    assert bool(x.grad.any())


def test_half_precision_is_for_accelerators():
    assert dtype_for("auto", torch.device("cpu")) is torch.float32
    assert dtype_for("auto", torch.device("cuda")) is torch.float16
    assert dtype_for("bfloat16", torch.device("cpu")) is torch.bfloat16


def dino(folder):
    save_file(reward_files_more.dinov2(), folder / "dino.safetensors")
    return DinoV2(str(folder / "dino.safetensors")).opened(precision="auto", place=Resident("cpu"), batch=1)


def classifier(folder):
    reward_files_more.write_classifier(folder, "vit")
    return ImageClassifier(str(folder), "photo", place=Resident("cpu"))


def image_reward(folder):
    torch.save(reward_files_more.image_reward(), folder / "ImageReward.pt")
    return ImageReward(str(folder / "ImageReward.pt"), place=Resident("cpu"))


def judge(folder):
    save_judge(folder)
    return LocalChat(str(folder), place=Resident("cpu"))


@pytest.mark.parametrize("make", [dino, classifier, image_reward, judge])
def test_a_network_goes_with_its_last_reward_and_waits_for_no_garbage_collection(tmp_path, make):
    reward = make(tmp_path)
    tower = reward if isinstance(reward, Tower) else reward._tower
    tower.check()
    alive = weakref.ref(tower.network)
    gc.collect()
    gc.disable()
    try:
        del reward, tower
        assert alive() is None
    finally:
        gc.enable()


def test_every_network_of_a_reward_is_a_tower():
    """One way to a network: who shares one on his own would have a memory rule and a check of his own."""
    rewards = Path(places.__file__).parents[1]
    sharing = {
        file.relative_to(rewards).as_posix()
        for file in rewards.rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("shared", "places.shared", "Network")
    }
    assert sharing == {"networks/places.py", "networks/tower.py"}
