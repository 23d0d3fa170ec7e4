"""Prompt files as people write them, and the split that a run must find again."""

import json

import pytest
from PIL import Image

from mixgrpo_core.settings.prompt_files import LONGEST_LINE, read_prompt_file
from mixgrpo_core.settings.prompts import read_prompts
from mixgrpo_core.support.pictured import Pictured
from mixgrpo_core.support.seeds import derive_seed, derive_seeds

HELD_OUT_BEFORE = ("prompt 1", "prompt 7", "prompt 12", "prompt 39")


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "prompts"),
    [
        ("a.txt", "a cat\na dog\n", ["a cat", "a dog"]),
        ("a.txt", "a cat\r\na dog\r\n", ["a cat", "a dog"]),
        ("a.txt", "\n  a cat  \n\n\n# a comment\n   # another\na dog", ["a cat", "a dog"]),
        ("a.txt", b"\xef\xbb\xbfa cat\na dog", ["a cat", "a dog"]),
        ("a.txt", b"\xef\xbb\xbf# comment\na cat", ["a cat"]),
        ("a.txt", "ein Käfer, 猫\u2028auf dem Dach\n", ["ein Käfer, 猫\u2028auf dem Dach"]),
        ("a.TXT", "a cat\na dog\n", ["a cat", "a dog"]),
        ("a.txt", b"a cat\n\xef\xbb\xbfa dog\n", ["a cat", "a dog"]),
        ("a.txt", "a cat\nein Käfer".encode("utf-16"), ["a cat", "ein Käfer"]),
        ("a.txt", "a cat\nein Käfer".encode("utf-32"), ["a cat", "ein Käfer"]),
        ("a.txt", "[masterpiece] a cat\n{red|blue} car\n", ["[masterpiece] a cat", "{red|blue} car"]),
        ("a.txt", '{"prompt": "JSON, whatever its name"}\n', ["JSON, whatever its name"]),
        ("a.txt", '["a cat",\n "a dog"]', ["a cat", "a dog"]),
        ("anime.json", '[\n  "a cat",\n  "a dog"\n]', ["a cat", "a dog"]),
        ("a.JSON", '[{"id": 1, "Caption": "a cat"}, {"id": 2, "Caption": "a dog"}]', ["a cat", "a dog"]),
        ("a.json", '{"prompts": ["a cat", "a dog"]}', ["a cat", "a dog"]),
        ("a.json", '{"prompt": "a cat"}\n{"prompt": "a dog"}', ["a cat", "a dog"]),
        ("a.JSONL", '{"text": "a cat"}\n"a dog"\n', ["a cat", "a dog"]),
        ("a.ndjson", '\ufeff{"text": "a cat"}\n', ["a cat"]),
        ("a.csv", 'id,Prompt\n1,"a cat, black"\n\n2,"a ""dog"""\n', ["a cat, black", 'a "dog"']),
        ("a.CSV", '\ufeffPrompts;Category\n"a cat\nat night";x\na dog;y\n', ["a cat\nat night", "a dog"]),
        ("PartiPrompts.tsv", 'Prompt\tNote\n"Hello" on a sign\tx\na 3" nail\ty\n', ['"Hello" on a sign', 'a 3" nail']),
        ("a.csv", "text\na cat\na dog\n", ["a cat", "a dog"]),
        ("a.prompts", "a cat # not a comment\n", ["a cat # not a comment"]),
        ("a.jsonl", '{"prompt": "a cat", "id": 3}\r\n\r\n{"prompt": "a\\ndog"}\n', ["a cat", "a\ndog"]),
        ("a.jsonl", json.dumps({"prompt": "a\u2028cat"}, ensure_ascii=False), ["a\u2028cat"]),
        ("a.txt", "x" * LONGEST_LINE, ["x" * LONGEST_LINE]),
    ],
)
def test_a_file_is_read_as_it_is_meant(tmp_path, name, content, prompts):
    path = written(tmp_path, name, content)
    assert read_prompt_file(path) == prompts
    assert list(read_prompts(str(path), held_out=()).train) == prompts


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "", "holds no prompts: write one per line"),
        ("a.txt", "\n# only a comment\n  \n", "holds no prompts"),
        ("a.txt", "a cat\nein Käfer".encode("latin-1"), "is not UTF-8 .byte 11.: save it"),
        ("a.txt", "a cat".encode("utf-16-le"), "UTF-16 without its mark"),
        ("a.txt", b"\xff\xfea\x00c", "is not UTF-16"),
        ("a.txt", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer.*git lfs pull"),
        ("a.json", "<!DOCTYPE html><html></html>", "a web page"),
        ("a.png", b"\x89PNG", "expected prompts as .txt, .json"),
        ("a.parquet", b"PAR1", "expected prompts as .txt, .json"),
        ("a.yaml", "- a cat", "expected prompts as .txt, .json"),
        ("a.json", '{"a": ["a cat"]}', "is not a list of prompts"),
        ("a.json", '["a cat",', "is not whole JSON"),
        ("a.json", '[{"id": 1}]', "entry 1 of .* is not .*found the keys id"),
        ("a.json", '["a cat", " "]', "entry 2 of .*: expected a prompt with words"),
        ("a.csv", "id,name\n1,a cat\n", "expected a column prompt, caption or text in .*'id,name'"),
        ("a.csv", "a cat\na dog\n", "expected a column prompt, caption or text"),
        ("a.csv", "prompt,id\na cat, black,1\n", "row 2 of .* has 3 cells, expected 2"),
        ("a.csv", 'prompt,id\n"a cat,1\n', "not a whole table"),
        ("a.txt", "a cat\n" + "x" * 2**20, "line 2 of .* has 1048576 characters; .*: split it"),
        ("a.jsonl", "a cat\n", "line 1 of .* is not "),
        ("a.jsonl", '{"prompt": "a cat"}\n{"about": "a dog"}', "line 2 of .* is not .*found the keys about"),
        ("a.jsonl", "[1]", "entry 1 of .* is not "),
        ("a.jsonl", "[" * 9_999, "is not whole JSON"),
        ("a.jsonl", '{"a":' * 9_999, "line 1 of .* is not "),
        ("a.jsonl", '{"prompt": 5}', "expected the prompt to be a string, found int"),
        ("a.jsonl", '{"prompt": " "}', "entry 1 of .*: expected a prompt with words"),
    ],
)
def test_a_file_that_cannot_be_meant_is_one_sentence_with_its_place(tmp_path, name, content, words):
    path = written(tmp_path, name, content)
    with pytest.raises(ValueError, match=words) as error:
        read_prompt_file(path)
    assert name in str(error.value)
    assert len(str(error.value)) < 500


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"expected a prompt file at .*none\.txt, found nothing"):
        read_prompts(str(tmp_path / "none.txt"))
    with pytest.raises(ValueError, match="expected caption files .* in the folder .*, found none"):
        read_prompts(str(tmp_path))


