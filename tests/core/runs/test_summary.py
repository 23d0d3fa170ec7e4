"""What is said of a run, on the command line and on the canvas alike."""

from dataclasses import replace

import pytest
from toy import Red, ToyModel

from mixgrpo_core import RunFolder, TrainConfig, WindowPlanner, train
from mixgrpo_core.runs.gallery import Gallery
from mixgrpo_core.runs.summary import changes_in, last_warnings, stopped_by, summary_of
from mixgrpo_core.sampling.windows import FrozenWindow

CONFIG = TrainConfig(
    iterations=2,
    steps=4,
    images_per_prompt=4,
    prompts_per_iteration=1,
    planner=WindowPlanner(window=FrozenWindow(size=1)),
    eval_every=1,
    eval_images=1,
    guards=(),
)


@pytest.fixture
def run(tmp_path):
    """Folders of short runs by a name, with settings of their own."""

    def made(name, **changes):
        config = replace(CONFIG, **changes)
        folder = RunFolder.create(tmp_path / name, config, {})
        list(train(ToyModel(), ["a red thing", "bbb"], {"red": Red()}, config, held_out=["cc"], run=folder))
        return folder, config

    return made


def stats(mean, spread):
    return {"mean": mean, "spread": spread}


def line(iteration, *evaluations, **more):
    told = [{"iteration": at, "rewards": rewards} for at, rewards in evaluations]
    return {"iteration": iteration, "evaluations": told, "rewards": {"red": stats(0.1 * iteration, 0.2)}, **more}


def test_held_out_rewards_are_those_of_the_first_and_the_last_look():
    looks = [(0, {"red": stats(0.25, 0.1)}), (1, {"red": stats(0.5, None)})], [(2, {"red": stats(None, None)})]
    [change] = changes_in([line(0, *looks[0]), line(1, *looks[1])])
    assert (change.label, change.before, change.after) == ("held-out red", "0.25 ± 0.1", "no score")
    assert change.at == "at iteration 2"


def test_where_nothing_is_held_out_it_is_what_was_trained_on():
    for lines in ([line(1), line(4)], [line(1, (0, {})), line(4)]):
        [change] = changes_in(lines)
        assert (change.label, change.before, change.after) == ("red while training", "0.1 ± 0.2", "0.4 ± 0.2")
    assert changes_in([]) == []


def test_every_guard_has_its_last_word_and_says_when():
    def alarms(**said):
        return [{"guard": guard, "sentence": sentence} for guard, sentence in said.items()]

    lines = [line(0, warnings=alarms(Drift="early", Fall="it fell")), line(3, warnings=alarms(Drift="late")), line(4)]
    found = last_warnings(lines)
    assert found == ["warning of Drift at iteration 4: late", "warning of Fall at iteration 1: it fell"]
    assert last_warnings([line(0)]) == [], "runs of older versions have none"
    assert stopped_by(lines) == "" and stopped_by([line(0, stopped="it fell")]) == "it fell" and stopped_by([]) == ""


def test_the_lora_is_the_average_or_what_was_kept(run):
    folder, config = run("plain")
    found = summary_of(folder, folder.metrics(), config, "mine")
    assert found.headline.startswith("mine: 2 of 2 iterations in ")
    assert found.files[0] == ("LoRA", folder.lora("last"))
    assert [label for label, _ in found.files] == ["LoRA", "gallery", "run"], "and nothing that is not there"
    assert found.text().splitlines()[1].startswith("held-out red: ")

    folder, config = run("averaged", ema=0.9)
    files = summary_of(folder, folder.metrics(), config, "mine").files
    assert files[:2] == [("LoRA, averaged", folder.lora("ema")), ("LoRA of the last iteration", folder.lora("last"))]
    Gallery(folder).keep(0)
    files = summary_of(folder, folder.metrics(), config, "mine").files
    assert files[0] == ("LoRA (of iteration 0, which was kept)", folder.lora("kept"))
    Gallery(folder).keep(None)
    folder.lora("ema").unlink()
    files = summary_of(folder, folder.metrics(), config, "mine").files
    assert files[0] == ("LoRA", folder.lora("last")), "an average that is gone is not named"
