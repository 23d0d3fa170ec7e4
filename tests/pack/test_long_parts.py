"""Every part of ``make test-long`` has tests, and every long test is in a part."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_makefile_names_the_parts_that_tests_are_marked_with():
    listed = re.findall(r"^LONG_(CORE|HOST) *:= (.*)$", (ROOT / "Makefile").read_text(), re.M)
    marked = {"CORE": set(), "HOST": set()}
    for place, parts in (("core", marked["CORE"]), ("host", marked["HOST"]), ("web", marked["HOST"])):
        for file in (ROOT / "tests" / place).rglob("test_*.py"):
            parts.update(re.findall(r'pytest\.mark\.long\("([\w-]+)"\)', file.read_text()))
    assert {place: set(parts.split()) for place, parts in listed} == marked
