"""What the tests prove of each family of models, on a tiny random pipeline of it: the source of the table in README.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/families.py
    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/families.py wan ltx      # these alone; the others stay as they are

Runs the families' tests, those that are long by nature too, and writes ``families.json``: by the class of the pipeline,
what has passed. Then ``scripts/make_docs.py`` writes the table.
"""

# ruff: noqa: E402
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tiny_edits import EDITS
from tiny_more import COSTLY, MORE
from tiny_pipelines import OTHERS, PIPELINES
from tiny_unets import SD1, SDXL

TESTS = ROOT / "tests" / "core" / "models" / "families"
FILES = ("test_families.py", "test_more_families.py", "test_reference_pictures.py", "test_unets.py")
SAMPLING, GRADIENT, TRAINING, PICTURES = "sampling", "gradient", "training and LoRA file", "pictures"
PROVES: Mapping[str, tuple[str, ...]] = {
    "test_sampling_is_the_pipelines_own_step_for_step": (SAMPLING,),
    "test_sampling_with_guidance_is_the_pipelines_own": (SAMPLING,),
    "test_what_it_computes_is_proven": (GRADIENT,),
    "test_two_iterations_make_a_file_that_the_pipeline_loads_and_samples_with": (TRAINING,),
    "test_all_of_it": (SAMPLING, GRADIENT, TRAINING),
    "test_sampling_with_a_picture_is_the_pipelines_own": (SAMPLING, PICTURES),
    "test_guidance_with_a_picture_is_the_pipelines_own": (SAMPLING, PICTURES),
    "test_what_it_computes_with_a_picture_is_proven": (GRADIENT, PICTURES),
    "test_an_edit_reward_is_trained_and_the_file_is_loaded": (TRAINING, PICTURES),
}
"""What a test that has passed proves; where one fails, none of its."""


class Outcomes:
    """What pytest says of each test."""

    def __init__(self) -> None:
        self.passed: dict[str, bool] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and report.when == "setup":
            return
        self.passed[report.nodeid] = self.passed.get(report.nodeid, True) and not report.failed


def pipelines() -> dict[str, str]:
    """The class of a pipeline by the name that the tests give it."""
    made = {name: pipeline for name, (pipeline, _) in {**PIPELINES, **OTHERS, **MORE, **COSTLY}.items()}
    return {**made, **EDITS, SDXL: SDXL, SD1: SD1, "sd3": "StableDiffusion3Pipeline"}


def proven(outcomes: Mapping[str, bool]) -> dict[str, list[str]]:
    """What holds for every tiny pipeline of a class: all tests of it have passed."""
    known, found, lost = pipelines(), {}, {}
    for test, passed in outcomes.items():
        said = re.fullmatch(r".*::(\w+)\[(.*)\]", test)
        if said is None or said[1] not in PROVES:
            continue
        name = next((name for name in sorted(known, key=len, reverse=True) if name in said[2]), None)
        if name is None:
            continue
        for what in PROVES[said[1]]:
            (found if passed else lost).setdefault(known[name], {})[what] = None
    order = (SAMPLING, GRADIENT, TRAINING, PICTURES)
    return {
        name: [what for what in order if what in of and what not in lost.get(name, {})]
        for name, of in sorted(found.items())
    }


def main() -> None:
    outcomes, result = Outcomes(), ROOT / "benchmarks" / "families.json"
    tests = [str(TESTS / name) for name in FILES]
    some = ["-k", " or ".join(sys.argv[1:])] if sys.argv[1:] else []
    before = json.loads(result.read_text(encoding="utf-8")) if some else {}
    for more in ([], ["--long=families"]):
        pytest.main(["-q", "--show-capture=no", "-p", "no:cacheprovider", *more, *some, *tests], plugins=[outcomes])
    found = dict(sorted({**before, **proven(outcomes.passed)}.items()))
    result.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
