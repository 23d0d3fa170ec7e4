"""What text encoders made of texts, held in files: found again by text and encoder, or made anew."""

from pathlib import Path

import pytest
import torch

from mixgrpo_core.support.digests import files_digest
from mixgrpo_core.support.text_files import TextFiles

MADE = {"embeds": torch.randn(1, 4, 3).bfloat16(), "pooled": torch.randn(1, 5), "none": torch.zeros(0, 2)}


def same(found):
    return found[1] == {"a": "b"} and all(torch.equal(found[0][name], MADE[name]) for name in MADE)


@pytest.mark.parametrize("text", ["", "a fox", "a\nfox\0" * 500, "Füchse 🦊", "\ud800", "../../x", "con"])
def test_a_text_is_found_again_by_another_process_of_the_same_encoder_only(tmp_path, text):
    texts = TextFiles("t5 1")
    texts.put(text, MADE, {"a": "b"})
    assert texts.get(text)[0]["embeds"] is MADE["embeds"], "in main memory"
    texts.keep_in(tmp_path / "prompts")
    assert len(list((tmp_path / "prompts").iterdir())) == 1 and len(list(tmp_path.iterdir())) == 1
    assert same(texts.get(text)) and same(TextFiles("t5 1", tmp_path / "prompts").get(text))
    assert TextFiles("t5 2", tmp_path / "prompts").get(text) is None
    assert texts.get(text + ".") is None


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_file_is_none(tmp_path, damage):
    texts = TextFiles("", tmp_path)
    texts.put("a fox", MADE, {"a": "b"})
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    data[-3] ^= 4 if damage == "flip" else 0
    file.write_bytes({"cut": data[:-1], "flip": data, "empty": b""}[damage])
    assert texts.get("a fox") is None
    texts.put("a fox", MADE, {"a": "b"})
    assert same(texts.get("a fox"))


def test_nothing_stays_in_main_memory_nor_mapped(tmp_path):
    texts = TextFiles("", tmp_path)
    texts.put("a fox", MADE, {"a": "b"})
    found = texts.get("a fox")
    assert texts._held == {} and found is not texts.get("a fox")
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_files_are_told_apart_by_a_byte_a_name_and_a_length(tmp_path):
    file = tmp_path / "encoder" / "model.safetensors"
    file.parent.mkdir()
    digests = []
    for data in (b"x" * 9000, b"x" * 8999 + b"y", b"x" * 9001, b""):
        file.write_bytes(data)
        digests += [files_digest(tmp_path, tmp_path.glob("**/*"))] * 1
    file.rename(file.with_name("other.safetensors"))
    digests.append(files_digest(tmp_path, tmp_path.glob("**/*")))
    assert len(set(digests)) == 5
