"""Weight files as a diffusers folder may have them: variants of 16 bits, shards, and what is no weight file."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from tiny_sd3 import load, make_folder, velocity_of

from mixgrpo_core.models.diffusers.loading import ModelFilesError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "sd3")


@pytest.mark.parametrize("size", ["5GB", "60KB"])
def test_a_folder_of_a_variant_alone_is_the_same_model(folder: Path, tmp_path: Path, size: str) -> None:
    pipe = StableDiffusion3Pipeline.from_pretrained(folder)
    pipe.save_pretrained(tmp_path, variant="fp16", max_shard_size=size)
    assert all(".fp16" in file.name for file in tmp_path.rglob("*.safetensors"))
    assert (len(list((tmp_path / "transformer").glob("*.safetensors"))) > 1) == (size == "60KB")
    assert torch.equal(velocity_of(load(tmp_path)), velocity_of(load(folder)))


def test_beside_a_variant_the_plain_weights_are_taken(folder: Path, tmp_path: Path) -> None:
    both = Path(shutil.copytree(folder, tmp_path / "both"))
    (both / "transformer" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"")
    assert torch.equal(velocity_of(load(both)), velocity_of(load(folder)))


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_a_pointer_for_weights_is_told(folder: Path, tmp_path: Path, part: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for file in (copy / part).glob("*.safetensors"):
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n")
    with pytest.raises(ModelFilesError, match="safetensors: it is a git-lfs pointer .*: run 'git lfs pull'"):
        load(copy).encode("a cat")


def test_pickles_alone_are_told(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for file in (copy / "vae").glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    with pytest.raises(ModelFilesError, match="only .bin files, pickles, which are not read"):
        load(copy)
