"""Measures `mixgrpo align` on simulated votes of the demo model; writes ``benchmarks/align.json``. One core, minutes.

    python benchmarks/align.py

64 training prompts x 8 images, thumbs by the honest reward (up above 0.5): the same votes for every form and seed. The
figure is the honest reward of 32 held-out prompts x 4 images, and the better images' own error on pairs held out.
"""

import json
import sys
import time
from pathlib import Path

import torch

from mixgrpo_core.demo import held_out_prompts, train_prompts
from mixgrpo_core.models import load_demo
from mixgrpo_core.rewards import RewardBatch, ShapeReward
from mixgrpo_core.rewards.port import Origin
from mixgrpo_core.sampling.ode import decode, sample
from mixgrpo_core.support.seeds import derive_seed
from mixgrpo_core.training.align.forms import DPO, NFT, PNAPO, Form, Ups
from mixgrpo_core.training.align.loop import AlignConfig, align
from mixgrpo_core.training.align.voted import Voted

OUT = Path(__file__).with_name("align.json")
FORMS: dict[str, Form] = {
    "nft": NFT(),
    "ups only": Ups(),
    "dpo, beta 2000": DPO(),
    "dpo, beta 100": DPO(beta=100.0),
    "pnapo, beta 2000": PNAPO(),
}
SEEDS = (0, 1, 2)


def votes() -> list[Voted]:
    """Each image begins with noise of its own, as a rollout without shared noise makes them."""
    model, reward, found = load_demo(), ShapeReward(), []
    prompts = train_prompts()[::2]
    model.prepare(list(prompts))
    sigmas = model.grid(10)
    for number, prompt in enumerate(prompts):
        noise = model.noise(derive_seed(number, "start"), 8)
        latents = sample(model, model.encode(prompt), noise, sigmas)
        scores = reward(RewardBatch(images=decode(model, latents, 8), prompts=(prompt,) * 8)).values
        origin = Origin(seed=number, sigmas=sigmas, model=model.digest, starts=8)
        shares = (scores > 0.5).float()
        found.append(Voted(name=str(number), prompt=prompt, latents=latents, shares=shares, origin=origin))
    return found


def honest(model) -> float:
    reward, scores = ShapeReward(), []
    model.prepare(list(held_out_prompts()))
    sigmas = model.grid(25)
    for number, prompt in enumerate(held_out_prompts()):
        latents = sample(model, model.encode(prompt), model.noise(10**6 + number, 4), sigmas)
        scores.append(reward(RewardBatch(images=decode(model, latents, 4), prompts=(prompt,) * 4)).values)
    return float(torch.cat(scores).mean())


def main(updates: int) -> None:
    voted, rows = votes(), []
    rows.append({"form": "before", "held_out": honest(load_demo())})
    for seed in SEEDS:
        for name, form in FORMS.items():
            model, start = load_demo(seed=seed), time.process_time()
            config = AlignConfig(updates=updates, levels=3, look_every=updates, seed=seed)
            *_, last = align(model, voted, form, config)
            seconds = time.process_time() - start
            look = {"accuracy": last.look.accuracy, "better": last.look.better}
            rows.append({"form": name, "seed": seed, "seconds": seconds, "held_out": honest(model), **look})
            print(rows[-1], flush=True)
            OUT.write_text(json.dumps({"updates": updates, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 80)
