"""Weight files: every format, prefixes of wrappers, and what broken ones are answered with."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from mixgrpo_core.rewards.networks.weight_files import Weights, WeightsError

TENSORS = {"visual.conv1.weight": torch.randn(4, 3, 2, 2), "logit_scale": torch.tensor(4.6), "b": torch.arange(3)}


def written(folder, how):
    """A file of ``TENSORS`` as ``how`` says; its path."""
    if how == "safetensors":
        save_file(TENSORS, folder / "a.safetensors")
        return folder / "a.safetensors"
    if how == "wrapped names":
        save_file({f"module.model.{name}": tensor for name, tensor in TENSORS.items()}, folder / "a.sft")
        return folder / "a.sft"
    if how == "state_dict":
        torch.save({"epoch": 3, "state_dict": dict(TENSORS)}, folder / "a.pt")
        return folder / "a.pt"
    if how == "old pickle":
        torch.save(TENSORS, folder / "a.pth", _use_new_zipfile_serialization=False)
        return folder / "a.pth"
    if how == "folder":
        save_file(TENSORS, folder / "model.safetensors")
        (folder / "config.json").write_text('{"model_type": "clip"}')
        return folder
    names = sorted(TENSORS)
    save_file({name: TENSORS[name] for name in names[:1]}, folder / "model-1.safetensors")
    save_file({name: TENSORS[name] for name in names[1:]}, folder / "model-2.safetensors")
    table = {name: f"model-{1 if name == names[0] else 2}.safetensors" for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    return folder


@pytest.mark.parametrize("how", ["safetensors", "wrapped names", "state_dict", "old pickle", "folder", "shards"])
def test_every_format_gives_the_same_tensors(tmp_path, how):
    weights = Weights(written(tmp_path, how))
    assert dict(weights.shapes) == {name: tuple(tensor.shape) for name, tensor in TENSORS.items()}
    found = weights.read(TENSORS)
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)
    assert weights.read(["b"]).keys() == {"b"}
    assert weights.size_of(["b", "logit_scale"]) == 4


def test_a_folder_tells_its_config(tmp_path):
    assert Weights(written(tmp_path, "folder")).config == {"model_type": "clip"}


def test_a_name_that_only_some_share_is_no_prefix(tmp_path):
    save_file({"model.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "a.safetensors")
    assert set(Weights(tmp_path / "a.safetensors").shapes) == {"model.a", "b"}


class Code:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_a_pickle_that_needs_code_is_refused_and_not_run(tmp_path, capsys):
    torch.save({"state_dict": TENSORS, "trainer": Code()}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="more than tensors"):
        Weights(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Code()))
    with pytest.raises(WeightsError):
        Weights(tmp_path / "b.pt")
    assert "never run" not in capsys.readouterr().out


@pytest.mark.parametrize("how", ["safetensors", "state_dict", "old pickle"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_said(tmp_path, how, share):
    path = written(tmp_path, how)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(WeightsError, match=path.name):
        Weights(path)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(WeightsError, match="found nothing"):
        Weights(tmp_path / "none.pt")
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        Weights(tmp_path)
    (tmp_path / "a.txt").write_text("weights")
    with pytest.raises(WeightsError, match="expected a weight file"):
        Weights(tmp_path / "a.txt")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="list"):
        Weights(tmp_path / "list.pt")
    written(tmp_path, "shards")
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model-2\.safetensors"):
        Weights(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json"):
        Weights(tmp_path)


def test_another_file_at_the_same_path_is_another_identity(tmp_path):
    path = written(tmp_path, "safetensors")
    before = Weights(path).identity
    assert Weights(path).identity == before
    save_file({**TENSORS, "more": torch.zeros(9)}, path)
    assert Weights(path).identity != before
