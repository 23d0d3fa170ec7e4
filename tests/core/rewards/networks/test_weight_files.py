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


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1710\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
BROKEN = {
    "a git-lfs pointer": (LFS, "is a git-lfs pointer .*: run 'git lfs pull'"),
    "a web page": (PAGE, "is a web page"),
    "an error": (b'{"error":"Repository not found"}', "is the error message of a download"),
    "nothing": (b"", "is empty: get it again"),
    "an archive": (b"\x1f\x8b\x08" + bytes(99), "is an archive: unpack it"),
    "another program's file": (b"GGUF" + bytes(99), "is a GGUF file"),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("name", ["a.pt", "a.bin", "a.safetensors"])
def test_a_file_that_is_something_else_is_told_what_it_is(tmp_path, what, name):
    content, words = BROKEN[what]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=words):
        Weights(tmp_path / name)


def test_a_torch_file_that_was_cut_short_is_told(tmp_path):
    path = written(tmp_path, "state_dict")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="a zip file .as torch writes. that was cut short: get it again"):
        Weights(path)


def test_a_torch_file_by_another_name_is_told(tmp_path):
    written(tmp_path, "state_dict").rename(tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="is a zip file, as torch writes: give it a name that ends in .pt"):
        Weights(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["a.pt", "a.bin", "a.SAFETENSORS"])
def test_a_safetensors_file_is_read_whatever_its_name(tmp_path, name):
    written(tmp_path, "safetensors").rename(tmp_path / name)
    found = Weights(tmp_path / name).read(TENSORS)
    assert all(torch.equal(found[key], TENSORS[key]) for key in TENSORS)


def test_a_folder_of_16_bits_alone_is_read(tmp_path):
    written(tmp_path, "safetensors").rename(tmp_path / "model.fp16.safetensors")
    assert Weights(tmp_path).read(["b"])["b"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("names", [{"a": 1}, {"a": "one.safetensors", "b": {}}, {"a": None}])
def test_an_index_of_no_file_names_is_told(tmp_path, names):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(WeightsError, match="of file names"):
        Weights(tmp_path)


def test_a_header_that_safetensors_quotes_whole_makes_a_short_sentence(tmp_path):
    header = json.dumps({"a": "x" * 50_000}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(WeightsError, match="not a whole safetensors file") as told:
        Weights(tmp_path / "a.safetensors")
    assert len(str(told.value)) < 1000
