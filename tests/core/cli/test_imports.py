"""Classes of yours on the command line: spelled, trained with, killed, resumed, and refused in one sentence."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mixgrpo_core
from mixgrpo_core import RunFolder
from mixgrpo_core.cli import main
from mixgrpo_core.runs.folder import RunError
from mixgrpo_core.settings import kinds

ROOT = Path(__file__).resolve().parents[3]
HOUSE = '''
"""One of each, as somebody writes them who has only the package."""

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch

from mixgrpo_core.advantages import Advantages, Credit
from mixgrpo_core.objectives import GRPO, Regulariser
from mixgrpo_core.rewards import Scores, StatelessReward
from mixgrpo_core.sampling import Planner, StepPlan
from mixgrpo_core.sampling.planners import ODE, SDE
from mixgrpo_core.settings.prompt_sources import PromptSource


@dataclass(frozen=True)
class Halved(GRPO):
    """Half of GRPO's loss."""

    share: float = 0.5

    def loss(self, table, cells):
        report = super().loss(table, cells)
        return replace(report, loss=report.loss * self.share, means={**report.means, "half_of": report.loss.detach()})


@dataclass(frozen=True)
class Redness(StatelessReward):
    """Likes red. With ``until`` it ends the process there, once."""

    until: int | None = None

    def __call__(self, batch):
        if batch.context.iteration == self.until and self.until is not None and not Path("killed").exists():
            Path("killed").write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
        return Scores.of(batch.images[..., 0].mean((1, 2)))


@dataclass(frozen=True)
class EveryOther:
    """Every other place, one step wide; it derives from nothing."""

    size: int = 1

    def at(self, iteration, steps):
        start = 2 * iteration % (steps - 1)
        return range(start, start + 1)

    def reach(self, steps):
        return range(steps - 1)


@dataclass(frozen=True)
class Doubled(Credit):
    """Twice the advantages."""

    def of_group(self, group, advantages, looked):
        return replace(advantages, values=2 * advantages.values)


@dataclass(frozen=True)
class SmallVelocity(Regulariser):
    """Pulls the velocity to 0."""

    weight: float = 1e-4
    policies: ClassVar[frozenset[str]] = frozenset()
    figure: ClassVar[str] = "speed"

    def penalty(self, policy, piece):
        return (policy(piece.x, piece.sigma) ** 2).flatten(1).mean(1)[piece.parent]


@dataclass(frozen=True)
class FirstStep(Planner):
    """Trains the first step only."""

    def plan(self, iteration, prompt, sigmas, memory=None):
        return StepPlan(sigmas, (SDE, *[ODE] * (len(sigmas) - 2)))


@dataclass(frozen=True)
class TheFirst(PromptSource):
    """Always the first prompts."""

    def choose(self, draw, memory=None):
        return list(range(draw.count))
