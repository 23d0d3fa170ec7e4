"""The demo's settings: MixGRPO-Flash sized for the demo model and two CPU cores."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from .evaluation.guards import Collapse, DiversityLoss, HeldOutFall, PixelDrift
from .objectives.own_step import AUTO
from .sampling.planners import WindowPlanner
from .sampling.windows import SlidingWindow
from .settings.config import TrainConfig
from .settings.presets import mixgrpo_flash
from .shapes.captions import COLOURS, Caption, split_captions
from .shapes.drawing import draw


def demo_config(*, iterations: int | None = None, seed: int = 0) -> TrainConfig:
    """Settings with which the demo model learns to listen to its captions within two minutes.

    The published window would stand still in a run this short: here it moves every 10 iterations, up to step 2 (later
    steps decide about detail, of which this model has little). Images are learned from in 10 steps and looked at in 25.
    The rate sets itself, so that fewer iterations do. The untrained model draws another colour or shape than asked for
    every other time: what images lose in diversity is mostly that.
    """
    return replace(
        mixgrpo_flash(),
        iterations=35 if iterations is None else iterations,
        seed=seed,
        steps=10,
        images_per_prompt=12,
        prompts_per_iteration=8,
        planner=WindowPlanner(window=SlidingWindow(size=3, stride=1, hold=10, last=2), tail_ratio=0.4),
        reward_weights={"shape": 1.0, "adherence": 0.0, "clean": 0.0},
        learning_rate=AUTO,
        updates=8,
        rollout_batch=96,
        decode_batch=96,
        update_batch=48,
        decode_dtype="auto",
        eval_every=7,
        eval_images=3,
        eval_steps=25,
        guards=(HeldOutFall(), DiversityLoss(warn=0.2), PixelDrift(), Collapse()),
    )


def train_prompts() -> tuple[str, ...]:
    """The 128 training captions."""
    return tuple(str(caption) for caption in split_captions()[0])


def held_out_prompts() -> tuple[str, ...]:
    """The 32 captions that are never trained on."""
    return tuple(str(caption) for caption in split_captions()[1])


def write_edits(folder: str | Path, *, seed: int = 0) -> tuple[Path, Path]:
    """Pictures to repaint, for the demo's edit twin: two .jsonl files of prompts, to train on and held out.

    Each prompt is a caption; its picture is that drawing in another colour, and its mask is where the figure lies.
    """
    folder, choice = Path(folder), np.random.default_rng(seed)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    files = []
    for name, captions in zip(("train", "held_out"), split_captions(), strict=True):
        rows = [_edit(folder, f"{name}_{number:03d}", caption, choice) for number, caption in enumerate(captions)]
        files.append(folder / f"{name}.jsonl")
        files[-1].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return files[0], files[1]


def _edit(folder: Path, name: str, caption: Caption, choice: np.random.Generator) -> dict[str, str]:
    others = [colour for colour in COLOURS if colour != caption.colour]
    numbers = int(choice.integers(2**31))
    before = replace(caption, colour=others[choice.integers(len(others))])
    drawn = [draw(one, np.random.default_rng(numbers)).astype(int) for one in (before, caption)]
    figure = np.abs(drawn[0] - drawn[1]).max(-1) > 0
    Image.fromarray(drawn[0].astype(np.uint8)).save(folder / "pictures" / f"{name}.png")
    Image.fromarray(figure.astype(np.uint8) * 255).save(folder / "pictures" / f"{name}_mask.png")
    return {"prompt": str(caption), "image": f"pictures/{name}.png", "mask": f"pictures/{name}_mask.png"}
