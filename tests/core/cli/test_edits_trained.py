"""``mixgrpo train`` with reference pictures and masks out of a .jsonl file, on a family that edits."""

import json
import re
from pathlib import Path

import pytest
import tiny_pipelines
from PIL import Image

from mixgrpo_core.cli import main
from mixgrpo_core.runs.folder import RunFolder

RUN = """
out = "{out}"
[model]
folder = "{folder}"
rank = 2
dtype = "float32"
height = 32
width = 32
device = "cpu"
[prompts]
train = "{prompts}"
held_out_share = 0.3
[rewards]
kept = "EditPreservation(PSNR())"
[train]
iterations = 1
steps = 4
images_per_prompt = 2
prompts_per_iteration = 1
updates = 1
planner = "WindowPlanner(window=FrozenWindow(size=1, start=1))"
eval_images = 1
"""


@pytest.fixture(scope="module")
def kontext(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.make_folder("flux-kontext", tmp_path_factory.mktemp("models") / "kontext")


def written(folder: Path, place: Path, *rows: object) -> list[str]:
    """A run on ``rows``; pictures of three colours lie beside it."""
    (place / "pictures").mkdir()
    for colour in ("red", "green", "blue"):
        Image.new("RGB", (32, 32), colour).save(place / "pictures" / f"{colour}.png")
    Image.new("L", (32, 32), 0).save(place / "pictures" / "mask.png")
    (place / "edits.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = RUN.format(out=place / "run", folder=folder, prompts=place / "edits.jsonl")
    (place / "run.toml").write_text(text)
    return ["train", str(place / "run.toml")]


def test_one_instruction_for_many_pictures_is_trained_and_goes_on(kontext: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "paint it", "image": f"pictures/{colour}.png"} for colour in ("red", "green")]
    rows[0]["mask"] = "pictures/mask.png"
    assert main(written(kontext, tmp_path, *rows)) == 0
    run = RunFolder.open(tmp_path / "run")
    kept = run.config["setup"]["prompts"]
    assert (len(kept["train"]), len(kept["held_out"])) == (1, 1)
    assert len(list(run.texts.iterdir())) == 1, "the words are encoded once for all pictures"
    assert main(["resume", str(run.path), "--iterations", "2"]) == 0
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["update"]["ratio_first"] < 1e-4 for line in lines] == [True, True]
    assert all(line["rewards"]["kept"]["mean"] > 0 for line in lines)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"prompt": "a", "image": "pictures/none.png"}, r"expected the picture of 'a' at .*none.png, found nothing"),
        ({"prompt": "a", "image": "run.toml"}, r"the picture of 'a' at .*run.toml is none"),
        ({"prompt": "a", "image": 3}, r"entry 1 of .*expected the path of a picture as image.*found 3 and None"),
        ({"prompt": "a", "mask": "pictures/mask.png"}, r"expected the path of a picture as image.*found None and"),
        ({"prompt": "a"}, r"reward 'kept' compares images with a reference picture, and the prompt 'a' has none"),
    ],
)
def test_a_picture_that_is_missing_or_none_is_one_sentence_and_no_run(
    kontext: Path, tmp_path: Path, capsys, row: object, sentence: str
) -> None:
    assert main(written(kontext, tmp_path, row)) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert re.search(sentence, told), told
    assert not (tmp_path / "run").exists()
