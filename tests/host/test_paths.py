"""Names of files against attacks: nothing but plain words may pass."""

from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mixgrpo_pack.nodes.training.paths import LONGEST_NAME, check_name

ATTACKS = [
    "",
    " ",
    ".",
    "..",
    "../x",
    "..\\x",
    "a/../../x",
    "a/b",
    "a\\b",
    "/etc/passwd",
    "C:\\x",
    "C:x",
    "x:stream",
    "\\\\server\\share",
    "//server/share",
    "~",
    "~/x",
    "$HOME",
    "%TEMP%",
    "a\0b",
    "a\nb",
    "a\n",
    "\na",
    "a\r",
    "a\u202eb",
    "a\u2215b",
    "\uff0e\uff0e\uff0fx",
    "\uff21",
    "é",
    "-rf",
    ".hidden",
    "_x",
    " x",
    "x ",
    "x.",
    "x. .",
    "a..b",
    "CON",
    "con",
    "nul.txt",
    "Aux.safetensors.x",
    "COM1",
    "lpt9.log",
    "con .x",
    "CLOCK",
    "a*",
    "a?",
    "a|b",
    "a<b",
    'a"b',
    "a;b",
    "a&b",
    "`id`",
    "a" * (LONGEST_NAME + 1),
    None,
    3,
    ["a"],
    b"a",
]


@pytest.mark.parametrize("name", ATTACKS, ids=repr)
def test_attacks_are_refused(name):
    with pytest.raises(ValueError, match="^run_name becomes the name of a file"):
        check_name(name, "run_name")


@pytest.mark.parametrize("name", ["my-lora", "a", "My LoRA 2", "v1.2_final", "0", "console", "communal.x", "nullable"])
def test_plain_names_pass(name):
    assert check_name(name, "run_name") == name


@given(st.text(max_size=12) | st.from_regex(r"[./\\:a-zA-Z ]{0,8}", fullmatch=True))
@example("a/b")
def test_whatever_passes_is_one_plain_part_of_a_path(name):
    try:
        check_name(name, "x")
    except ValueError:
        return
    base = Path("/output/mixgrpo").resolve()
    assert (base / name).resolve().parent == base
    assert PurePosixPath(name).parts == (name,)
    windows = PureWindowsPath(name)
    assert windows.parts == (name,) and not windows.drive
    assert name.isascii() and name.isprintable()


def test_the_message_says_what_to_mend():
    for name, words in (
        ("a/b", "has '/' in it"),
        ("nul", "device on Windows"),
        ("x.", "ends with"),
        ("-a", "begin with"),
    ):
        with pytest.raises(ValueError, match=words):
            check_name(name, "name")
