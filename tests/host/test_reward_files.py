"""Where reward files are looked for, what is offered, and what is said of a file that is missing."""

import folder_paths
import pytest
import torch
from mixgrpo_pack.mixgrpo_core.rewards.networks.known_files import KnownFile
from mixgrpo_pack.nodes.host.reward_files import NOTHING, found, path_of, register_folder
from mixgrpo_pack.nodes.host.reward_place import HostPlacement

HPS = KnownFile(
    name="HPS_v2.1_compressed.pt", source="xswu/HPSv2", size=1_972_000_000, licence="Apache-2.0", original="hps.pt"
)
KINDS = ("reward_models", "clip_vision")


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Empty folders: models/reward_models, another of it by extra_model_paths, and models/clip_vision."""
    places = {}
    for kind, folders in {"reward_models": ("own", "extra"), "clip_vision": ("vision",)}.items():
        for folder in folders:
            (tmp_path / folder).mkdir()
        places[kind] = ([str(tmp_path / folder) for folder in folders], set())
    for kind, place in places.items():
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, place)
    return tmp_path


def test_the_host_knows_the_folder():
    register_folder()
    register_folder()
    paths = folder_paths.get_folder_paths("reward_models")
    assert [path for path in paths if path.endswith("reward_models")] == [f"{folder_paths.models_dir}/reward_models"]


def test_files_and_model_folders_are_offered_and_found_again(models):
    (models / "own" / "HPS_v2.1_compressed.pt").write_bytes(b"")
    (models / "own" / "notes.txt").write_bytes(b"")
    (models / "own" / ".hidden.pt").write_bytes(b"")
    for folder in ("own/siglip", "extra/deep/dinov2"):
        (models / folder).mkdir(parents=True)
        (models / folder / "config.json").write_text("{}")
        (models / folder / "model.safetensors").write_bytes(b"")
    (models / "extra" / "aesthetic").mkdir()
    (models / "extra" / "aesthetic" / "head.pth").write_bytes(b"")
    (models / "vision" / "CLIP-ViT-L.safetensors").write_bytes(b"")
    offered = found(KINDS)
    assert offered == [
        "aesthetic/head.pth",
        "clip_vision/CLIP-ViT-L.safetensors",
        "deep/dinov2",
        "HPS_v2.1_compressed.pt",
        "siglip",
    ]
    assert found(KINDS, folders=False) == [name for name in offered if "." in name]
    places = [path_of(name, KINDS, ()).relative_to(models).as_posix() for name in offered]
    assert places == [
        "extra/aesthetic/head.pth",
        "vision/CLIP-ViT-L.safetensors",
        "extra/deep/dinov2",
        "own/HPS_v2.1_compressed.pt",
        "own/siglip",
    ]


def test_a_missing_file_is_named_with_where_to_get_it(models):
    assert found(KINDS) == [NOTHING]
    for name in (NOTHING, "HPS_v2.1_compressed.pt", "hps.pt"):
        with pytest.raises(ValueError, match="found|there is no") as error:
            path_of(name, KINDS, [HPS])
        words = str(error.value)
        assert all(part in words for part in ("HPS_v2.1_compressed.pt", "xswu/HPSv2", "1.97 GB", "Apache-2.0"))
        assert "models/reward_models" in words
    other = KnownFile(name="PickScore_v1.safetensors", source="yuvalkirstain/PickScore_v1", size=1, licence="MIT")
    with pytest.raises(ValueError, match="HPSv2") as error:
        path_of("HPS_v2.1_compressed.pt", KINDS, [HPS, other])
    assert "PickScore" not in str(error.value)


@pytest.mark.parametrize("name", ["../secret.pt", "/etc/passwd", "clip_vision/../../secret.pt", "", ".", 3, "a/../.."])
def test_no_name_leads_out_of_the_folders(models, name):
    (models / "secret.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="there is no|expected the name"):
        path_of(name, KINDS, [HPS])


def test_a_network_is_held_by_the_host_and_comes_back_after_it_was_moved_out():
    import comfy.model_management

    network = torch.nn.Linear(3, 2)
    place, x = HostPlacement(), torch.ones(1, 3)
    with place.holding(network):
        before = network(x)
    held = [model.model for model in comfy.model_management.current_loaded_models]
    assert any(getattr(patcher.model, "network", None) is network for patcher in held if patcher is not None)
    comfy.model_management.unload_all_models()
    with place.holding(network):
        assert torch.equal(network(x), before) and network.weight.device == place.device
