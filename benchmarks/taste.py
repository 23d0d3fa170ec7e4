"""Measures `TasteReward` with simulated voters on the demo model; writes ``benchmarks/taste.json``. One core, minutes.

    python benchmarks/taste.py agreement     # held-out agreement against the number of votes, asked and random images
    python benchmarks/taste.py run [SEED ..] # a run that is voted on, beside one that has the honest reward

A voter looks at the honest reward of the shapes: thumb up above 0.5, and errs with a given probability. The taste sees
colours and edges only, which have nothing to do with the detector behind that reward.
"""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from demo_runs import fixed_rate_demo

from mixgrpo_core.demo import held_out_prompts, train_prompts
from mixgrpo_core.models import load_demo
from mixgrpo_core.rewards import HumanVote, RewardBatch, Scores, ShapeReward, TasteReward
from mixgrpo_core.rewards.taste import ColoursAndEdges
from mixgrpo_core.rewards.taste.asking import telling
from mixgrpo_core.rewards.taste.head import fitted
from mixgrpo_core.rewards.taste.looks import Look
from mixgrpo_core.rewards.taste.opinions import Opinions
from mixgrpo_core.sampling.ode import decode, sample
from mixgrpo_core.support.seeds import derive_seed
from mixgrpo_core.training.loop import train

OUT = Path(__file__).with_name("taste.json")
VOTES, WRONG, SEEDS, PER_GROUP, LIKED = (8, 16, 32, 64, 128), (0.0, 0.1, 0.25), (0, 1, 2), 4, 0.5


def groups(prompts, first_seed: int, images: int = 8):
    """Prompt, features and honest scores of base images."""
    model, look, reward = load_demo(), Look(ColoursAndEdges()), ShapeReward()
    model.prepare(list(prompts))
    sigmas, found = model.grid(10), []
    for number, prompt in enumerate(prompts):
        noise = model.noise(first_seed + number, images)
        pictures = decode(model, sample(model, model.encode(prompt), noise, sigmas), 8)
        scores = reward(RewardBatch(images=pictures, prompts=(prompt,) * images)).values
        found.append((prompt, look.features(pictures), scores))
    return found


def thumbs(scores, wrong: float, generator) -> torch.Tensor:
    up = (scores > LIKED) ^ (torch.rand(len(scores), generator=generator) < wrong)
    return torch.where(up, 1.0, -1.0)


def judged(head, held_out) -> dict[str, float]:
    """Agreement with honest thumbs on held-out prompts, share of pairs in order."""
    right = total = ordered = pairs = up = 0
    for prompt, features, scores in held_out:
        said, liked = head.logits(features, (prompt,) * len(scores)).mean(0), scores > LIKED
        right, total, up = right + int(((said > 0) == liked).sum()), total + len(scores), up + int(liked.sum())
        gaps = (said[:, None] - said)[liked[:, None] & ~liked[None]]
        ordered, pairs = ordered + int((gaps > 0).sum()), pairs + len(gaps)
    return {"right": right / total, "majority": max(up, total - up) / total, "ordered": ordered / pairs}


def learning(train_groups, held_out, *, wrong: float, asked: bool, seed: int) -> list[dict[str, Any]]:
    """A group at a time: four of its images are voted on, those that tell most or any."""
    generator = torch.Generator().manual_seed(derive_seed("voter", seed, str(wrong)))
    order = torch.randperm(len(train_groups), generator=generator).tolist()
    parts, rows, head = [], [], None
    for count, place in enumerate(order[: max(VOTES) // PER_GROUP], 1):
        prompt, features, scores = train_groups[place]
        if asked and head is not None:
            shown = telling(head.logits(features, (prompt,) * len(scores)), PER_GROUP)
        else:
            shown = torch.randperm(len(scores), generator=generator)[:PER_GROUP].tolist()
        values = thumbs(scores[shown], wrong, generator)
        parts.append(Opinions.of_group(features[shown], values, prompt, ranked=False))
        known = Opinions.joined(parts)
        if len(known.thumbs.unique()) == 2 and (asked or count * PER_GROUP in VOTES):
            head = fitted(known, conditioned=True)
            if count * PER_GROUP in VOTES:
                rows.append({"votes": count * PER_GROUP, **judged(head, held_out)})
    return [{"wrong": wrong, "asked": asked, "seed": seed, **row} for row in rows]


def agreement() -> list[dict[str, Any]]:
    training, held_out = groups(train_prompts(), 0), groups(held_out_prompts(), 10**6)
    rows = []
    for wrong in WRONG:
        for asked in (False, True):
            for seed in SEEDS:
                rows += learning(training, held_out, wrong=wrong, asked=asked, seed=seed)
                print(rows[-1], flush=True)
    return rows


@dataclass(frozen=True)
class Voter(HumanVote):
    """Somebody who votes at once, as the honest reward says."""

    wrong: float = 0.0

    def prepare(self, prompts) -> None:
        """It asks nobody."""

    def __call__(self, batch: RewardBatch) -> Scores:
        generator = torch.Generator().manual_seed(derive_seed("voter", batch.context.seed or 0))
        values = thumbs(ShapeReward()(batch).values, self.wrong, generator)
        return Scores(values, torch.ones(len(values), dtype=torch.bool), abstained=True)


TASTES = {
    f"taste, {4 * groups} votes, caution {caution:g}": TasteReward(ask=Voter(), asked=4, most=groups, caution=caution)
    for groups, caution in ((16, 0.0), (16, 1.0), (16, 2.0), (32, 0.0))
}


def runs(seeds, iterations: int = 30) -> list[dict[str, Any]]:
    rows = []
    for seed in seeds:
        rewards: Mapping[str, Any] = {
            "honest": {"shape": ShapeReward()},
            **{name: {"taste": taste, "shape": ShapeReward()} for name, taste in TASTES.items()},
        }
        for name, made in rewards.items():
            weights = {reward: float(len(made) == 1 or reward != "shape") for reward in made}
            config = replace(
                fixed_rate_demo(iterations=iterations, seed=seed), reward_weights=weights, eval_every=6, eval_images=4
            )
            model, start, curve, asked, warned = load_demo(seed=seed), time.perf_counter(), {}, 0.0, []
            for report in train(model, train_prompts(), made, config, held_out=held_out_prompts()):
                curve |= {e.iteration: {n: s.mean for n, s in e.rewards.items()} for e in report.evaluations}
                asked = report.update.figures.get("taste_groups_asked", 0.0)
                warned += [[report.iteration, str(alarm)] for alarm in report.warnings]
            row = {"reward": name, "seed": seed, "groups_asked": asked, "seconds": time.perf_counter() - start}
            rows.append({**row, "held_out": curve, "warnings": warned})
            print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    what = sys.argv[1]
    found = json.loads(OUT.read_text()) if OUT.exists() else {}
    measured = agreement() if what == "agreement" else runs(list(map(int, sys.argv[2:])) or SEEDS)
    OUT.write_text(json.dumps(found | {what: measured}, indent=1) + "\n")
