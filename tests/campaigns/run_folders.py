"""Mutated files of a run folder - settings, reports, checkpoints, LoRAs - and the run gone on with all the same.

The policy is the toy; what the reports and the checkpoints hold decides nothing of it but where it goes on. So unless
the settings were changed, a resume that is not refused ends in the LoRA of the run that nothing had come between.
"""

import json
import shutil
import warnings
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch
from toy import Red, ToyModel

from campaigns import mutations
from campaigns.told import TOLD
from mixgrpo_core.cli.settings import from_values
from mixgrpo_core.cli.training import from_run
from mixgrpo_core.runs.folder import RunFolder
from mixgrpo_core.sampling.planners import WindowPlanner
from mixgrpo_core.sampling.windows import FrozenWindow
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.training.loop import train

PROMPTS, HELD_OUT = ["a red circle", "a blue square", "green"], ["a yellow star"]
CONFIG = TrainConfig(
    iterations=4,
    seed=3,
    steps=4,
    images_per_prompt=3,
    prompts_per_iteration=1,
    updates=1,
    eval_every=2,
    eval_images=1,
    checkpoint_every=1,
    keep=3,
    ema=0.8,
    learning_rate=0.01,
    planner=WindowPlanner(window=FrozenWindow(size=2, start=0)),
)
OLDER = Path(__file__).resolve().parents[1] / "data" / "run_before_stages"


def trained(run, config=CONFIG, stop=None, seed=0):
    """The LoRA after the run, or after ``stop`` iterations of it."""
    model = ToyModel(seed)
    with closing(train(model, PROMPTS, {"red": Red()}, config, held_out=HELD_OUT, run=run)) as reports:
        for report in reports:
            if report.iteration + 1 == stop:
                break
    return {name: tensor.clone() for name, tensor in model.lora_state().items()}


class RunFolders:
    told = TOLD

    def __init__(self, folder):
        self.half, self.asked = folder / "half", folder / "asked"
        self.expected = trained(RunFolder.create(folder / "whole", CONFIG))
        trained(RunFolder.create(self.half, CONFIG), stop=3)
        settings = from_values(
            {
                "prompts": {"train": PROMPTS, "held_out": HELD_OUT},
                "rewards": {"shape": "ShapeReward()"},
                "train": {"iterations": 4, "steps": 5},
            }
        )
        RunFolder.create(self.asked, settings.train, settings.setup())

    def write(self, folder, chance):
        kind = chance.choice(("half",) * 4 + ("asked", "older"))
        shutil.copytree({"half": self.half, "asked": self.asked, "older": OLDER}[kind], folder / kind)
        files = sorted(path for path in (folder / kind).rglob("*") if path.is_file() and path.name != ".lock")
        if kind != "half":
            files = [folder / kind / "config.json"]
        for path in chance.sample(files, min(len(files), chance.choice((1, 1, 2, 3)))):
            self._harm(path, chance)

    def _harm(self, path, chance):
        what = chance.randrange(12)
        if what == 0:
            path.unlink()
        elif what == 1:
            path.unlink()
            path.mkdir()
        elif what == 2:
            path.with_name(f".{path.name}.x1.tmp").write_bytes(path.read_bytes()[: chance.randrange(200)])
        elif what == 3 and path.suffix == ".safetensors":
            other = chance.choice(("000099", "1", "-1", "last", "9" * 30, "best\u00e9"))
            path.rename(path.with_name(f"{other}.safetensors"))
        else:
            path.write_bytes(_changed(path, chance))

    def take(self, folder):
        (place,) = folder.iterdir()
        if place.name != "half":
            return self._read(place)
        run = RunFolder.open(place)
        config = run.settings
        before = json.loads((self.half / "config.json").read_text())
        if replace(config, iterations=4) != CONFIG and _size(config) > 2000:
            return "taken; too large to go on with"
        if config.iterations > 12:
            return "taken; too long to go on with"
        with warnings.catch_warnings(record=True):
            found = trained(run, config, seed=1)
        if run.config.get("train") == before["train"]:
            different = [name for name in found if not torch.equal(found[name], self.expected[name])]
            assert not different, f"it went on elsewhere: {different}"
            left = [path.name for path in place.rglob(".*") if "tmp" in path.name]
            assert not left, f"left behind: {left}"
        return "gone on with"

    def _read(self, place):
        run = RunFolder.open(place)
        if place.name == "older":
            run.settings  # noqa: B018
            return "an older one"
        settings = from_run(run)
        settings.make_prompts()
        settings.make_rewards()
        return "read"


def _size(config):
    return config.images_per_prompt * config.prompts_per_iteration * config.steps * config.updates * config.epochs


def _changed(path, chance):
    given = path.read_bytes()
    if path.suffix == ".safetensors":
        return mutations.safetensors(chance, given)
    if path.suffix == ".png":
        return mutations.data(chance, given)
    if path.suffix == ".json" and chance.random() < 0.6:
        return mutations.dumps(mutations.value(chance, json.loads(given))).encode()
    if path.suffix == ".jsonl" and chance.random() < 0.6:
        lines = [json.loads(line) for line in given.splitlines()]
        at = chance.randrange(len(lines))
        lines[at] = mutations.value(chance, lines[at])
        return "".join(mutations.dumps(line) + "\n" for line in lines).encode()
    return mutations.encoded(chance, mutations.text(chance, given.decode()))
