"""Text files that a person may have written: a byte-order mark is no text, and other encodings are told."""

import json

import pytest
import torch
from PIL import Image

from mixgrpo_core.cli.score import _prompt
from mixgrpo_core.cli.settings import read_toml
from mixgrpo_core.models.diffusers.loading import read_json as read_model_json
from mixgrpo_core.rewards.judges.templates import read_template
from mixgrpo_core.rewards.networks.weight_files import read_json
from mixgrpo_core.rewards.people.ballot_box import BallotBox
from mixgrpo_core.rewards.people.voting import Thumbs
from mixgrpo_core.support.files import TextFileError, read_text

UTF8, UTF16 = b"\xef\xbb\xbf", "utf-16"


def marked(text: str) -> list[bytes]:
    """As Notepad and others save it, and as files are that were joined."""
    return [UTF8 + text.encode(), text.encode(UTF16), UTF8 + UTF8 + text.encode()]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_is_read_whatever_its_mark_says(tmp_path, encoding):
    (tmp_path / "a").write_bytes("ein Käfer\r\n猫\u2028\rend\n".encode(encoding))
    assert read_text(tmp_path / "a") == "ein Käfer\n猫\u2028\nend\n"


def test_joined_files_leave_no_mark(tmp_path):
    (tmp_path / "a").write_bytes(b"a\n" + UTF8 + b"b\n" + UTF8 + b"c")
    assert read_text(tmp_path / "a") == "a\nb\nc"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("Käfer".encode("latin-1"), "is not UTF-8 .byte 1.: save it as UTF-8"),
        ("a".encode("utf-16-le"), "null bytes"),
        (b"\xff\xfea", "not UTF-16"),
    ],
)
def test_what_is_no_text_is_told(tmp_path, data, words):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(TextFileError, match=words):
        read_text(tmp_path / "a")


@pytest.mark.parametrize("place", range(3))
def test_everything_that_people_write_is_read_without_its_mark(tmp_path, place):
    def write(name: str, text: str):
        (tmp_path / name).write_bytes(marked(text)[place])
        return tmp_path / name

    assert read_template(str(write("template.txt", "How good is {prompt}?\n"))) == "How good is {prompt}?"
    Image.new("RGB", (2, 2)).save(tmp_path / "picture.png")
    write("picture.txt", "a cat\n")
    assert _prompt(tmp_path / "picture.png", "a dog") == "a cat"
    assert read_toml(write("run.toml", 'preset = "mixgrpo"\n[prompts]\ntrain = ["a"]\n')).prompts.train == ("a",)
    assert read_json(write("config.json", '{"a": 1}')) == read_model_json(tmp_path / "config.json") == {"a": 1}


@pytest.mark.parametrize("place", range(3))
def test_a_ballot_that_an_editor_wrote_is_read(tmp_path, place):
    box = BallotBox(tmp_path)
    pictures = [torch.zeros(2, 2, 3, dtype=torch.uint8).numpy()] * 2
    made = box.opened(pictures, "a cat", Thumbs(), iteration=0, group=0, seconds=60)
    file = tmp_path / f"{made.id}.json"
    file.write_bytes(marked(json.dumps(json.loads(file.read_text())))[place])
    assert box.read(made.id) == made
