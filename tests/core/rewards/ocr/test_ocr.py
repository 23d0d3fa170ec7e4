"""Text in pictures: what a prompt wants, how far off a reading is, and RapidOCR where it is installed."""

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from mixgrpo_core.rewards.ocr.accuracy import TextAccuracy, accuracy, levenshtein, wanted_texts
from mixgrpo_core.rewards.ocr.rapid_ocr import RapidOCRReader
from mixgrpo_core.rewards.port import RewardBatch
from mixgrpo_core.rewards.scoring import score
from mixgrpo_core.support.spelling import parse, spell


@pytest.mark.parametrize(
    "prompt, expected",
    [
        ('a sign that says "Open 24 Hours"', ["open24hours"]),
        ("\u201cHello\u201d on the left, \u201cWORLD\u201d on the right", ["hello", "world"]),
        (
            "\u201eGuten Tag\u201c and \u00abBonjour\u00bb and \u300c\u3053\u3093\u300d",
            ["gutentag", "bonjour", "\u3053\u3093"],
        ),
        ("the dog's sign says 'Don't stop', the cats' says \u2018it\u2019s me\u2019", ["don'tstop", "it\u2019sme"]),
        ("the dog's bone, and the cats' too", []),
        ('size 5" and a "word"', ["anda"]),  # what is no quotation to a reader is one to a rule
        ("a red circle", []),
        ('""  " "', []),
        ("", []),
    ],
)
def test_what_stands_in_quotes_is_wanted(prompt, expected):
    assert wanted_texts(prompt) == expected


@pytest.mark.parametrize(
    "read, wanted, expected",
    [
        ("HELLO", ["hello"], 1.0),
        ("we are open, come in", ["open"], 1.0),  # somewhere in what was read
        ("O pe n", ["open"], 1.0),
        ("opon", ["open"], 0.75),
        ("ope", ["open"], 0.75),
        ("", ["open"], 0.0),
        ("something else altogether", ["open"], 0.0),  # no less than 0
        ("world hello", ["hello", "world"], 1.0),  # in any order
        ("hello xorld", ["hello", "world"], 0.9),
        ("hello", ["hello", "world"], 0.6),  # one letter of the second stands where it should
    ],
)
def test_accuracy_by_hand(read, wanted, expected):
    assert accuracy(read, wanted) == pytest.approx(expected)


@cache
def recursive(one, other):
    """Levenshtein's distance by its definition."""
    if not one or not other:
        return len(one) + len(other)
    return min(
        recursive(one[1:], other) + 1,
        recursive(one, other[1:]) + 1,
        recursive(one[1:], other[1:]) + (one[0] != other[0]),
    )


@settings(max_examples=200, deadline=None)
@given(st.text("abc\U0001f600", max_size=8), st.text("abc\U0001f600", max_size=8))
def test_the_distance_is_that_of_the_definition(one, other):
    assert levenshtein(one, other) == recursive(one, other)


def test_known_distances():
    assert levenshtein("kitten", "sitting") == 3 and levenshtein("saturday", "sunday") == 3
    assert levenshtein("a" * 4000, "b" * 3000) == 4000


@dataclass(frozen=True)
class ByBrightness:
    """Reads "open" in bright pictures, and what it is told in dark ones."""

    dark: str = "closed"

    def prepare(self):
        pass

    def read(self, image):
        assert image.dtype == np.uint8 and image.shape[-1] == 3
        return ["OP", "EN"] if image.mean() > 127 else [self.dark]


def batch(pictures, *prompts):
    return RewardBatch(images=pictures, prompts=prompts)


def test_lines_are_joined_and_each_picture_has_its_own_score():
    pictures = torch.stack((torch.ones(4, 4, 3), torch.zeros(4, 4, 3), torch.ones(4, 4, 3)))
    prompts = ('"open"', '"open"', '"openly"')
    found = TextAccuracy(ByBrightness("oxen"))(batch(pictures, *prompts))
    assert found.values.tolist() == pytest.approx([1.0, 0.75, 4 / 6])
    assert found.valid.all() and not found.abstained and found.note == ""