def test_a_folder_of_pictures_has_their_captions(tmp_path):
    written(tmp_path, "b.png", b"")
    written(tmp_path, "b.txt", "\ufeffa cat\nat night\n")
    written(tmp_path, "a.JPG", b"")
    written(tmp_path, "a.caption", "a dog")
    written(tmp_path, "readme.txt", "no caption")
    assert read_prompt_file(tmp_path) == ["a dog", "a cat at night"]


def test_a_folder_of_captions_alone_has_one_a_file(tmp_path):
    written(tmp_path, "1.txt", "a cat\n")
    written(tmp_path, "2.TXT", "a dog")
    assert read_prompt_file(tmp_path) == ["a cat", "a dog"]
    written(tmp_path, "3.txt", "a cat\na dog\n")
    with pytest.raises(ValueError, match="3.txt has 2 lines and no picture beside it"):
        read_prompt_file(tmp_path)


def test_a_folder_with_one_file_for_all_captions_has_those(tmp_path):
    written(tmp_path, "a.png", b"")
    written(tmp_path, "metadata.jsonl", '{"file_name": "a.png", "text": "a cat"}')
    assert read_prompt_file(tmp_path) == ["a cat"]


def test_the_split_of_older_runs_is_found_again():
    split = read_prompts([f"prompt {i}" for i in range(40)], held_out_share=0.1)
    assert split.held_out == HELD_OUT_BEFORE


def test_duplicates_count_once_and_order_is_kept(tmp_path):
    path = written(tmp_path, "a.txt", "b\na\nb \n c\na\n")
    assert read_prompts(str(path), held_out=()).train == ("b", "a", "c")
    assert read_prompts(["b", " a", "b"], held_out=("c", "c ")).held_out == ("c",)


