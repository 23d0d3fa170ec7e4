"""Prompt files as people write them, and the split that a run must find again."""

import json

import pytest

from mixgrpo_core.settings.prompts import LONGEST_LINE, read_prompt_file, read_prompts


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
        ("a.txt", '{"prompt": "not JSON here"}\n', ['{"prompt": "not JSON here"}']),
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
        ("a.txt", "a cat".encode("utf-16"), "is not UTF-8"),
        ("a.txt", "a cat\n" + "x" * 2**20, "line 2 of .* has 1048576 characters; .*: split it"),
        ("a.jsonl", "a cat\n", "line 1 of .* is not "),
        ("a.jsonl", '{"prompt": "a cat"}\n{"text": "a dog"}', "line 2 of .* is not "),
        ("a.jsonl", "[1]", "line 1 of .* is not "),
        ("a.jsonl", "[" * 9_999, "line 1 of .* is not "),
        ("a.jsonl", '{"prompt": 5}', "expected the prompt to be a string, found int"),
        ("a.jsonl", '{"prompt": " "}', "line 1 of .*: expected a prompt with words"),
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
    with pytest.raises(ValueError, match=rf"cannot read the prompt file {tmp_path} \(Is a directory\)"):
        read_prompts(str(tmp_path))


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
