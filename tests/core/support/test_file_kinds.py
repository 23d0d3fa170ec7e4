"""What files are by their first bytes."""

import pickle

import pytest
import torch
from safetensors.torch import save

from mixgrpo_core.support.file_kinds import is_safetensors, what_it_is


@pytest.mark.parametrize("length", [0x0280, 0x0380, 0x0480, 0x0580])
def test_a_header_whose_length_looks_like_a_pickle_is_a_header(tmp_path, length):
    """The length is a number of eight bytes, and a pickle begins with 0x80 and the number of its protocol."""
    bare = len(save({"a": torch.zeros(1)}, {"words": ""})) - 4 - 8
    file = tmp_path / "a.safetensors"
    file.write_bytes(save({"a": torch.zeros(1)}, {"words": "x" * (length - bare)}))
    assert file.read_bytes()[:2] == length.to_bytes(2, "little")
    assert is_safetensors(file) and what_it_is(file) == ""


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_is_told(tmp_path, protocol):
    file = tmp_path / "a.safetensors"
    file.write_bytes(pickle.dumps({"a": [1.0]}, protocol))
    assert "pickle" in what_it_is(file)
