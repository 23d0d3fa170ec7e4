"""The plugin that says what tests cost, on tests whose cost is known."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from cost import Meter, Spent

TESTS = Path(__file__).resolve().parents[1]
KNOWN = """
import subprocess, sys, time
import pytest

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

@pytest.fixture(scope="module")
def shared():
    burn(0.6)

@pytest.fixture
def own():
    burn(0.4)

ANSWER = '''
import time
for line in open(0):
    end = time.process_time() + 0.4
    while time.process_time() < end:
        pass
    print(flush=True)
'''

@pytest.fixture(scope="session")
def server():
    with subprocess.Popen([sys.executable, "-c", ANSWER], stdin=-1, stdout=-1, text=True) as process:
        yield process
        process.stdin.close()

def test_cheap(shared):
    pass

def test_cheap_too(shared):
    pass

def test_with_a_fixture_of_its_own(own):
    burn(0.2)

def test_that_waits_for_a_process():
    subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < .6: pass"], check=True)

def test_that_asks_a_process(server):
    for _ in "ab":
        server.stdin.write("x\\n")
        server.stdin.flush()
        server.stdout.readline()

@pytest.mark.long("night")
def test_long():
    pass
"""


def run(folder, *words):
    file = folder / "test_known.py"
    file.write_text(KNOWN)
    command = [sys.executable, "-m", "pytest", "-p", "cost", "-p", "no:cacheprovider", "-q", *words, file.name]
    return subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(TESTS)}, capture_output=True, text=True)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The run under a bar that some of the tests do not clear."""
    return run(tmp_path_factory.mktemp("known"), "--cpu-bar=0.55")


def test_every_test_bears_what_it_spends_and_its_share_of_what_is_shared(told):
    found = dict(reversed(words) for words in re.findall(r"^ +([\d.]+) test_known.py::(\w+)$", told.stdout, re.M))
    expected = {
        "test_cheap": 0.3,
        "test_cheap_too": 0.3,
        "test_with_a_fixture_of_its_own": 0.6,
        "test_that_waits_for_a_process": 0.6,
        "test_that_asks_a_process": 0.8,
    }
    assert found.keys() == expected.keys(), told.stdout
    assert {name: float(seconds) for name, seconds in found.items()} == pytest.approx(expected, abs=0.15)


def test_those_over_the_bar_are_named_and_the_run_fails(told):
    assert told.returncode == 1 and "5 passed, 1 deselected" in told.stdout
    named = re.findall(
        r"^FAILED test_known.py::(\w+) costs 0\.\d CPU seconds; no test may cost more", told.stdout, re.M
    )
    own = ["test_that_asks_a_process", "test_that_waits_for_a_process", "test_with_a_fixture_of_its_own"]
    assert sorted(named) == own


def test_long_tests_run_when_their_part_is_asked_for_and_no_other_runs_then(tmp_path):
    night = run(tmp_path, "--long=night")
    assert night.returncode == 0 and "1 passed, 5 deselected" in night.stdout
    assert run(tmp_path, "--long=nght").returncode == pytest.ExitCode.NO_TESTS_COLLECTED


def test_what_is_spent_is_charged_to_the_innermost_account():
    times = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])
    meter = Meter(clock=lambda: next(times))
    with meter.charging("outer"):
        with meter.charging("inner"):
            pass
        meter.settle()
    assert meter.accounts == {"outer": 2.0 + 4.0 + 5.0, "inner": 3.0}


@pytest.mark.parametrize("waited, seconds", [(21.0, 2.5), (0.0, 1.5)], ids=["waited for", "left to nobody"])
def test_a_process_that_ends_between_two_looks_takes_nothing_back(waited, seconds):
    """A page of a browser had spent 20 seconds before, and one more until it was closed."""
    looks = [
        {"us": (1.0, 0.0), "browser": (1.0, 0.0), "page": (20.0, 0.0)},
        {"us": (2.0, 0.0), "browser": (1.5, waited)},
    ]

    class Told(Spent):
        def _ask(self):
            return looks.pop(0)

    assert Told()() == seconds