@pytest.mark.parametrize(
    ("prompts", "share", "held_out"),
    [(1, 0.1, 0), (1, 0.9, 0), (2, 0.1, 1), (5, 0.1, 1), (14, 0.1, 1), (100, 0.1, 10), (2, 0.99, 1), (50, 0.0, 0)],
)
def test_a_share_above_0_holds_out_at_least_one_and_leaves_at_least_one(prompts, share, held_out):
    split = read_prompts([f"prompt {i}" for i in range(prompts)], held_out_share=share)
    assert len(split.held_out) == held_out
    assert len(split.train) == prompts - held_out


def test_the_split_is_disjoint_whole_and_depends_on_the_prompts_alone():
    prompts = [f"prompt {i}" for i in range(40)]
    split = read_prompts(prompts, held_out_share=0.25)
    assert split == read_prompts(prompts, held_out_share=0.25)
    assert {*split.train} | {*split.held_out} == {*prompts}
    assert not {*split.train} & {*split.held_out}
    backwards = read_prompts(prompts[::-1], held_out_share=0.25)
    assert {*backwards.held_out} == {*split.held_out}
    fewer = read_prompts([*prompts[:-1]], held_out_share=0.25)
    assert len({*fewer.held_out} & {*split.held_out}) >= 9, "one prompt less does not draw all anew"


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(ValueError, match="held_out_share lies in 0..1"):
        read_prompts(["a", "b"], held_out_share=share)


def test_no_prompts_at_all_say_where_to_put_them():
    with pytest.raises(ValueError, match=r"set prompts\.train to a file or a list"):
        read_prompts([])


@pytest.mark.parametrize("keys", [("split",), ("split", 3), ("it's",)])
def test_seeds_of_many_are_those_of_one_by_one(keys):
    words = ["a cat", "", "it's", 'a "dog"', "猫\u2028", "'' \\"]
    assert derive_seeds(keys, words) == [derive_seed(*keys, word) for word in words]


def test_a_prompt_of_nothing_but_a_byte_order_mark_is_none(tmp_path):
    (tmp_path / "prompts.json").write_text('["a cat", "\\ufeff", "a dog"]')
    assert read_prompts(str(tmp_path / "prompts.json"), held_out_share=0).train == ("a cat", "a dog")


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t"), ("a.csv", ", ")])
def test_a_row_of_a_table_comes_with_its_picture_its_mask_and_its_size(tmp_path, name, mark):
    rows = [
        ("Prompt", "Image", "mask", "width", "height"),
        ("paint it", "in/cat.png", "in/mask.png", "64", "32"),
        ("paint it", "dog.png", "", "", ""),
        ("a bird", "", "", "", ""),
        ("a fish", "/far/fish.png"),
    ]
    (tmp_path / "of").mkdir()
    path = written(tmp_path / "of", name, "\n".join(mark.join(row) for row in rows))
    cat, dog, bird, fish = read_prompt_file(path)
    here = tmp_path / "of"
    assert cat == Pictured("paint it", str(here / "in/cat.png"), str(here / "in/mask.png"), (32, 64))
    assert dog == Pictured("paint it", str(here / "dog.png")) and cat != dog, "the same words, other pictures"
    assert type(bird) is str and bird == "a bird"
    assert (fish.picture, fish.mask, fish.size) == ("/far/fish.png", "", None), "a row may end early"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a cat,,m.png,,", "row 2 of .*expected the path of a picture as image, and perhaps one of a mask, found None"),
        ("a cat,a.png,,64,", "row 2 of .*width"),
        ("a cat,a.png,,many,32", "row 2 of .*'many'"),
        ("a cat,a.png,m.png,64,32,1", "row 2 of .* has 6 cells, expected 5"),
    ],
)
def test_a_row_that_does_not_fit_its_columns_says_which(tmp_path, row, message):
    path = written(tmp_path, "a.csv", f"prompt,image,mask,width,height\n{row}\n")
    with pytest.raises(ValueError, match=message):
        read_prompt_file(path)


def test_what_a_table_names_is_what_rewards_get(tmp_path):
    for name, size in (("cat.png", (6, 4)), ("mask.png", (6, 4))):
        Image.new("RGB", size, (255, 0, 0) if name == "cat.png" else (255, 255, 255)).save(tmp_path / name)
    path = written(tmp_path, "a.csv", "prompt,image,mask\npaint it,cat.png,mask.png\npaint it,cat.png,\n")
    prompts = read_prompts(str(path), held_out=())
    both, alone = (prompts.contexts[prompt] for prompt in prompts.train)
    assert both.reference.shape == (4, 6, 3) and both.reference[0, 0].tolist() == [1, 0, 0]
    assert both.mask.shape == (4, 6) and bool((both.mask == 1).all()) and alone.mask is None
