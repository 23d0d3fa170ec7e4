"""The command line as its users meet it: commands in, files and sentences out; on the demo model."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from torch import tensor

from mixgrpo_core.cli import main
from mixgrpo_core.cli.compare import win_rate
from mixgrpo_core.cli.settings import parse_flags, read_toml
from mixgrpo_core.evaluate import Evaluation
from mixgrpo_core.plan import WindowPlanner
from mixgrpo_core.reward import Scores
from mixgrpo_core.run_folder import RunFolder
from mixgrpo_core.transition import DanceSDE
from mixgrpo_core.window import FrozenWindow

PROMPTS = ["a small red circle on the left", "a large blue cross in the middle", "a small green square at the top"]
SMALL = """
out = "{out}"
[model]
rank = 2
[prompts]
train = ["a small red circle on the left", "a large blue cross in the middle"]
held_out = ["a small green square at the top"]
[rewards]
shape = "ShapeReward()"
clean = "ShapeCleanliness()"
[train]
iterations = 2
steps = 6
images_per_prompt = 4
prompts_per_iteration = 2
planner = "WindowPlanner(window=FrozenWindow(size=2, start=0), tail_ratio=0.5)"
tail_solver = "DPMpp2M()"
reward_weights = {{ clean = 0.0 }}
eval_every = 1
eval_images = 2
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run of two iterations, made by ``mixgrpo train``."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "run.toml").write_text(SMALL.format(out=folder / "run"))
    assert main(["train", str(folder / "run.toml")]) == 0
    return folder / "run"


