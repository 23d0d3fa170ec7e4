"""Pages of benchmarks that take too long for a test are in the words of the scripts that write them."""

import importlib
import json
import re
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_the_page_of_the_start_up_has_the_scripts_words_and_rows(script):
    startup = script("startup")
    found = startup.PAGE.read_text(encoding="utf-8")
    rounds = int(re.search(r"medians of (\d+) rounds", found)[1])
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines() if line[:2] == "| "]
    rows = {name: cells for name, *cells in table[1:]}
    trees = [name.removesuffix(", s") for name in table[0][1:]]
    assert startup.page(rounds, rows, trees) == found and tuple(rows) == startup.ROWS


def test_a_row_of_steps_that_set_themselves_names_the_seeds_that_ran(script, tmp_path, monkeypatch):
    own_step = script("own_step")
    monkeypatch.setattr(own_step, "RESULTS", tmp_path)
    case = own_step.CASES[0]
    for seed, shape in ((11, 0.7), (13, 0.8)):
        path = own_step._path(case, seed)
        path.parent.mkdir(exist_ok=True)
        points = [{"iteration": at, "shape": shape, "adherence": 0.9, "clean": 1.0} for at in (0, 8)]
        path.write_text(json.dumps({"evaluations": points, "moves": [{"move": 0.04}, {"move": 0.05}]}))
    table = own_step.table([11, 12, 13])
    assert (
        f"| {case.name} | 11, 13 (not run: 12) | 0.700, 0.800 | 0.700, 0.800 |  |  | 0.90, 0.90 | 1.00 | 5% |" in table
    )
    assert f"| {own_step.CASES[1].name} | not run |" in table
    head = [line for line in table.splitlines() if not line.startswith("|")]
    page = own_step.TABLE.read_text(encoding="utf-8").splitlines()
    assert [line for line in page if not line.startswith("|")] == head, "the page has the script's words"
    assert [line.split("|")[1].strip() for line in page if line[:2] == "| "] == [
        "step",
        *(c.name for c in own_step.CASES),
    ]
