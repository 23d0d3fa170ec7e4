"""Mutated run files, up to where training begins, and one iteration of the small ones that are taken."""

import contextlib
import json
import math
from dataclasses import replace

from toy import Red, ToyModel

from campaigns import mutations
from campaigns.told import TOLD
from mixgrpo_core.cli import training
from mixgrpo_core.models.families.sd3 import load_sd3
from mixgrpo_core.settings.config import TrainConfig, to_dict
from mixgrpo_core.settings.presets import PRESETS
from mixgrpo_core.training.loop import train

PROMPTS = [
    "a small red circle on the left",
    "a large blue cross in the middle",
    "a small green square at the top",
    "a large yellow circle on the right",
]
SMALL = {"iterations": 1, "steps": 5, "images_per_prompt": 2, "prompts_per_iteration": 1, "updates": 1, "eval_every": 0}
SEEDS = (
    {
        "out": "run",
        "prompts": {"train": PROMPTS[:2], "held_out": PROMPTS[2:3]},
        "rewards": {"shape": "ShapeReward()"},
        "train": SMALL,
    },
    {
        "model": {"folder": "demo", "rank": 2, "alpha": 4.0, "guidance": 1.0, "dtype": "float32", "device": "cpu"},
        "prompts": {"train": "prompts.txt", "held_out_share": 0.25},
        "rewards": {
            "light": "PixelReward(Brightness(), Near(0.4))",
            "gated": "Gated(ShapeReward(), by=PixelReward(Contrast()), least=0.1)",
        },
        "train": {name: value for name, value in {**to_dict(TrainConfig()), **SMALL}.items() if value is not None},
    },
    {
        "preset": "mixgrpo",
        "prompts": {"train": PROMPTS[:3]},
        "rewards": {"shape": "ShapeReward()", "votes": "HumanVote()"},
        "train": {**SMALL, "reward_weights": {"shape": 1.0, "votes": 0.5}, "credit": ["WeightedAdvantages()"]},
    },
)


class Accepted(Exception):
    """All checks are passed and the run folder is made: training would begin."""


class RunFiles:
    told = TOLD

    def open(self):
        with contextlib.suppress(ValueError):
            load_sd3("nothing")  # libraries that write into the folder for temporary files when they are imported

        def drive(settings, run, model, rewards, console):
            raise Accepted(settings)

        training.drive = drive

    def write(self, folder, chance):
        (folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
        given = chance.choice(SEEDS)
        if "preset" in given:
            given = {**given, "preset": chance.choice(sorted(PRESETS))}
        given = toml(mutations.value(chance, given)) if chance.random() < 0.75 else mutations.text(chance, toml(given))
        given = given.replace("prompts.txt", str(folder / "prompts.txt"))
        (folder / "run.toml").write_bytes(mutations.encoded(chance, given))

    def take(self, folder):
        try:
            training.train_command([str(folder / "run.toml"), "--out", str(folder / "made")])
        except Accepted as accepted:
            return _begun(accepted.args[0])
        raise AssertionError("neither taken nor refused")


def _begun(settings):
    """One iteration on a toy, where it is a small one."""
    config = replace(settings.train, iterations=1)
    work = (config.images_per_prompt, config.prompts_per_iteration, config.steps, config.updates, config.epochs)
    held_out = config.eval_images * (config.eval_steps or config.steps)
    if math.prod(work) + (held_out if config.eval_every else 0) > 500:
        return "taken; too large to begin here"
    names = [name for name in settings.rewards if config.reward_weights.get(name, 1.0) > 0]
    rewards = {name: Red() for name in names}
    prompts = settings.make_prompts()
    for _ in train(ToyModel(), prompts.train[:4], rewards, config, held_out=prompts.held_out[:2]):
        pass
    return "taken, and begun"


def toml(value, top=True):
    """TOML of JSON values; ``None``, which it has not, is left out."""
    if isinstance(value, dict):
        items = [(key, item) for key, item in value.items() if item is not None]
        if not top:
            return "{" + ", ".join(f"{json.dumps(key)} = {toml(item, False)}" for key, item in items) + "}"
        plain = [(key, item) for key, item in items if not isinstance(item, dict)]
        lines = [f"{json.dumps(key)} = {toml(item, False)}" for key, item in plain]
        for key, item in items:
            if isinstance(item, dict):
                inner = [f"{json.dumps(k)} = {toml(v, False)}" for k, v in item.items() if v is not None]
                lines += [f"[{json.dumps(key)}]", *inner]
        return "\n".join(lines) + "\n"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item, False) for item in value if item is not None) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**300:
        return "1" + "0" * 400
    return mutations.dumps(value, ensure_ascii=False)