def test_a_prompt_without_quotes_has_no_score_and_is_no_failure():
    found = TextAccuracy(ByBrightness())(batch(torch.ones(2, 4, 4, 3), '"open"', "open"))
    assert found.valid.tolist() == [True, False] and found.abstained and "no quoted text" in found.note
    scores, _ = score({"it": TextAccuracy(ByBrightness())}, batch(torch.ones(2, 4, 4, 3), "a", ""))
    assert not scores["it"].valid.any()


def test_prompts_of_which_none_has_quotes_are_refused_before_work_starts():
    with pytest.raises(ValueError, match="in quotes"):
        TextAccuracy(ByBrightness()).prepare(["a", "b"])
    TextAccuracy(ByBrightness()).prepare(["a", 'b "c"'])
    TextAccuracy(ByBrightness()).prepare([])


def test_without_the_library_its_installation_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(ValueError, match="pip install rapidocr onnxruntime"):
        TextAccuracy().prepare(['"a"'])


def test_it_is_written_into_a_config_file_and_read_again():
    reward = TextAccuracy(RapidOCRReader(detector="a.onnx"))
    assert parse(spell(reward), {"TextAccuracy": TextAccuracy, "RapidOCRReader": RapidOCRReader}) == reward


def drawn(*lines, side=256):
    """Lines of black text on white, ``[H, W, 3]`` in 0..1."""
    image = Image.new("RGB", (2 * side, side), "white")
    for row, line in enumerate(lines):
        ImageDraw.Draw(image).text((30, 30 + 90 * row), line, fill="black", font=ImageFont.load_default(56))
    return torch.from_numpy(np.array(image)).float() / 255


@pytest.fixture(scope="module")
def reader():
    pytest.importorskip("rapidocr")
    pytest.importorskip("onnxruntime")
    return RapidOCRReader()


def test_rapidocr_reads_what_is_drawn(reader):
    pictures = torch.stack((drawn("Open 24", "Hours"), drawn("Opem 24", "Hours"), drawn("Pizza")))
    reward = TextAccuracy(reader)
    reward.prepare(['"Open 24 Hours"'])
    found = reward(batch(pictures, *['a sign: "Open 24 Hours"'] * 3)).values
    assert found[0] == 1 and found[1].item() == pytest.approx(0.9, abs=0.02) and found[2] < 0.3


def test_rapidocr_on_pictures_with_nothing_to_read(reader):
    for picture in (torch.zeros(1, 1, 1, 3), torch.full((1, 40, 90, 3), 0.3)):
        assert TextAccuracy(reader)(batch(picture, '"word"')).values.tolist() == [0]


def test_files_that_are_missing_are_said_and_nothing_is_fetched(reader, tmp_path, monkeypatch):
    import rapidocr

    for wrong in (RapidOCRReader(detector="none.onnx"), RapidOCRReader(characters="none.txt")):
        with pytest.raises(ValueError, match="found nothing"):
            wrong.prepare()
    monkeypatch.setattr(rapidocr, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(ValueError, match="expected one recogniser .* found none"):
        RapidOCRReader().prepare()


@pytest.mark.parametrize("part", ["detector", "recogniser"])
def test_files_that_are_no_networks_are_said_before_work_starts(reader, tmp_path, part):
    import rapidocr

    files = (Path(rapidocr.__file__).parent / "models").glob(f"*_{part[:3]}_*.onnx")
    (tmp_path / "cut.onnx").write_bytes(next(files).read_bytes()[:-100_000])
    with pytest.raises(ValueError, match=r"cut\.onnx .*are they whole"):
        RapidOCRReader(**{part: str(tmp_path / "cut.onnx")}).prepare()


def test_the_networks_are_read_before_work_starts(reader):
    reader.prepare()
    assert reader._engine.text_det is not None and reader._engine.text_rec is not None


def test_a_recogniser_of_the_users_own(reader, tmp_path):
    """With the list of its characters in it, as the library's own has it."""
    import rapidocr

    (own,) = (Path(rapidocr.__file__).parent / "models").glob("*_rec_*.onnx")
    (tmp_path / "mine.onnx").symlink_to(own)
    picture = drawn("Hello").mul(255).to(torch.uint8).numpy()
    assert RapidOCRReader(recogniser=str(tmp_path / "mine.onnx")).read(picture) == ["Hello"]
