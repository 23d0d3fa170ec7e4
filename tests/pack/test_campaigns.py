"""The machinery of ``make test-long``: what it must see is seen, and a little of each campaign passes."""

import importlib.util
import json
import os
import random
from pathlib import Path

import pytest
from campaigns import mutations
from campaigns.fuzz import SHARES, fuzz
from campaigns.kills import SERVER
from campaigns.options import DEFAULTS
from campaigns.progress import Progress
from campaigns.soak import figures, slope
from campaigns.workers import ACCEPTED, FAULT, SENTENCE, Worker

from mixgrpo_core.models.lora_file import LoraFileError, load_lora

ROOT = Path(__file__).resolve().parents[2]


class Silent:
    def __call__(self, words):
        self.last = words

    now_and_then = __call__


class Misbehaving:
    """A target whose cases do what they must not."""

    told = (ValueError, OSError)

    def write(self, folder, chance):
        (folder / "input").write_text("x")

    def take(self, folder):
        (folder / "own.txt").write_text("may be")
        case = int(folder.name)
        return [self.fine, self.sentence, self.bare, self.key, self.elsewhere, self.starts, self.greedy, self.dies][
            case
        ](folder)

    def fine(self, folder):
        return "taken"

    def sentence(self, folder):
        load_lora(folder / "nothing.safetensors")

    def bare(self, folder):
        float("not a number")

    def key(self, folder):
        return {}["missing"]

    def elsewhere(self, folder):
        Path("here.txt").write_text("in the working folder")

    def starts(self, folder):
        os.system("true")

    def greedy(self, folder):
        return len(b"x" * (300 << 20))

    def dies(self, folder):
        os._exit(3)


def test_what_a_case_must_not_do_is_seen(tmp_path):
    worker = Worker(Misbehaving(), tmp_path)
    found = [worker.run(case) for case in range(8)]
    again = worker.run(0)
    worker.stop()
    assert [one.outcome for one in found] == [ACCEPTED, SENTENCE, *[FAULT] * 6] and again.outcome == ACCEPTED
    for one, words in zip(
        found,
        ("taken", "expected a LoRA file", "nobody of ours", "KeyError", "touched", "os.system", "MiB", "process: 3"),
        strict=True,
    ):
        assert words in one.words


def test_a_campaign_goes_on_behind_its_last_case_and_begins_anew_with_other_code(tmp_path):
    first = Progress("x", 3, tmp_path, code="a")
    for case in range(2):
        first.add(case=case, seconds=1.0, outcome="sentence")
    with first.file.open("a") as file:
        file.write('{"case": 2, "sec')  # killed here
    again = Progress("x", 3, tmp_path, code="a")
    assert sorted(again.cases) == [0, 1] and again.seconds == 2.0
    assert sorted(Progress("x", 3, tmp_path, code="a").cases) == [0, 1], "the torn line is gone"
    assert Progress("x", 3, tmp_path, code="b").cases == {}


def test_a_failing_input_is_kept_and_named(tmp_path):
    tell = Silent()
    failed = fuzz("x", Misbehaving(), 4, tmp_path / "work", tell, Progress("x", 4, tmp_path, code="a"))
    assert sorted(failed) == [2, 3]
    assert (tmp_path / "failed" / "x-3" / "input").read_text() == "x"
    assert json.loads((tmp_path / "figures" / "x.json").read_text())["fault"] == 2


def test_mutations_follow_from_the_number_of_the_case_alone():
    given = {"a": [1, 2.5, {"b": "text"}], "c": None}
    for number in range(50):
        one, other = (
            [mutations.value(random.Random(number), given), mutations.text(random.Random(number), "a = 1\nb")]
            for _ in range(2)
        )
        assert repr(one) == repr(other)
    made = {repr(mutations.value(random.Random(number), given)) for number in range(200)}
    assert len(made) > 100 and given == {"a": [1, 2.5, {"b": "text"}], "c": None}


def test_lora_files_are_mutated_in_their_structure_too(tmp_path):
    """Some load, some are refused in words: mutations that all were refused at the first byte would show nothing."""
    import torch
    from safetensors.torch import save

    names = [f"transformer.a.to_q.lora_{kind}.weight" for kind in "AB"]
    whole, words = save({names[0]: torch.ones(2, 4), names[1]: torch.ones(4, 2)}, {"format": "pt"}), set()
    for number in range(60):
        path = tmp_path / "lora.safetensors"
        path.write_bytes(mutations.safetensors(random.Random(number), whole))
        try:
            load_lora(path)
            words.add("taken")
        except LoraFileError as error:
            words.add(str(error).replace(str(path), "")[:30])
    assert "taken" in words and len(words) > 5


def test_growth_is_told_from_noise():
    chance = random.Random(0)
    times = [2.0 * n for n in range(400)]
    level = [900 + chance.gauss(0, 3) + (200 if n % 50 == 0 else 0) for n in range(400)]
    rising = [value + 0.2 * at for value, at in zip(level, times, strict=True)]
    assert abs(slope(times, level)) < 0.01 and slope(times, rising) == pytest.approx(0.2, abs=0.01)
    held = {"files": 20, "threads": 8, "disk_mib": 5.0, "logs_mib": 1.0}
    samples = [
        [{"at": at, "rss_mib": rss, **held} for at, rss in zip(times, line, strict=True)] for line in (level, rising)
    ]
    assert figures(samples[0])["grows"] == [] and figures(samples[1])["grows"] == ["rss_mib"]


def test_a_little_of_the_fuzz_passes(tmp_path):
    from campaigns.judge_answers import JudgeAnswers
    from campaigns.prompt_files import PromptFiles
    from campaigns.run_folders import RunFolders

    for target, cases in ((PromptFiles(), 40), (JudgeAnswers(), 20), (RunFolders(tmp_path), 15)):
        worker = Worker(target, tmp_path / type(target).__name__)
        found = [worker.run(case) for case in range(cases)]
        worker.stop()
        assert [one for one in found if one.outcome == FAULT] == []
        assert {one.outcome for one in found} == {ACCEPTED, SENTENCE}


def test_the_page_tells_all_parts_and_what_was_not_run():
    spec = importlib.util.spec_from_file_location("reliability", ROOT / "benchmarks" / "reliability.py")
    reliability = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reliability)
    assert {part for part in reliability.PARTS if part.startswith("fuzz")} == {*SHARES}
    assert {part: round(DEFAULTS["fuzz"] * share) for part, share in SHARES.items()} == reliability.SHARES
    assert "| kills | 200 | not run |" in reliability.page({})
    stored = json.loads(reliability.JSON.read_text())
    assert reliability.PAGE.read_text() == reliability.page(stored), "run make reliability"


def test_the_commands_of_the_kills_are_python():
    assert compile(SERVER, "server", "exec").co_names, "it has something to run"
