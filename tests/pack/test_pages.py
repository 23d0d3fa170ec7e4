"""The pages of the site do what they say: each is run in an empty folder, as a newcomer would."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest
from site_pages import DOCS, blocks, pages, parts, run

from mixgrpo_core.cli import main
from mixgrpo_core.models.families import table
from mixgrpo_core.settings import kinds

SMALLER = {
    "first-lora.md": {
        "iterations = 35": "iterations = 2",
        "steps = 10": "steps = 5",
        "prompts_per_iteration = 8": "prompts_per_iteration = 1",
        "images_per_prompt = 12": "images_per_prompt = 8",
        "updates = 8": "updates = 4",
        "eval_every = 7\neval_steps = 25": "eval_every = 0",
        "--out images": "--out images --steps 5",
    },
    "prompt-sets.md": {"--out evaluation": "--out evaluation --steps 4 --images 1"},
    "stages.md": {
        "iterations=3, prompts_per_iteration=4": "iterations=1, prompts_per_iteration=1, eval_every=0, steps=5",
    },
    "own-reward.md": {
        "iterations = 2": "iterations = 1",
        "prompts_per_iteration = 2": "prompts_per_iteration = 1",
        "images_per_prompt = 6": "images_per_prompt = 4",
        "steps = 8": "steps = 5",
    },
}
"""Numbers that are made smaller: the page trains for minutes."""
IN_COMFYUI = {"node.md"}
"""Pages that ``tests/host`` runs."""


def shown(page):
    return str(page.relative_to(DOCS))


@pytest.fixture(scope="module")
def libraries():
    """What all pages stand on, imported at the expense of all of them."""
    for name in ("mixgrpo_core.models.families.demo", "mixgrpo_core.cli.training", "mixgrpo_core.views.figures"):
        importlib.import_module(name)


@pytest.fixture
def in_folder(monkeypatch, libraries):
    """Makes an empty folder the working one, from which modules are imported; what a page registers does not stay."""
    monkeypatch.setattr(kinds, "_GUESTS", {})
    monkeypatch.setattr(table, "FAMILIES", table.FAMILIES)
    before = {*sys.modules}

    def enter(folder):
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(folder)

    yield enter
    for name in {*sys.modules} - before:
        if str(Path.cwd()) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of the page on which a run is killed."""
    return tmp_path_factory.mktemp("killed")


RUN = [page for page in pages() if page.name not in IN_COMFYUI and blocks(page)]
KILLS = [page for page in RUN if parts(page)[1]]


@pytest.mark.parametrize("page", [page for page in RUN if page not in KILLS], ids=shown)
def test_a_page_runs_as_it_stands(page, tmp_path, in_folder):
    in_folder(tmp_path)
    run(blocks(page), SMALLER.get(page.name, {}), main)


@pytest.mark.parametrize("part", ["to the kill", "after it"])
def test_a_run_that_is_killed_resumes(part, killed, in_folder):
    [page] = KILLS
    first, rest = parts(page)
    in_folder(killed)
    if not list(killed.glob("runs/*")):
        run(first, SMALLER[page.name], main)
    if part == "after it":
        run(rest, SMALLER[page.name], main)
        lines = Path("runs/first/metrics.jsonl").read_text("utf-8").splitlines()
        assert [json.loads(line)["iteration"] for line in lines] == [0, 1]
        assert Path("runs/first/lora/last.safetensors").stat().st_size > 10_000


def test_every_number_that_is_made_smaller_is_on_its_page():
    told = {page.name: page.read_text("utf-8") for page in pages()}
    assert [word for name, numbers in SMALLER.items() for word in numbers if word not in told[name]] == []


def test_every_kind_has_its_page_and_each_page_a_whole_class():
    found = {page.stem: blocks(page) for page in (DOCS / "add").glob("*.md")}
    assert {*found} == {"objective", "credit", "reward", "window", "planner", "family", "node"}
    assert [name for name, own in found.items() if not own or own[0].file is None] == []


def test_every_block_is_code_that_is_run_or_a_drawing():
    languages = {block.language for page in pages() for block in blocks(page)}
    assert languages <= {"python", "sh", "toml", ""}
    assert [shown(page) for page in pages() for b in blocks(page) if b.language == "toml" and not b.file] == [
        "methods.md"
    ]


def slugs(text):
    """The anchors of a page's headings, as MkDocs makes them."""
    from markdown.extensions.toc import slugify

    return {slugify(head, "-") for head in re.findall(r"^#+ (.*)$", text, re.M)}


def test_every_link_of_every_page_leads_somewhere():
    broken = []
    for page in pages():
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            if link.startswith(("http://", "https://")):
                continue
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            outside = DOCS not in target.parents
            if outside or not target.is_file() or (anchor and anchor not in slugs(target.read_text("utf-8"))):
                broken.append(f"{shown(page)}: {link}")
    assert broken == []


def test_the_menu_names_every_page():
    menu = (DOCS.parent / "mkdocs.yml").read_text("utf-8")
    named = re.findall(r": ([\w/-]+\.md)$", menu, re.M)
    assert sorted(named) == sorted(shown(page) for page in pages())
