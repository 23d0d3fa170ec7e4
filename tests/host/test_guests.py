"""Classes of other custom nodes: found whenever they load, in the combos, in runs, and in the live view's words."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from mixgrpo_pack.mixgrpo_core import FrozenWindow, RunFolder, TrainConfig
from mixgrpo_pack.mixgrpo_core.settings import kinds
from mixgrpo_pack.nodes.host import guests
from mixgrpo_pack.nodes.live.runs import stored
from mixgrpo_pack.nodes.sampling.sampler import Sampler
from mixgrpo_pack.nodes.sampling.window import WindowNode
from mixgrpo_pack.nodes.settings.inputs import BY_HAND, FROM_PRESET
from mixgrpo_pack.nodes.settings.trainer_settings import TrainerSettingsNode

PLACE = "/home/me/ComfyUI/custom_nodes/gentle_x_pack"
BASE = {"preset": "MixGRPO", "model_family": "FLUX.1-dev", "memory": "plenty"}
PACK = '''
from dataclasses import dataclass


def mixgrpo_classes(core):
    """What the page *Your own classes* shows: the core is given, for it has no name that is the same everywhere."""
    from_core = core.objectives

    @dataclass(frozen=True)
    class Gentle(from_core.GRPO):
        """GRPO that moves half as far."""

        share: float = 0.5

    @dataclass(frozen=True)
    class Corner:
        """Stands at the first steps, then at the last."""

        size: int = 4
        after: int = 10
        late: bool = True

        def at(self, iteration, steps):
            start = 0 if iteration < self.after or not self.late else steps - 1 - self.size
            return range(start, start + self.size)

        def reach(self, steps):
            return range(steps - 1)

    @dataclass(frozen=True)
    class Loud(core.sampling.Kernel):
        """Constant noise."""

        eta: float = 0.2

        def coefficients(self, sigma, sigma_next):
            return core.DanceSDE(eta=self.eta).coefficients(sigma, sigma_next)

    for cls in (Gentle, Corner, Loud):
        cls.__module__ = __name__
    return [Gentle, Corner, Loud]
'''


@pytest.fixture
def welcomed(monkeypatch):
    """The pack as ComfyUI has loaded it; nothing that a test brings stays."""
    monkeypatch.setattr(kinds, "_GUESTS", {})
    monkeypatch.setattr(kinds, "_FINDERS", [])
    monkeypatch.setattr(guests, "_asked", [])
    monkeypatch.setattr(guests, "_looked_at", {})
    guests.welcome_guests()


def loads(monkeypatch, source=PACK, name=PLACE):
    """As ComfyUI loads a custom node: under its path for a name."""
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(source, name, "exec"), vars(module))
    return module


def test_a_module_that_asks_the_core_while_it_loads_is_looked_at_again(welcomed, monkeypatch):
    monkeypatch.setattr(guests, "mixgrpo_kinds", kinds, raising=False)
    asks = f"import sys\nsys.modules[{guests.__name__!r}].mixgrpo_kinds.SETTINGS.by_name()\n"
    loads(monkeypatch, asks + PACK)
    assert "Gentle" in kinds.SETTINGS.by_name()


def test_a_module_that_is_loaded_anew_is_asked_anew(welcomed, monkeypatch):
    loads(monkeypatch)
    assert not hasattr(kinds.SETTINGS.by_name()["Gentle"], "weight")
    loads(monkeypatch, PACK.replace("share: float = 0.5", "weight: float = 0.5"))
    assert kinds.SETTINGS.by_name()["Gentle"].weight == 0.5


def options(node, name):
    return next(item for item in node.define_schema().inputs if item.id == name).options


def objectives_offered():
    details = options(TrainerSettingsNode, "details")[1].inputs
    return next(item for item in details if item.id == "objective").options


def test_a_custom_node_that_loads_later_is_in_every_combo(welcomed, monkeypatch):
    assert "Gentle" not in objectives_offered()
    loads(monkeypatch)
    assert "Gentle" in objectives_offered() and "GRPO-Guard" in objectives_offered()
    assert "Loud" in options(Sampler, "kernel")
    corner = next(option for option in options(WindowNode, "strategy") if option.key == "Corner")
    assert [(item.id, item.default) for item in corner.inputs] == [("after", 10), ("late", True)]


def test_its_classes_are_chosen_and_written(welcomed, monkeypatch):
    loads(monkeypatch)
    chosen = {**BASE, "details": {"details": BY_HAND, "objective": "Gentle", "kernel": "Loud", "clip": 0.01}}
    assert TrainerSettingsNode.validate_inputs(**chosen) is True
    train = TrainerSettingsNode.execute(**chosen).args[0].train
    assert (type(train.objective).__name__, train.objective.clip, train.kernel.eta) == ("Gentle", 0.01, 0.2)
    written = {**BASE, "details": {"details": FROM_PRESET}, "more_settings": 'objective = "Gentle(share=0.25)"'}
    assert TrainerSettingsNode.execute(**written).args[0].train.objective.share == 0.25
    window = WindowNode.execute(
        start=0, size=3, steps=25, strategy={"strategy": "Corner", "after": 2, "late": True}
    ).args[0]
    assert [window.at(iteration, 25).start for iteration in (1, 2)] == [0, 21]


def test_a_run_notes_the_custom_node_and_says_when_it_is_missing(welcomed, monkeypatch, tmp_path):
    loads(monkeypatch)
    objective = kinds.SETTINGS.by_name()["Gentle"](share=0.75)
    RunFolder.create(tmp_path / "run", TrainConfig(objective=objective))
    assert json.loads((tmp_path / "run/config.json").read_text())["guests"] == {"Gentle": "gentle_x_pack"}
    assert stored(tmp_path / "run")["problems"] == []
    assert RunFolder.open(tmp_path / "run").settings.objective == objective

    monkeypatch.delitem(sys.modules, PLACE)
    monkeypatch.setattr(kinds, "_GUESTS", {})
    found = stored(tmp_path / "run")
    assert found["config"] is None
    [problem] = found["problems"]
    assert "uses Gentle of gentle_x_pack, which is not imported here" in problem and problem.count("\n") == 0


def test_an_unknown_name_is_looked_for_without_any_combo(welcomed, monkeypatch, tmp_path):
    """A run is read before anybody has looked at the nodes."""
    loads(monkeypatch)
    text = json.dumps({"format": 2, "started": "2026-11-01T12:00:00", "train": {"objective": "Gentle()"}, "setup": {}})
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text(text)
    assert stored(tmp_path / "run")["problems"] == []


@pytest.mark.parametrize(
    "source, words",
    [
        ("def mixgrpo_classes(core):\n    raise RuntimeError('no')", "RuntimeError: no"),
        ("def mixgrpo_classes(core):\n    return [int]", "int cannot be written into a run file"),
        ("def mixgrpo_classes(core):\n    return 3", "TypeError"),
    ],
)
def test_a_custom_node_that_fails_is_said_once_and_left_out(welcomed, monkeypatch, caplog, source, words):
    loads(monkeypatch, source)
    before = objectives_offered()
    assert objectives_offered() == before
    assert [record.message for record in caplog.records if "leaves out classes of" in record.message] != []
    assert words in caplog.text and caplog.text.count("leaves out classes of") == 1


def test_a_hook_that_asks_the_core_is_called_once(welcomed, monkeypatch):
    source = "asked = []\ndef mixgrpo_classes(core):\n    asked.append(1)\n"
    source += "    core.settings.config.from_dict({'kernel': 'FlowSDE()'})\n    return []"
    module = loads(monkeypatch, source)
    objectives_offered()
    assert module.asked == [1]


def test_a_label_that_is_taken_does_not_hide_ours(welcomed, monkeypatch):
    source = PACK.replace("share: float = 0.5", 'share: float = 0.5\n        label = "GRPO"')
    loads(monkeypatch, source)
    assert objectives_offered().count("GRPO") == 1 and "Gentle" in objectives_offered()


def test_the_readmes_custom_node_is_welcome_as_it_stands(welcomed, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "own-classes.md").read_text(encoding="utf-8")
    [code] = re.findall(r"<!-- example: custom node -->\n```python\n(.*?)```", text, re.DOTALL)
    loads(monkeypatch, code)
    assert "Gentle" in objectives_offered()
    assert "FirstThenLast" in [option.key for option in options(WindowNode, "strategy")]


def test_the_pack_looks_for_guests_when_it_is_loaded(monkeypatch):
    import asyncio

    from mixgrpo_pack import nodes

    monkeypatch.setattr(kinds, "_FINDERS", [])
    for name in ("register_folder", "register_routes"):
        monkeypatch.setattr(nodes, name, lambda *_: None)
    asyncio.run(nodes.MixGRPOExtension().on_load())
    assert [guests._find] == kinds._FINDERS


def test_the_windows_of_the_pack_have_their_words():
    assert [option.key for option in options(WindowNode, "strategy")][:4] == ["slide", "fixed", "random", "slow start"]
    assert FrozenWindow.label == "fixed"
