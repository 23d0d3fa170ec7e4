"""Strings in calls: Windows paths as people write them, and every string comes back as it was."""

from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mixgrpo_core.support.paths import user_path
from mixgrpo_core.support.spelling import parse, spell


@dataclass(frozen=True)
class Named:
    path: str = ""
    other: str = ""


PATHS = [
    r"C:\models\new",
    r"C:\Users\t5\x41.safetensors",
    r"d:\new folder\rewards\pick.pt",
    r"\\server\share\new\N.pt",
    r"models\new.pt",
    r"models\t5\u1.safetensors",
    r".\new",
    r"..\0\new",
    r"~\new",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_windows_path_is_read_as_it_stands_and_as_python_writes_it(path, quote):
    assert parse(f"Named({quote}{path}{quote}, other='a')", {"Named": Named}) == Named(path, "a")
    assert parse(f"Named(other='b', path={quote}{path}{quote})", {"Named": Named}) == Named(path, "b")
    doubled = path.replace("\\", "\\\\")
    assert parse(f"Named({quote}{doubled}{quote})", {"Named": Named}) == Named(path)
    assert parse(f"Named(r{quote}{path}{quote})", {"Named": Named}) == Named(path)
    assert parse(spell(Named(path)), {"Named": Named}) == Named(path)


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        (r"'first\nsecond'", "first\nsecond"),
        (r"'How good is this?\n{prompt}\tNow.'", "How good is this?\n{prompt}\tNow."),
        (r"'it\'s'", "it's"),
        (r"'\u732b'", "猫"),
        ("'C:/models/new'", "C:/models/new"),
    ],
)
def test_other_strings_are_pythons(literal, value):
    assert parse(f"Named({literal})", {"Named": Named}) == Named(value)


PIECES = st.sampled_from(
    ["\\", "\\\\", "\n", "\t", "'", '"', ":", "C:", "a", "n", "~", ".", "..", ".pt", " ", "猫", "\0"]
)


@given(st.text() | st.lists(PIECES, max_size=8).map("".join))
@example("a:\nfoo")
@example("models\new.pt")
@example("~\n")
@example("\\server\nx")
@example("C:\\a'b\"c")
def test_every_string_comes_back(value):
    made = Named(path=value, other=value)
    assert parse(spell(made), {"Named": Named}) == made
    assert parse(spell((value,)), {}) == (value,)


def test_a_path_that_ends_in_a_backslash_is_told_how_to_write_it():
    with pytest.raises(ValueError, match="in a path write / for each backslash"):
        parse("Named('C:\\models\\')", {"Named": Named})


def test_a_path_that_lost_its_backslashes_elsewhere_is_told():
    with pytest.raises(ValueError, match=r"holds '\\n': write / for each backslash"):
        user_path("C:\new")
