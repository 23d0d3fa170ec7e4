"""The gallery and the time that a run takes, on the command line: a real run of the demo model."""

import json

import pytest
from tiny_pipelines import make_folder

from mixgrpo_core.cli import main
from mixgrpo_core.cli.settings import read_toml
from mixgrpo_core.runs.folder import RunFolder
from mixgrpo_core.runs.gallery import Gallery
from mixgrpo_core.training.forecast import UNKNOWN

RUN = """
out = "{out}"
[model]
rank = 2
[prompts]
train = ["a small red circle on the left", "a large blue cross in the middle"]
held_out = ["a small green square at the top"]
[rewards]
clean = "ShapeCleanliness()"
[train]
iterations = 2
steps = 6
images_per_prompt = 2
prompts_per_iteration = 1
planner = "WindowPlanner(window=FrozenWindow(size=2, start=0))"
updates = 1
eval_every = 0
"""

CLEAN = ("ShapeCleanliness()", "PixelReward(Brightness(), More())")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keep")
    (folder / "run.toml").write_text(RUN.format(out=folder / "run"))
    assert main(["train", str(folder / "run.toml")]) == 0
    return folder / "run"


def test_a_lora_is_kept_and_taken_back(run, capsys):
    capsys.readouterr()
    assert main(["keep", str(run)]) == 0
    assert "2 LoRAs with their pictures, 0." in capsys.readouterr().out
    assert main(["keep", str(run), "0"]) == 0
    assert f"is that of iteration 0: {run / 'lora' / 'kept.safetensors'}" in capsys.readouterr().out
    assert Gallery(RunFolder.open(run)).kept == 0
    assert main(["resume", str(run)]) == 0
    told = capsys.readouterr().out
    assert "LoRA (of iteration 0, which was kept):" in told and str(run / "gallery") in told
    assert main(["keep", str(run), "last"]) == 0
    assert Gallery(RunFolder.open(run)).kept is None and not (run / "lora" / "kept.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [([], "expected a run folder"), (["{run}", "-1"], "expected a run folder"), (["{run}", "1"], "it has 0, 2")],
)
def test_what_cannot_be_kept_is_one_sentence(run, capsys, words, sentence):
    assert main(["keep", *(word.format(run=run) for word in words)]) == 2
    assert sentence in capsys.readouterr().err


def test_a_plan_says_how_long_it_takes_where_a_run_of_the_same_model_is_beside(run, capsys, tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(RUN.format(out=run.parent / "next").replace("iterations = 2", "iterations = 50"))
    (tmp_path / "elsewhere.toml").write_text(RUN.format(out=tmp_path / "next"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["seconds"] = {"rollout": 3.0, "decode": 1.0, "reward": 0.5, "train": 1.5}
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    capsys.readouterr()
    assert main(["plan", str(file)]) == 0
    assert "(50 iterations of 6.0 s), as the run run took on this machine." in capsys.readouterr().out
    assert read_toml(file).train.iterations == 50


def test_a_plan_times_a_step_of_the_demo_and_of_a_model_of_yours_where_it_is_asked_to(capsys, tmp_path):
    demo, own = tmp_path / "demo.toml", tmp_path / "own.toml"
    words = RUN.format(out=tmp_path / "next")
    demo.write_text(words)
    folder = make_folder("flux-dev", tmp_path / "flux")
    own.write_text(words.replace("rank = 2", f'rank = 2\nfolder = "{folder}"').replace(*CLEAN))
    assert main(["plan", str(demo)]) == 0
    assert "(2 iterations of" in (told := capsys.readouterr().out) and "by one timed step." in told
    assert main(["plan", str(own)]) == 0
    assert UNKNOWN in capsys.readouterr().out
    assert main(["plan", str(own), "--timed"]) == 0
    assert "by one timed step." in capsys.readouterr().out
    assert not (tmp_path / "next").exists()
