"""Standard prompt sets in exactly the formats that their authors publish, and images as their scorers look for them."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from mixgrpo_core.evaluation.by_category import by_category
from mixgrpo_core.evaluation.held_out import Evaluation
from mixgrpo_core.evaluation.prompt_sets import DPGBench, GenEval, HPDv2, T2ICompBench, set_at
from mixgrpo_core.rewards.port import Scores

GENEVAL = (  # as create_prompts.py of its repository writes them
    '{"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"}\n'
    '{"tag": "counting", "include": [{"class": "clock", "count": 2}], "exclude": [{"class": "clock", "count": 3}], '
    '"prompt": "a photo of two clocks"}\n'
    '{"tag": "position", "include": [{"class": "bear", "count": 1}, {"class": "skis", "count": 1, "position": '
    '["left of", 0]}], "prompt": "a photo of skis left of a bear"}\n'
)


def geneval(folder: Path) -> Path:
    folder.mkdir()
    (folder / "evaluation_metadata.jsonl").write_text(GENEVAL)
    return folder / "evaluation_metadata.jsonl"


def hpdv2(folder: Path) -> Path:
    folder.mkdir()
    for style, prompts in (("anime", ["a girl by the sea", "a robot"]), ("photo", ["a bench in the park"])):
        (folder / f"{style}.json").write_text(json.dumps(prompts))
    return folder


def compbench(folder: Path) -> Path:
    folder.mkdir()
    (folder / "color_val.txt").write_text("a green bench and a red car\na brown book and/or a red cap\n")
    (folder / "complex_val.txt").write_text("The red hat was on top of the brown coat rack.\tseen\n")
    (folder / "color_train.txt").write_text("a training prompt\n")
    return folder


def dpg(folder: Path) -> Path:
    folder.mkdir()
    for name, prompt in (("10", "A stack of books"), ("9", "Two dogs,\nplaying."), ("COCOval2014000000042", "A cat")):
        (folder / f"{name}.txt").write_text(prompt)
    return folder


@pytest.mark.parametrize(
    ("write", "kind", "expected"),
    [
        (
            geneval,
            GenEval,
            [
                ("single_object", "a photo of a bench"),
                ("counting", "a photo of two clocks"),
                ("position", "a photo of skis left of a bear"),
            ],
        ),
        (hpdv2, HPDv2, [("anime", "a girl by the sea"), ("anime", "a robot"), ("photo", "a bench in the park")]),
        (
            compbench,
            T2ICompBench,
            [
                ("color", "a green bench and a red car"),
                ("color", "a brown book and/or a red cap"),
                ("complex", "The red hat was on top of the brown coat rack."),
            ],
        ),
        (dpg, DPGBench, [("all", "Two dogs, playing."), ("all", "A stack of books"), ("all", "A cat")]),
    ],
)
def test_a_set_is_known_by_its_files_and_read_in_its_order(tmp_path, write, kind, expected):
    path = write(tmp_path / "set")
    found = set_at(path)
    assert type(found) is kind
    assert [(item.category, item.prompt) for item in found.read(path)] == expected
    if kind in (GenEval, HPDv2, T2ICompBench):  # and by one of its files, or the folder that holds it
        other = (
            path.parent if path.is_file() else next(file for file in sorted(path.iterdir()) if "train" not in file.name)
        )
        assert type(set_at(other)) is kind


def pictures(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (6, 4), (level, 0, 0)) for level in range(10, 10 + count)]


def written(kind, path, folder, count):
    found = set_at(path)
    assert type(found) is kind
    for item in found.read(path):
        found.write(folder, item, pictures(count))
    return sorted(
        file.relative_to(folder.parent).as_posix()
        for file in folder.parent.rglob("*.*")
        if path not in file.parents and file != path
    )


def test_geneval_finds_its_images_and_its_lines(tmp_path):
    path = geneval(tmp_path / "set")
    files = written(GenEval, path, tmp_path / "out" / "base", 2)
    assert files == [
        f"base/0000{place}/{file}"
        for place in range(3)
        for file in ("metadata.jsonl", "samples/0000.png", "samples/0001.png")
    ]
    again = "".join((tmp_path / "out" / "base" / f"0000{place}" / "metadata.jsonl").read_text() for place in range(3))
    assert again == GENEVAL, "its scorer reads in them what to look for"


def test_dpg_bench_cuts_the_sheet_into_the_images(tmp_path):
    files = written(DPGBench, dpg(tmp_path / "set"), tmp_path / "out" / "base", 4)
    assert files == ["base/10.png", "base/9.png", "base/COCOval2014000000042.png"]
    sheet = Image.open(tmp_path / "out" / "base" / "10.png")
    corners = [
        sheet.crop(box).getpixel((0, 0))[0] for box in ((0, 0, 6, 4), (6, 0, 12, 4), (0, 4, 6, 8), (6, 4, 12, 8))
    ]
    assert sheet.size == (12, 8) and corners == [10, 11, 12, 13]


def test_hpdv2_looks_at_one_image_a_prompt_and_others_are_a_model_of_their_own(tmp_path):
    files = written(HPDv2, hpdv2(tmp_path / "set"), tmp_path / "out" / "base", 2)
    assert files == [
        f"{model}/{file}"
        for model in ("base-1", "base")
        for file in ("anime/00000.jpg", "anime/00001.jpg", "photo/00000.jpg")
    ]


def test_compbench_finds_prompts_in_the_names_of_its_images(tmp_path):
    files = written(T2ICompBench, compbench(tmp_path / "set"), tmp_path / "out" / "base", 2)
    assert files == [
        "base/color/samples/a brown book and or a red cap_000002.png",
        "base/color/samples/a brown book and or a red cap_000003.png",
        "base/color/samples/a green bench and a red car_000000.png",
        "base/color/samples/a green bench and a red car_000001.png",
        "base/complex/samples/The red hat was on top of the brown coat rack._000000.png",
        "base/complex/samples/The red hat was on top of the brown coat rack._000001.png",
    ]


def test_what_a_set_needs_is_said_until_a_reward_gives_it():
    assert "object detector" in GenEval().needs(())[0] and "mPLUG" in DPGBench().needs(())[0]
    assert "HPS_v2.1" in HPDv2().needs(("CLIPScore",))[0] and HPDv2().needs(("HPSv2",)) == []
    assert ["CLIPScore" in words for words in T2ICompBench().needs(())] == [False, True]
    assert len(T2ICompBench().needs(("CLIPScore",))) == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("evaluation_metadata.jsonl", GENEVAL + "a photo\n", 'line 4 of .*"tag" and "prompt", found a photo'),
        ("evaluation_metadata.jsonl", '{"prompt": "a photo of a bench"}\n', 'line 1 of .*"tag"'),
        ("evaluation_metadata.jsonl", "", "holds no prompts"),
        ("anime.json", '{"prompts": []}', "expected a list of prompts in .*anime.json"),
        ("anime.json", "[", "anime.json is no JSON"),
        ("color_val.txt", "\n\n", "color_val.txt holds no prompts"),
        ("set/9.txt", " \n", "9.txt holds no prompt"),
        ("prompts.csv", "prompt\na bench\n", "expected a standard prompt set at .*Known are GenEval: "),
    ],
)
def test_what_is_no_set_is_one_sentence(tmp_path, name, text, message):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    path = file.parent if file.parent != tmp_path else file
    with pytest.raises(ValueError, match=message):
        set_at(path).read(path)


def test_scores_by_category_against_numbers_by_hand():
    def side(*prompts):
        return Evaluation(
            iteration=0, rewards={}, scores={"r": [Scores.of(torch.tensor(values)) for values in prompts]}
        )

    base, lora = side([1.0, 3.0], [0.0, 0.0], [5.0, float("nan")]), side([2.0, 2.0], [1.0, 1.0], [5.0, 1.0])
    rows = {row.category: row for row in by_category(["color", "shape", "color"], [base, lora])}
    assert list(rows) == ["color", "shape", "all"]
    assert rows["color"].means == (3.0, 2.5) and rows["shape"].means == (0.0, 1.0)
    assert rows["color"].wins == pytest.approx(1.5 / 3), "one won, one lost, one tied; a masked pair counts for none"
    assert rows["shape"].wins == 1.0 and rows["all"].wins == pytest.approx(3.5 / 5)
    assert (rows["all"].prompts, rows["all"].images) == (3, 6)
    (alone,) = by_category(["color"] * 3, [base])
    assert alone.wins is None and alone.category == "color", "of one category there is no second row of all"
