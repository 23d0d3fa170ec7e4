"""The command line as its users meet it: commands in, files and sentences out; on the demo model."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import comparing
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import tensor

from mixgrpo_core import GRPO
from mixgrpo_core.cli import main, methods, training
from mixgrpo_core.cli.plan import count_costs
from mixgrpo_core.cli.settings import RunConfig, parse_flags, read_toml
from mixgrpo_core.cli.tensorboard import EventLog
from mixgrpo_core.demo import held_out_prompts
from mixgrpo_core.evaluation.guards import PixelDrift
from mixgrpo_core.evaluation.held_out import Evaluation, win_rate
from mixgrpo_core.models import load_demo
from mixgrpo_core.models.lora_file import load_lora, save_lora
from mixgrpo_core.rewards.port import Scores
from mixgrpo_core.runs.folder import RunFolder
from mixgrpo_core.sampling.kernels import DanceSDE
from mixgrpo_core.sampling.planners import WindowPlanner
from mixgrpo_core.sampling.windows import FrozenWindow
from mixgrpo_core.settings import presets
from mixgrpo_core.support.micro_batches import ran_out
from mixgrpo_core.training.cost import MethodCost
from mixgrpo_core.training.taught import RewardsFailed
from mixgrpo_core.views import before_after

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


def test_a_card_stands_beside_the_lora_ready_to_be_uploaded(run: Path) -> None:
    card = (run / "lora" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: diffusers\n") and "A LoRA of **demo**" in card
    pictures = re.findall(r"!\[.*\]\((.*)\)", card)
    assert [(run / "lora" / name).read_bytes() == (run / name).read_bytes() for name in pictures] == [True, True]
    [row] = [line for line in card.splitlines() if line.startswith("| clean |")]
    assert "ShapeCleanliness: 1 if the image shows one whole figure" in row and "| 0 |" in row and "none |" in row
    assert "    eval_every = 1\n" in card and "FrozenWindow(size=2, start=0)" in card
    assert str(run.parent) not in card


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
    flags = ["--model.lora", lora, "--steps", "6", "--images", "2", "--out", str(tmp_path / "s"), "--hybrid", "0.5"]
    assert main(["sample", "--prompts", *PROMPTS[:2], *flags]) == 0
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    assert len(pictures) == 2 * 2 * 3 + 1
    assert "001-1-hybrid-0.5.png" in pictures
    assert main(["sample", "--prompts", PROMPTS[0], *flags]) == 2
    assert pictures == {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}, "nothing is written over"


def test_a_single_path_is_a_prompt_file(tmp_path) -> None:
    (tmp_path / "prompts.TXT").write_text("\n".join(PROMPTS))
    words = ["sample", "--prompts", str(tmp_path / "prompts.TXT"), "--steps", "4", "--images", "1"]
    assert main([*words, "--out", str(tmp_path / "s")]) == 0
    assert len(list((tmp_path / "s").glob("00?-0-base.png"))) == 3


COMPARISON = ["--prompts.train", PROMPTS[0], "--rewards", "shape", "ShapeReward()"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "--prompts", PROMPTS[0], "--steps", "3"], "at least 4 steps"),
        (["sample", "--prompts", PROMPTS[0], "--images", "0"], "--images must be at least 1, found 0"),
        (["sample", "--prompts", PROMPTS[0], "--batch", "0"], "--batch must be at least 1"),
        (["sample", "--prompts", PROMPTS[0], "--shift", "0"], "shift"),
        (["sample", "--prompts", PROMPTS[0], "--hybrid", "1.5"], "--hybrid is the share"),
        (["sample", "--prompts", PROMPTS[0], "--model.lora", "none.safetensors"], "none.safetensors"),
        (["sample", "--prompts", "none.txt"], "expected a prompt file at none.txt"),
        (["sample", "--prompts", " "], "expected prompts with words"),
        (["sample", "--prompts", "a purple circle"], "purple"),
        (["evaluate", *COMPARISON, "--steps", "3"], "at least 4 steps"),
        (["evaluate", *COMPARISON, "--share-b", "nan"], "--share-b is the share"),
        (["evaluate", *COMPARISON, "--lora-b", "none.safetensors"], "none.safetensors"),
        (["evaluate", *COMPARISON[:2]], "at least one reward"),
    ],
)
def test_mistakes_in_a_comparison_are_one_sentence_before_any_work(tmp_path, capsys, words, message) -> None:
    assert main([*words, "--out", str(tmp_path / "new" / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.rglob("*.*")) == []


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


def test_evaluate_gives_the_figures_that_the_canvas_gives(tmp_path) -> None:
    """tests/host/test_compare.py asks Compare LoRA for them, of the same files."""
    a, b = comparing.two_loras(tmp_path, load_demo, save_lora)
    words = ["evaluate", "--lora-a", str(a), "--lora-b", str(b), "--prompts.train", *held_out_prompts()[:3]]
    words += ["--steps", str(comparing.STEPS), "--images", str(comparing.IMAGES), "--seed", str(comparing.SEED)]
    words += ["--rewards", *(word for pair in comparing.REWARDS.items() for word in pair), "--out", str(tmp_path / "o")]
    assert main(words) == 0
    found = json.loads((tmp_path / "o/scores.json").read_text())["rewards"]
    assert found.keys() == comparing.FIGURES.keys()
    for name, figures in comparing.FIGURES.items():
        assert found[name] == pytest.approx(figures, abs=comparing.NEAR)


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
        (("rank = 2", 'rank = "8"'), "model.rank expects a whole number or nothing, found '8'"),
        (("rank = 2", 'guidance = "x"'), "model.guidance expects a number, found 'x'"),
        (("rank = 2", 'dtype = "fp8"'), "model.dtype expects 'float32' or 'bfloat16', found 'fp8'"),
        (("rank = 2", 'dtype = "float16"'), "model.dtype expects 'float32' or 'bfloat16'"),
        (("rank = 2", 'gradient_checkpointing = "yes"'), "model.gradient_checkpointing expects true or false"),
        (("rank = 2", "height = 64\nwidth = 64"), "leave model.height and model.width out"),
        (("rank = 2", 'folder = "x"\nheight = 64'), "expected both model.height and model.width, found 64 and None"),
        (("rank = 2", 'device = "cud"'), "found 'cud', which cannot be used"),
        (("rank = 2", 'device = "meta"'), "found 'meta', which cannot be used"),
        (("[model]\nrank = 2", "model = 5"), "model expects a table: its name in brackets"),
        (("[rewards]", "[rewards]\nbright = 5"), "rewards expects a table of calls in quotes"),
        (('train = ["a small', 'train = [1, "a small'), "prompts.train expects text or a list of texts, found [1,"),
        (("[rewards]", 'held_out_share = "x"\n[rewards]'), "prompts.held_out_share expects a number, found 'x'"),
    ],
)
def test_mistakes_in_a_run_file_are_one_sentence_before_anything_is_written(tmp_path, capsys, change, message) -> None:
    (tmp_path / "run.toml").write_text(SMALL.format(out=tmp_path / "run").replace(*change))
    assert main(["train", str(tmp_path / "run.toml")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("out = 5", "out expects text, found 5"),
        ("train = 5", "train expects a table"),
        ('prompts = "prompts.txt"', "prompts expects a table: its name in brackets"),
        ('rewards = "ShapeReward()"', "rewards expects a table of calls in quotes"),
        ("[prompts]\ntrain = [1, 2]", "prompts.train expects text or a list of texts, found [1, 2]"),
        ("[rewards]\nshape = 5", "rewards expects a table of calls in quotes"),
        ("[promts]", "did you mean 'prompts'"),
        ("[model]\nrnk = 5", "unknown setting model.rnk; did you mean 'rank'"),
    ],
)
def test_a_table_of_another_kind_is_one_sentence(tmp_path, capsys, text, message) -> None:
    (tmp_path / "run.toml").write_text(text)
    assert main(["train", str(tmp_path / "run.toml")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is not there")
def test_a_gpu_that_is_not_there_is_one_sentence(capsys) -> None:
    words = ["--prompts.train", *PROMPTS, "--rewards", "shape", "ShapeReward()", "--model.device", "cuda"]
    assert main(["train", *words]) == 2
    error = capsys.readouterr().err
    assert "found 'cuda', which cannot be used" in error
    assert error.count("\n") == 1


def small_run(folder: Path, **changes) -> RunConfig:
    (folder / "run.toml").write_text(SMALL.format(out=folder / "run"))
    settings = read_toml(folder / "run.toml")
    return replace(settings, train=replace(settings.train, **changes))


def test_pictures_and_summary_are_of_the_average_where_there_is_one(tmp_path, capsys, monkeypatch) -> None:
    drawn = []
    draw = lambda *a, **k: drawn.append(a[2]) or Image.new("RGB", (99, 99))  # noqa: E731
    monkeypatch.setattr(before_after, "labelled_grid", draw)
    settings, models = small_run(tmp_path, ema=0.9), []
    make = RunConfig.make_model
    monkeypatch.setattr(RunConfig, "make_model", lambda self, ranks: models.append(make(self, ranks)) or models[-1])
    assert training.start(settings, Console()) == 0
    run = RunFolder.open(tmp_path / "run")
    average, last = load_lora(run.lora("ema")).state, load_lora(run.lora("last")).state
    assert any(not average[name].equal(last[name]) for name in average)
    kept = models[0].lora.state()
    assert all((kept[n] * (models[0].lora_about.scale if "lora_B" in n else 1)).allclose(average[n]) for n in kept)
    assert drawn == [["without the LoRA", "with the LoRA, averaged (2 iterations)"]]
    assert "ema.safetensors" in capsys.readouterr().out


def test_a_reward_without_any_score_is_said_to_have_none_from_the_first_line_to_the_summary(tmp_path, capsys) -> None:
    """Nobody votes, and a gate lets no image pass: that is no failure, and no number."""
    gated = "Gated(ShapeReward(), by=PixelReward(Brightness()), least=5.0)"
    settings = replace(small_run(tmp_path, reward_weights={}), rewards={"shape": "ShapeReward()", "gated": gated})
    assert training.start(settings, Console(width=200)) == 0
    shown = capsys.readouterr().out
    assert "nan" not in shown and " gated -  " in shown
    row = next(line for line in shown.splitlines() if "│ held-out gated" in line)
    assert [cell.strip() for cell in row.split("│")[1:4]] == ["held-out gated", "no score", "no score"]


def test_rewards_are_made_once_and_before_the_model(tmp_path, monkeypatch) -> None:
    """Text networks are read to prepare a reward, and read again by another object of the same reward."""
    made = []
    for name in ("make_rewards", "make_model"):
        make = getattr(RunConfig, name)
        monkeypatch.setattr(RunConfig, name, lambda *given, name=name, make=make: made.append(name) or make(*given))
    assert training.start(small_run(tmp_path, iterations=1), Console()) == 0
    assert made == ["make_rewards", "make_model"]
    assert main(["resume", str(tmp_path / "run"), "--iterations", "2"]) == 0
    assert made == 2 * ["make_rewards", "make_model"]


def test_pictures_of_a_stopped_run_name_the_iterations_that_were_done(tmp_path, monkeypatch) -> None:
    drawn = []
    draw = lambda *a, **k: drawn.append(a[2]) or Image.new("RGB", (99, 99))  # noqa: E731
    monkeypatch.setattr(before_after, "labelled_grid", draw)
    settings = small_run(tmp_path, iterations=5, guards=(PixelDrift(stop=1e-9),))
    assert training.start(settings, Console()) == 0
    assert drawn == [["without the LoRA", "with the LoRA (1 iterations)"]]


def test_the_run_says_its_rate_and_clip_range(tmp_path, capsys) -> None:
    assert training.start(small_run(tmp_path, iterations=1, objective=GRPO(clip=0.002)), Console()) == 0
    assert "learning rate 0.0003, clip -0.002/+0.002" in capsys.readouterr().out


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")])
def test_memory_that_runs_out_while_sampling_names_the_batch(tmp_path, capsys, monkeypatch, error) -> None:
    def fail(*arguments, **more):
        raise error

    monkeypatch.setattr("mixgrpo_core.cli.sampling.sample", fail)
    words = ["sample", "--prompts", PROMPTS[0], "--steps", "4", "--out", str(tmp_path / "s")]
    assert main(words) == 1
    assert "out of memory: lower --batch" in capsys.readouterr().err


def test_only_a_lack_of_memory_counts_as_one() -> None:
    assert not ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not ran_out(RewardsFailed("no reward gave a score (aesthetic: CUDA out of memory)"))


def test_an_interrupt_in_the_loops_body_saves_the_run(tmp_path, capsys, monkeypatch) -> None:
    def interrupt(self, words):
        raise KeyboardInterrupt

    monkeypatch.setattr("mixgrpo_core.cli.progress.RunProgress.report", interrupt)
    assert training.start(small_run(tmp_path, eval_every=0), Console()) == 130
    assert RunFolder.open(tmp_path / "run").latest().iteration == 1
    assert "Go on with: mixgrpo resume" in capsys.readouterr().out


def test_tensorboard_shows_redone_iterations_once(tmp_path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for done, steps in ((0, (1, 2, 3, 4)), (2, (3, 4, 5))):
        with EventLog(tmp_path, done) as events:
            for step in steps:
                events._writer.add_scalar("reward/shape", step + done, step)
        time.sleep(1.1)  # files of one second have no order
    found = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("reward/shape")
    assert [(event.step, event.value) for event in found] == [(1, 1.0), (2, 2.0), (3, 5.0), (4, 6.0), (5, 7.0)]


def test_the_plan_says_what_a_run_costs_in_one_line() -> None:
    # four prompts, a group for each update: what an image costs does not depend on how many there are
    flash, mixgrpo = (replace(make(), prompts_per_iteration=4) for make in (presets.mixgrpo_flash, presets.mixgrpo))
    twice, flash = count_costs(flash, 2), count_costs(flash)
    assert "rollout" in flash.caption
    assert f"{flash.whole:.2f} of DanceGRPO's" in flash.caption
    assert flash.whole < count_costs(mixgrpo).whole < 1
    assert twice.whole == pytest.approx(flash.whole), "guidance doubles both"


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


def test_methods_are_listed_and_one_is_told_in_full(capsys) -> None:
    console, cost = Console(width=80), MethodCost(rollout=1, training=1, against_dance=1)
    console.print(methods.listed(dict.fromkeys(presets.METHODS, cost)))
    text = capsys.readouterr().out
    assert [name for name in presets.METHODS if f" {name} " not in text] == [], "none is cut short"
    assert "needs latents with places" in text and "arXiv 2507.21802" in text
    assert main(["methods", "mixgrpo_flash_star", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["methods"]
    assert row["label"] == "MixGRPO-Flash*" and row["train"]["steps"] == 25
    assert row["cost"]["rollout"] == pytest.approx(1 / 12 + 3 + 5)
    assert main(["methods", "edit_grpo"]) == 0
    words = capsys.readouterr().out
    assert "inspired by Edit-GRPO" in words and "a mask with every prompt" in words and "PromptMask()" in words
    assert main(["methods", "edit-grpo"]) == 2
    assert "did you mean 'edit_grpo'?" in capsys.readouterr().err
