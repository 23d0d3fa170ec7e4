"""Names of files against attacks: nothing but plain words may pass."""

import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mixgrpo_pack.nodes.names import LONGEST_NAME, check_name, is_name, require_place

ATTACKS = [
    "",
    " ",
    ".",
    "..",
    "../x",
    "..\\x",
    "a/../../x",
    "a/",
    "/a",
    "a//b",
    "a/./b",
    "a/.b",
    "a/..",
    "a /b",
    "a/ b",
    "a./b",
    "a/nul",
    "Con.x/b",
    "a/-b",
    "a/~/b",
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
    "a\u0301\u034f",
    "\u0301a",
    "a\u200db",
    "a\u2024b",
    "a\ufe0f",
    "\u3164",
    "\U0001d400",
    "COM\u00b9",
    "x\u00b2",
    "\ud800",
    "\U0001f600",
    "\u6f22" * 70,
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
    "Ada\u2019s",
    "'a'",
    "a/'b",
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


@pytest.mark.parametrize(
    "name",
    ["my-lora", "a", "My LoRA 2", "v1.2_final", "0", "console", "communal.x", "nullable"]
    + ["Künstler", "portraits/anna", "a/b/c", "漢字", "ภาพน้ำ", "हिन्दी", "Ёлка 2", "한국어/조선", "Straße"]
    + ["Ada's", "l'été/d'Anna"],
)
def test_plain_names_pass(name):
    assert check_name(name, "run_name") == name and is_name(name)


def test_letters_with_accents_are_one_name_however_they_are_typed():
    apart = unicodedata.normalize("NFD", "Künstler/été")
    assert check_name(apart, "run_name") == "Künstler/été" != apart
    assert not is_name(apart)


@given(st.text(max_size=12) | st.from_regex(r"[./\\:a-zA-Zé\u0301\u212a ]{0,8}", fullmatch=True))
@example("a/b")
@example("K\u0308/\u212a")
def test_whatever_passes_lies_in_the_folder_and_is_written_in_one_way(name):
    try:
        name = check_name(name, "x")
    except ValueError:
        return
    base, parts = Path("/output/mixgrpo").resolve(), tuple(name.split("/"))
    assert (base / name).resolve() == base.joinpath(*parts) != base
    assert PurePosixPath(name).parts == parts
    windows = PureWindowsPath(name)
    assert windows.parts == parts and not windows.drive and not windows.is_reserved()
    assert name.isprintable() and unicodedata.normalize("NFC", name) == name
    assert all(part == part.strip(". ") and len(part.encode()) <= 200 for part in parts)
    assert check_name(name, "x") == name


@pytest.mark.parametrize(
    ("there", "name", "words"),
    [
        ("Anna/", "anna", "one name on Windows"),
        ("portraits/Anna/", "portraits/anna", "one name on Windows"),
        ("Portraits/", "portraits/anna", "one name on Windows"),
        (unicodedata.normalize("NFD", "Käthe") + "/", "Käthe", "one name on Windows"),
        ("portraits", "portraits/anna", "is a file"),
    ],
)
def test_what_is_there_under_another_spelling_is_not_made_again(tmp_path, there, name, words):
    place = tmp_path / there
    place.parent.mkdir(parents=True, exist_ok=True)
    place.mkdir() if there.endswith("/") else place.touch()
    with pytest.raises(ValueError, match=f"^run_name: .*{words}"):
        require_place(tmp_path, name, "run_name")


def test_a_name_that_is_there_as_it_is_passes_and_a_link_out_does_not(tmp_path):
    root = tmp_path / "runs"
    for name in ("anna", "Anna"):  # made where they are two
        (root / name).mkdir(parents=True, exist_ok=True)
    require_place(root, "anna", "run_name")
    require_place(root, "new/er", "run_name")
    (root / "out").symlink_to(tmp_path)
    for name in ("out", "out/x"):
        with pytest.raises(ValueError, match="is a link"):
            require_place(root, name, "run_name")


def test_the_message_says_what_to_mend():
    for name, words in (
        ("a\\b", "write '/'"),
        ("a//b", "no name before or behind"),
        ("a/-b", "must begin"),
        ("nul", "device on Windows"),
        ("x.", "ends with"),
        ("-a", "begin with"),
        ("Ada\u2019s", 'write "\'"'),
    ):
        with pytest.raises(ValueError, match=words):
            check_name(name, "name")