def test_train_leaves_a_lora_a_report_and_metrics(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [0, 1]
    assert [e["iteration"] for line in lines for e in line["evaluations"]] == [0, 1, 2]
    assert {*lines[0]["rewards"]} == {"shape"}
    assert {*lines[0]["evaluations"][0]["rewards"]} == {"shape", "clean"}
    assert lines[0]["nfe"]["rollout"] == pytest.approx(1 / 4 + 1 + 2)  # first step shared, second each, tail of 2
    assert (run / "lora" / "last.safetensors").stat().st_size > 10_000
    for picture in ("report.png", "before_after.png"):
        with Image.open(run / picture) as image:
            assert len(image.getcolors(2**24)) > 50


def test_resume_of_a_finished_run_extends_it(run: Path, capsys) -> None:
    assert main(["resume", str(run), "--iterations", "3"]) == 0
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3
    assert RunFolder.open(run).latest().iteration == 3
    assert main(["resume", str(run)]) == 0
    assert "finished" in capsys.readouterr().out


def test_flags_override_the_file_and_spell_objects_as_python_does(tmp_path) -> None:
    (tmp_path / "run.toml").write_text(SMALL.format(out="x"))
    flags = ["--train.kernel", "DanceSDE(eta=0.2)", "--train.iterations", "9", "--model.rank", "3"]
    settings = parse_flags(read_toml(tmp_path / "run.toml"), flags, "prog", "words")
    assert settings.train.kernel == DanceSDE(eta=0.2)
    assert settings.train.planner == WindowPlanner(window=FrozenWindow(size=2, start=0), tail_ratio=0.5)
    assert (settings.train.iterations, settings.model.rank, settings.train.steps) == (9, 3, 6)


def test_plan_counts_what_theory_predicts(tmp_path, capsys) -> None:
    flags = ["--out", str(tmp_path / "plan"), "--train.iterations", "60", "--train.images-per-prompt", "12"]
    assert main(["plan", *flags, "--train.prompts-per-iteration", "4", "--train.updates", "4"]) == 0
    words = capsys.readouterr().out
    rows = [line.split("│")[1:-1] for line in words.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert [row[:2] for row in cells] == [["0-24", "0-3"], ["25-49", "1-4"], ["50-59", "2-5"]]
    # window at l: l shared prefix steps and the shared first step over 12 images, 3 more window steps, 21 - l after
    assert [float(row[2]) for row in cells] == pytest.approx([(l + 1) / 12 + 3 + 21 - l for l in range(3)], abs=0.006)
    assert [float(row[3]) for row in cells] == pytest.approx([3 + 1 / 12] * 3, abs=0.006)
    with Image.open(f"{tmp_path / 'plan'}-plan.png") as image:
        assert image.width > 500


def test_sample_draws_base_lora_and_hybrid(run: Path, tmp_path) -> None:
    lora = str(run / "lora" / "last.safetensors")
    flags = ["--prompts", *PROMPTS[:2], "--model.lora", lora, "--steps", "6", "--images", "2"]
    assert main(["sample", *flags, "--out", str(tmp_path / "s"), "--hybrid", "0.5"]) == 0
    files = sorted(path.name for path in (tmp_path / "s").iterdir())
    assert len(files) == 2 * 2 * 3 + 1
    assert "001-1-hybrid-0.5.png" in files


def test_evaluate_compares_on_the_same_noise(run: Path, tmp_path) -> None:
    lora = str(run / "lora" / "last.safetensors")
    common = ["--prompts.train", *PROMPTS, "--rewards", "shape", "ShapeReward()", "--steps", "6", "--images", "2"]
    assert main(["evaluate", *common, "--lora-a", lora, "--lora-b", lora, "--out", str(tmp_path / "same")]) == 0
    same = json.loads((tmp_path / "same" / "scores.json").read_text())["rewards"]["shape"]
    assert same["mean_a"] == same["mean_b"]
    assert same["win_rate_a"] == 0.5
    assert main(["evaluate", *common, "--lora-b", lora, "--out", str(tmp_path / "other")]) == 0
    other = json.loads((tmp_path / "other" / "scores.json").read_text())
    assert other["a"] == "base model"
    assert other["rewards"]["shape"]["mean_b"] == same["mean_a"]


def test_win_rate_counts_ties_as_half_and_leaves_masked_pairs_out() -> None:
    def side(*values: float, valid=(True, True, True, True)) -> Evaluation:
        scores = Scores(tensor(values), tensor(valid))
        return Evaluation(iteration=0, rewards={}, scores={"r": [scores]})

    a, b = side(1.0, 2.0, 3.0, 9.0, valid=(True, True, True, False)), side(0.0, 2.0, 4.0, 0.0)
    assert win_rate(a, b, "r") == 0.5
    assert win_rate(side(1.0, 1.0, 1.0, 1.0), b, "r") == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("steps = 6", "steps = 3"), "at least 4 denoising steps"),
        (("images_per_prompt = 4", "images_per_prompt = 1"), "at least 2"),
        (("size=2", "size=6"), "6"),
        (("iterations = 2", "iteratoins = 2"), "did you mean 'iterations'"),
        (("ShapeReward()", "ShapeRewrad()"), "did you mean 'ShapeReward'"),
        (("a small red circle on the left", "a small purple circle on the left"), "purple"),
        (("rank = 2", 'folder = "/nowhere"'), "/nowhere"),
        (('held_out = ["a small green square at the top"]', 'held_out = "missing.txt"'), "missing.txt"),
        (("clean = 0.0", "clear = 0.0"), "clear"),
    ],
)
def test_mistakes_in_a_run_file_are_one_sentence_before_anything_is_written(tmp_path, capsys, change, message) -> None:
    (tmp_path / "run.toml").write_text(SMALL.format(out=tmp_path / "run").replace(*change))
    assert main(["train", str(tmp_path / "run.toml")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_an_existing_folder_is_not_overwritten(run: Path, tmp_path, capsys) -> None:
    (tmp_path / "run.toml").write_text(SMALL.format(out=run))
    before = (run / "config.json").read_bytes()
    assert main(["train", str(tmp_path / "run.toml")]) == 2
    assert "exists" in capsys.readouterr().err
    assert (run / "config.json").read_bytes() == before


@pytest.mark.parametrize(("words", "status"), [([], 2), (["--help"], 0), (["trian"], 2), (["resume"], 2)])
def test_usage(words: list[str], status: int, capsys) -> None:
    assert main(words) == status
    printed = capsys.readouterr()
    assert "mixgrpo" in printed.out + printed.err


def start(arguments: list[str]) -> subprocess.Popen:
    code = "import sys; from mixgrpo_core.cli import main; sys.exit(main())"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def wait_for_lines(path: Path, count: int, process: subprocess.Popen) -> None:
    while not path.exists() or path.read_text().count("\n") < count:
        assert process.poll() is None, process.stdout.read().decode()
        time.sleep(0.02)


def settings_without_times(run: Path) -> list[dict]:
    kept = ("iteration", "rewards", "update", "evaluations", "nfe", "window")
    return [{key: line[key] for key in kept} for line in map(json.loads, (run / "metrics.jsonl").open())]


def test_kill_and_interrupt_on_the_demo_model_leave_a_run_that_ends_as_if_nothing_had_happened(tmp_path) -> None:
    toml = SMALL.replace("iterations = 2", "iterations = 6\ncheckpoint_every = 1")
    for name in ("whole", "killed"):
        (tmp_path / f"{name}.toml").write_text(toml.format(out=tmp_path / name))
    whole = start(["train", str(tmp_path / "whole.toml")])
    assert whole.wait(120) == 0
    command = ["train", str(tmp_path / "killed.toml")]
    for lines, stop in ((1, signal.SIGKILL), (3, signal.SIGKILL), (4, signal.SIGINT), (5, signal.SIGKILL)):
        process = start(command)
        wait_for_lines(tmp_path / "killed" / "metrics.jsonl", lines, process)
        time.sleep(0.03 * lines)  # somewhere inside the next iteration
        process.send_signal(stop)
        assert process.wait(60) != 0
        command = ["resume", str(tmp_path / "killed")]
    last = start(command)
    assert last.wait(120) == 0, last.stdout.read().decode()
    assert settings_without_times(tmp_path / "killed") == settings_without_times(tmp_path / "whole")
    loras = [(tmp_path / name / "checkpoints" / "000006.safetensors") for name in ("whole", "killed")]
    from mixgrpo_core.checkpoint import read_checkpoint

    a, b = (read_checkpoint(path) for path in loras)
    assert all(a.tensors[name].equal(b.tensors[name]) for name in a.tensors if not name.startswith("random"))
