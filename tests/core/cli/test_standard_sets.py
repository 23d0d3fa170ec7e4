"""``mixgrpo eval`` on the demo model: base and LoRA on a standard set, as one types it."""

import json

import pytest
import torch
from PIL import Image

from mixgrpo_core.cli import main
from mixgrpo_core.models import load_demo
from mixgrpo_core.models.lora_file import save_lora

PROMPTS = ("a small red circle on the left", "a large blue cross in the middle", "a small green square at the top")


@pytest.fixture
def metadata(tmp_path):
    file = tmp_path / "evaluation_metadata.jsonl"
    tags = ("single_object", "single_object", "position")
    said = [{"tag": tag, "include": [], "prompt": prompt} for tag, prompt in zip(tags, PROMPTS, strict=True)]
    file.write_text("".join(json.dumps(line) + "\n" for line in said))
    return file


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    """One that does something: its second matrices are not 0."""
    model = load_demo(rank=2)
    generator = torch.Generator().manual_seed(0)
    state = {name: 0.3 * torch.randn(value.shape, generator=generator) for name, value in model.lora_state().items()}
    return save_lora(tmp_path_factory.mktemp("lora") / "wild.safetensors", state)


def test_base_and_lora_on_a_set(metadata, lora, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--rewards", "shape", "ShapeReward()", "--most", "1", "--images", "2", "--steps", "4"]
    assert main(["eval", str(metadata), "--lora", str(lora), *words, "--out", str(out)]) == 0
    found = json.loads((out / "scores.json").read_text())
    assert (found["set"], found["models"]) == ("GenEval", ["base model", "wild"])
    assert [(row["category"], row["prompts"], row["images"]) for row in found["rows"]] == [
        ("single_object", 1, 2),
        ("position", 1, 2),
        ("all", 2, 4),
    ]
    assert all(0 <= row["wins"] <= 1 and row["mean"][0] != row["mean"][1] for row in found["rows"])
    for side in ("base", "lora"):  # the third line of the set keeps its number, which is that of its folder
        assert sorted(folder.name for folder in (out / side).iterdir()) == ["00000", "00002"]
        assert len(list((out / side / "00002" / "samples").iterdir())) == 2
    pairs = [Image.open(out / side / "00000" / "samples" / "0000.png").tobytes() for side in ("base", "lora")]
    assert pairs[0] != pairs[1], "the LoRA was on"
    assert (out / "grid-single_object.png").is_file() and (out / "grid-position.png").is_file()
    shown = capsys.readouterr().out
    assert "LoRA wins" in shown and "needs its object detector" in shown


def test_images_alone_need_no_reward(metadata, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["eval", str(metadata), "--most", "1", "--images", "1", "--steps", "4", "--out", str(out)]) == 0
    found = json.loads((out / "scores.json").read_text())
    assert found["rows"] == [] and found["models"] == ["base model"] and not (out / "lora").exists()
    assert "object detector" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--most", "-1"], "--most is the number of prompts"),
        (["--images", "0"], "--images must be at least 1"),
        (["--lora", "none.safetensors"], "none.safetensors"),
        (["--rewards", "a", "Nothing()"], "Nothing"),
    ],
)
def test_mistakes_are_one_sentence_before_any_work(metadata, tmp_path, capsys, words, message):
    assert main(["eval", str(metadata), *words, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "out").exists()
