"""The queue of the methods' benchmark goes on where it was left, and its page is that of its records."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    """The benchmark's modules, which stand in a folder of scripts."""
    sys.path.insert(0, str(BENCHMARKS))
    names = ("demo_runs", "method_cases", "method_worlds", "methods", "methods_page")
    yield {name: importlib.import_module(name) for name in names}
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def queue(bench, tmp_path):
    """Two methods on a toy of a tenth of a second, two seeds, one rate; none is tried on the demo model."""
    worlds = bench["method_worlds"]
    brief = bench["demo_runs"].Budget(seconds=0.1, every=0.05, images=4)
    toy = replace(worlds.Toy(), budget=brief, rates=(1e-2,))
    rows = {name: row for name, row in bench["method_cases"].cases().items() if name in ("tmpo", "rsm")}
    return lambda: bench["methods"].Queue(tmp_path, rows, {"toy": toy, "demo": worlds.Demo()})


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}


def test_a_stopped_queue_goes_on_and_does_nothing_twice(queue, tmp_path):
    assert queue().work(limit=1) == 1
    [first] = files(tmp_path).items()
    (tmp_path / "toy" / "rsm-0.01-1.partial").write_text('{"world": "toy", "cur')  # a process that was killed
    again = queue()
    assert again.work() == 3 and again.work() == 0
    assert {"toy/tmpo-0.01-0.json", "toy/tmpo-0.01-1.json", "toy/rsm-0.01-0.json", "toy/rsm-0.01-1.json"} == {
        *files(tmp_path)
    }
    assert files(tmp_path)[first[0]] == first[1]
    assert len(again.records()) == 4


def test_a_record_of_other_settings_counts_as_none_and_one_older_than_a_setting_has_its_default(queue, tmp_path):
    queue().work(only=["rsm"])
    older, changed = (tmp_path / "toy" / f"rsm-0.01-{seed}.json" for seed in (0, 1))
    record = json.loads(older.read_text())
    del record["config"]["checkpoint_minutes"]
    older.write_text(json.dumps(record))
    record = json.loads(changed.read_text())
    record["config"]["steps"] += 1
    changed.write_text(json.dumps(record))
    assert [record["seed"] for record in queue().records()] == [0]
    assert queue().work(only=["rsm"]) == 1


def test_a_run_that_is_interrupted_leaves_no_record(queue, tmp_path, monkeypatch, bench):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench["method_worlds"], "with_mean", interrupted)
    with pytest.raises(KeyboardInterrupt):
        queue().work()
    assert files(tmp_path) == {}


def test_a_record_tells_a_curve_in_counted_work_and_the_page_what_was_not_run(queue, bench):
    page, done = bench["methods_page"], queue()
    done.work(limit=3)
    for record in done.records():
        start, *_, end = record["curve"]
        assert start["iteration"] == start["seconds"] == start["kilo_evaluations"] == 0
        assert end["seconds"] >= 0.1 and end["kilo_evaluations"] > 0
        assert start.keys() == {"iteration", "seconds", "kilo_evaluations", "red", "dark", "diversity", "reward"}
        assert end["reward"] == pytest.approx((end["red"] + end["dark"]) / 2)
    words = page.page([page.points(page.compact(record)) for record in done.records()], done.rows)
    assert words.count("0 of 1") + words.count("1 of 1") == 1 and words.count("0 of 2") + words.count("1 of 2") == 1


def test_on_the_demo_model_the_best_rate_that_keeps_images_clean_gets_the_other_seeds(queue, bench):
    methods, found = bench["methods"], queue()
    row = replace(bench["method_cases"].cases()["mixgrpo"])
    found.rows = {"mixgrpo": row}
    demo = found.worlds["demo"]
    for rate, reward, clean in zip(demo.rates, (0.7, 0.8, 0.9), (0.95, 0.95, 0.3), strict=True):
        assert found.best(row) is None
        job = methods.Job(demo, row, rate, 0)
        ends = [{"shape": 0.6, "clean": 0.95}, {"shape": reward, "clean": clean}]
        bench["demo_runs"].keep(found.folder / f"{job.name}.json", {"curve": ends, **job.asked()})
    assert found.best(row) == demo.rates[1]
    wanted = [(job.rate, job.seed) for job in found.jobs() if job.world is demo]
    assert wanted == [*((rate, 0) for rate in demo.rates), (demo.rates[1], 1), (demo.rates[1], 2)]


def test_a_training_that_fails_is_a_record_too(bench):
    runs = bench["demo_runs"]

    def reports():
        raise runs.NonFiniteLoss("the loss is not finite")
        yield

    config = bench["method_cases"].cases()["rsm"].config
    found = runs.followed(reports(), dict, config, runs.Budget(seconds=1, every=1), start={})
    assert found["failed"] == "the loss is not finite" and len(found["curve"]) == 1


def test_the_page_is_that_of_the_records(bench):
    page, rows = bench["methods_page"], bench["method_cases"].cases()
    assert {record["method"] for record in page.load()} <= {*rows}
    assert page.PAGE.read_text() == page.page(page.load(), rows), "run benchmarks/methods.py --limit 0"