'''
RUN = """
out = "run"
[prompts]
train = ["a small red circle on the left", "a large blue square in the middle"]
held_out = []
[rewards]
red = "Redness(until={until})"
[train]
iterations = 2
steps = 4
images_per_prompt = 2
prompts_per_iteration = 1
checkpoint_every = 1
updates = 1
eval_every = 0
guards = []
planner = "WindowPlanner(window=EveryOther(size=1))"
objective = "Halved(share=0.25)"
credit = ["WeightedAdvantages()", "Doubled()"]
regularisers = "SmallVelocity()"
prompt_source = "TheFirst()"
"""


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A working folder with ``my_house.py`` and ``run.toml``; nothing of it stays known afterwards."""
    (tmp_path / "my_house.py").write_text(HOUSE)
    (tmp_path / "run.toml").write_text(RUN.format(until=None))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kinds, "_GUESTS", {})
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("my_house", None)


def said(capsys):
    """The one sentence on standard error."""
    [line] = capsys.readouterr().err.strip().splitlines()
    return line


def test_a_run_of_a_strangers_classes_is_killed_and_resumed(house, capsys):
    (house / "run.toml").write_text(RUN.format(until=1))
    command = [sys.executable, "-c", "import sys; from mixgrpo_core.cli import main; sys.exit(main())"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "train", "--import", "my_house", "run.toml"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    noted = json.loads((house / "run/config.json").read_text())["guests"]
    assert noted == dict.fromkeys(
        ["Halved", "Redness", "EveryOther", "Doubled", "SmallVelocity", "TheFirst"], "my_house"
    )

    assert main(["resume", "run"]) == 2
    words = said(capsys)
    assert "my_house" in words and "--import my_house" in words and "EveryOther" in words
    assert "my_house" not in sys.modules, "a resume imports nothing by itself"
    with pytest.raises(RunError, match="--import my_house"):
        _ = RunFolder.open("run").settings

    assert main(["resume", "run", "--import=my_house"]) == 0
    run = RunFolder.open("run")
    reports = run.metrics()
    assert [report["iteration"] for report in reports] == [0, 1]
    assert [report["window"] for report in reports] == [[0, 1], [2, 3]]
    assert all({"half_of", "speed"} <= report["update"].keys() for report in reports)
    assert run.settings.objective.share == 0.25 and run.lora("last").exists()


def test_every_kind_is_spelled_by_flags_too(house, capsys):
    flags = ["--train.planner", "FirstStep()", "--train.credit", "WeightedRewards()", "Doubled()"]
    assert main(["plan", "run.toml", "--import", "my_house", *flags]) == 0
    assert "trained steps" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["plan", "run.toml", "--import", "my_house", "--train.planner", "EveryOther()"])
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "expects a planner such as '" in shown and "found 'EveryOther()'" in shown


def test_flags_of_several_parts_say_why_they_are_refused(house, capsys):
    with pytest.raises(SystemExit):
        main(["plan", "run.toml", "--import", "my_house", "--train.credit", "WeightedRewards()", "Trebled()"])
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "found 'Trebled()'" in shown or "unknown class 'Trebled'" in shown


def test_a_former_name_is_read_with_an_equals_sign_too(house, capsys):
    with pytest.raises(SystemExit):
        main(["plan", "run.toml", "--import", "my_house", "--train.combination=Doubled()"])
    assert "credit begins with" in capsys.readouterr().err


def test_a_class_that_lacks_something_is_told_what(house, capsys):
    (house / "halfway.py").write_text(
        "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Halfway:\n"
        "    share: float = 1.0\n    def candidates(self, sigmas):\n        return ()\n"
    )
    assert main(["plan", "run.toml", "--import", "halfway"]) == 2
    assert "Halfway is not yet a planner: learn and plan and trainable must be written" in said(capsys)


def test_a_strangers_reward_scores_pictures(house, capsys):
    from PIL import Image

    Image.new("RGB", (8, 8), (255, 0, 0)).save("red.png")
    assert main(["score", "red.png", "--import", "my_house", "--rewards", "red", "Redness()"]) == 0
    assert "│ 1   │" in capsys.readouterr().out
    assert main(["score", "red.png", "--rewards", "red", "Redness(1, 2)", "--import", "my_house"]) == 2


@pytest.mark.parametrize(
    "name, source, words",
    [
        ("nowhere", None, "there is no such module in "),
        ("not-a-name", None, "expected the name of a Python module after --import"),
        ("", None, "expected the name of a Python module"),
        ("fails", "1 / 0", "it fails with ZeroDivisionError: division by zero"),
        ("asks", "import not_installed_anywhere", "it imports not_installed_anywhere, which is not installed"),
        ("empty", "x = 1", "it defines no class that can be spelled"),
        (
            "torn",
            "from dataclasses import dataclass\nfrom mixgrpo_core.objectives import Objective\n"
            "@dataclass(frozen=True)\nclass Torn(Objective):\n    def loss(self, table, cells): ...",
            "Torn is not yet an objective: terms must be written",
        ),
        (
            "taken",
            "from dataclasses import dataclass\nfrom mixgrpo_core.objectives import GRPO as Base\n"
            "@dataclass(frozen=True)\nclass GRPO(Base): ...",
            "the name GRPO is taken by a class of mixgrpo_core",
        ),
    ],
)
def test_what_cannot_be_imported_is_said_in_one_sentence(house, capsys, name, source, words):
    if source is not None:
        (house / f"{name}.py").write_text(source)
    try:
        assert main(["train", "run.toml", "--import", name]) == 2
    finally:
        sys.modules.pop(name, None)
    assert words in said(capsys)
    assert not (house / "run").exists()


def test_without_the_flag_a_run_file_names_an_unknown_class(house, capsys):
    assert main(["train", "run.toml"]) == 2
    assert "unknown class 'EveryOther'" in said(capsys)


def test_commands_that_spell_nothing_have_no_such_flag(house, capsys):
    with pytest.raises(SystemExit):
        main(["sample", "--import", "my_house"])
    assert "my_house" not in sys.modules


def test_the_module_of_the_page_is_imported_as_it_stands(house, capsys):
    """And so is its name: it scores red pictures with `--rewards red "Redness(power=2)"`."""
    from PIL import Image

    [code] = re.findall(
        r"<!-- example: module -->\n```python\n(.*?)```", (ROOT / "docs/own-classes.md").read_text(), re.DOTALL
    )
    (house / "my_rewards.py").write_text(code)
    Image.new("RGB", (8, 8), (51, 0, 0)).save("dark.png")
    try:
        assert main(["score", "dark.png", "--import", "my_rewards", "--rewards", "red", "Redness(power=2)"]) == 0
    finally:
        sys.modules.pop("my_rewards", None)
    assert "0.04" in capsys.readouterr().out


def test_register_is_public():
    assert mixgrpo_core.register is kinds.register
