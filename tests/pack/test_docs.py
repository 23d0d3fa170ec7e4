"""The tables of README, of the site and of the help pages are as the code is."""

import re

import make_docs
import pytest
from make_docs import TABLES, pages, rewritten

from mixgrpo_core.settings.elsewhere import ELSEWHERE
from mixgrpo_core.settings.kinds import REWARDS, SETTINGS
from mixgrpo_core.settings.presets import METHODS


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_the_tables_are_up_to_date(page):
    text = page.read_text(encoding="utf-8")
    assert rewritten(text) == text, "run scripts/make_docs.py"


def test_every_table_is_somewhere_and_every_marker_is_closed():
    texts = "".join(page.read_text(encoding="utf-8") for page in pages())
    assert {*re.findall(r"<!-- table: ([\w ]+) -->", texts)} == {*TABLES}
    assert texts.count("<!-- table: ") == texts.count("<!-- end -->")


def test_a_table_that_has_fallen_behind_is_seen():
    stale = "a\n<!-- table: kernels -->\n| old |\n<!-- end -->\nb\n<!-- table: guards -->\n<!-- end -->\n"
    fresh = rewritten(stale)
    assert fresh.startswith("a\n<!-- table: kernels -->\n| class |") and "`FlowSDE(eta)`" in fresh
    assert "old" not in fresh and "`PixelDrift(" in fresh and rewritten(fresh) == fresh
    with pytest.raises(KeyError):
        rewritten("<!-- table: nothing -->\n<!-- end -->")


def test_every_class_is_in_a_table():
    told = "".join(make() for make in TABLES.values())
    ports = [
        port
        for port in SETTINGS.ports
        if port.__name__ not in ("Embedding", "RatioObjective", "Placement", "PictureSource")
    ]
    named = [cls.__name__ for port in ports for cls in SETTINGS.of(port)]
    rewards = [cls.__name__ for cls in REWARDS.of(make_docs.Reward)]
    assert [name for name in (*named, *rewards) if f"`{name}(" not in told] == []


def test_the_page_of_methods_lists_every_method_and_every_work_without_a_preset():
    page = (make_docs.ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    rows = re.sub(r"\n## What each learns\n.*?(?=\n## )", "", page, flags=re.S).splitlines()  # it has ten of them
    first = [row.split("|")[1].strip() for row in rows if row.startswith("| ")]
    assert [of.label for of in METHODS.values() if first.count(of.label) != 2] == [], "costs, and what differs"
    assert [work.name for work in ELSEWHERE if first.count(work.name) != 1] == []


def test_no_cell_ends_its_row_early():
    for make in TABLES.values():
        for part in re.findall(r"(?:^\|.*\n)+", make(), re.M):
            assert len({len(re.split(r"(?<!\\)\|", line)) for line in part.splitlines()}) == 1
