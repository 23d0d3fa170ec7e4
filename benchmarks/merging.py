"""Measures `mixgrpo merge-loras` on two LoRAs of the demo model; writes ``benchmarks/merging.json``. One core, minutes.

    python benchmarks/merging.py [seeds]

One LoRA is trained for the colour, on captions of what is on the left or on the right; another for the shape, on those
of what is at the top or at the bottom. What is in the middle is for both. A figure is the mean of a skill, 0 to 1, over
captions that nobody was trained on, 16 images each, by the plain ODE.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from demo_runs import fixed_rate_demo

from mixgrpo_core.models import load_demo
from mixgrpo_core.models.lora_file import LoraFile
from mixgrpo_core.models.lora_joining import joined
from mixgrpo_core.models.lora_names import UP
from mixgrpo_core.models.port import FlowModel, LoraState
from mixgrpo_core.rewards import RewardBatch, Scores
from mixgrpo_core.rewards.port import Reward
from mixgrpo_core.rewards.shapes import ShapeAdherence
from mixgrpo_core.sampling.ode import decode, sample
from mixgrpo_core.shapes.captions import COLOURS, SHAPES, Caption, split_captions
from mixgrpo_core.shapes.detector import detect
from mixgrpo_core.training.loop import train
from mixgrpo_core.training.merging.loop import MergeConfig, Teacher, merge

OUT = Path(__file__).with_name("merging.json")
KINDS = {"colour": ("left", "right"), "shape": ("top", "bottom"), "both": ("middle",)}
ITERATIONS, UPDATES, IMAGES = 24, 120, 16


@dataclass(frozen=True)
class Part:
    """One half of the honest reward: the colour, or the shape, of what is one whole figure."""

    colour: bool

    def prepare(self, prompts: tuple[str, ...]) -> None: ...

    def __call__(self, batch: RewardBatch) -> Scores:
        found, captions = detect(batch.images), [Caption.parse(prompt) for prompt in batch.prompts]
        if self.colour:
            wanted = torch.tensor([COLOURS.index(caption.colour) for caption in captions])
            term = torch.exp(-(found.colour_distance.gather(1, wanted[:, None])[:, 0] / 0.35).square())
        else:
            wanted = torch.tensor([SHAPES.index(caption.shape) for caption in captions])
            iou = found.shape_iou.gather(1, wanted[:, None])[:, 0]
            sure = (12 * found.shape_iou).softmax(1).gather(1, wanted[:, None])[:, 0]
            term = sure * ((iou - 0.4) / 0.5).clamp(0, 1)
        whole = torch.exp(-((found.spread - 0.05).clamp(min=0) / 0.15).square()) * found.share
        return Scores(term * whole, found.valid)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


REWARDS: dict[str, Reward] = {"colour": Part(True), "shape": Part(False), "adherence": ShapeAdherence()}


def captions(part: int) -> dict[str, list[str]]:
    """By kind; of the training captions (0) or of those that are held out (1)."""
    found = split_captions()[part]
    return {kind: [str(one) for one in found if one.place in places] for kind, places in KINDS.items()}


def taught(skill: str, seed: int) -> LoraFile:
    """A LoRA of that skill, trained on its captions."""
    config = replace(
        fixed_rate_demo(iterations=ITERATIONS, seed=seed), reward_weights={skill: 1.0}, eval_every=0, guards=()
    )
    model = load_demo(seed=seed)
    for _report in train(model, captions(0)[skill], {skill: REWARDS[skill]}, config):
        pass
    scale = model.lora_about.scale
    state = {name: tensor.clone() * (scale if name.endswith(UP) else 1) for name, tensor in model.lora_state().items()}
    return LoraFile(state=state, metadata={}, rank=8)


def in_the_models_terms(model: FlowModel, state: LoraState) -> LoraState:
    return {name: tensor / model.lora_about.scale if name.endswith(UP) else tensor for name, tensor in state.items()}


@torch.no_grad()
def skills(model: FlowModel, weights: LoraState | None) -> dict[str, dict[str, float]]:
    """By kind of caption, the mean of each skill."""
    found, sigmas = {}, model.grid(25)
    with model.with_weights(weights):
        for kind, prompts in captions(1).items():
            means = []
            for number, prompt in enumerate(prompts):
                latents = sample(model, model.encode(prompt), model.noise(10**6 + number, IMAGES), sigmas)
                batch = RewardBatch(images=decode(model, latents, IMAGES), prompts=(prompt,) * IMAGES)
                means.append([float(reward(batch).values.mean()) for reward in REWARDS.values()])
            found[kind] = dict(zip(REWARDS, torch.tensor(means).mean(0).tolist(), strict=True))
    return found


def student(files: Mapping[str, LoraFile], seed: int, *, both: bool) -> tuple[LoraState, dict[str, float]]:
    """The LoRA of a student, and how much of the way to each teacher was left. ``both``: the middle is for both."""
    model, prompts = load_demo(seed=100 + seed), captions(0)
    teachers = [
        Teacher(
            name=name,
            weights=in_the_models_terms(model, file.state),
            prompts=prompts[name] + (prompts["both"] if both else []),
        )
        for name, file in files.items()
    ]
    *_, last = merge(model, teachers, MergeConfig(updates=UPDATES, look_every=UPDATES, seed=seed))
    return {name: tensor.clone() for name, tensor in model.lora_state().items()}, dict(last.distances)


def ways(files: Mapping[str, LoraFile], model: FlowModel, seed: int) -> Iterator[tuple[str, LoraState | None, Any]]:
    """What is compared: a label, the weights, the distances that were left."""
    both = list(files.values())
    yield "base", None, None
    for name, file in files.items():
        yield f"{name} alone", in_the_models_terms(model, file.state), None
    yield "average", in_the_models_terms(model, joined(both, [0.5, 0.5])), None
    yield "concatenated", in_the_models_terms(model, joined(both, [1.0, 1.0])), None
    for label, shared in (("trained", False), ("trained, middle for both", True)):
        yield label, *student(files, seed, both=shared)


def main(seeds: int) -> None:
    model, rows = load_demo(), []
    model.prepare([prompt for prompts in captions(1).values() for prompt in prompts])
    for seed in range(seeds):
        files = {skill: taught(skill, seed) for skill in ("colour", "shape")}
        start = time.process_time()
        for label, weights, left in ways(files, model, seed):
            row = {"way": label, "seed": seed, "left": left, "seconds": time.process_time() - start}
            rows.append(row | {"skills": skills(model, weights)})
            print(json.dumps(rows[-1]), flush=True)
            OUT.write_text(json.dumps({"updates": UPDATES, "iterations": ITERATIONS, "rows": rows}, indent=1) + "\n")
            start = time.process_time()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
