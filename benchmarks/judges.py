"""Requests in flight and images per second of a judge behind an address.

    .venv/bin/python benchmarks/judges.py [--seconds 0.3] [--images 32] [--repeats 3]

The judge is a server on this machine that takes a fixed time for every answer, however many are asked for at once, as a
server with room in its batch does. One by one is a loop over images; the others hand a group to `JudgeReward` and let
its client keep so many questions in flight. Client and server share one Python. Writes ``judges.md`` and
``judges.json``.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import torch
from judge_server import Asked, JudgeServer, Reply, says
from mixgrpo_judge import Endpoint, OpenAIChat

from mixgrpo_core.rewards.judges import JudgeReward, UnifiedReward2
from mixgrpo_core.rewards.port import RewardBatch

HERE = Path(__file__).resolve().parent
CONCURRENCY = (1, 4, 16)
ONE_BY_ONE = "one by one"
ANSWER = "Alignment Score (1-5): 3.25\nCoherence Score (1-5): 3.5\nStyle Score (1-5): 3.0"


def group(images: int, side: int, seed: int) -> RewardBatch:
    """Noise that is smooth enough to make JPEG files of an ordinary size."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((images, 3, side // 8, side // 8), generator=generator)
    fine = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)
    return RewardBatch(images=fine.movedim(1, -1), prompts=("a red circle",) * images)


def one_by_one(reward: JudgeReward, batch: RewardBatch) -> None:
    for image, prompt in zip(batch.images, batch.prompts, strict=True):
        scored(reward, RewardBatch(images=image[None], prompts=(prompt,)))


def scored(reward: JudgeReward, batch: RewardBatch) -> None:
    found = reward(batch)
    if not bool(found.valid.all()):
        raise RuntimeError(f"expected a score for every image, found: {found.note}")


def measure(seconds: float, images: int, side: int, repeats: int) -> list[dict[str, Any]]:
    """One entry per way and repeat; the ways take turns."""
    found = []

    def reply(asked: Asked) -> Reply:
        return says(ANSWER, delay=seconds)

    ways: list[tuple[str, int, Callable[[JudgeReward, RewardBatch], None]]] = [
        (ONE_BY_ONE, 1, one_by_one),
        *((f"{most} in flight", most, scored) for most in CONCURRENCY),
    ]
    for repeat in range(repeats):
        for way, most, run in ways:
            with JudgeServer(reply) as server:
                endpoint = Endpoint(name="benchmark", url=server.url, model="judge", concurrency=most)
                reward = JudgeReward(chat=OpenAIChat(endpoint), mode=UnifiedReward2())
                batch = group(images, side, seed=repeat)
                reward.prepare([])
                begin = time.perf_counter()
                run(reward, batch)
                taken = time.perf_counter() - begin
                begin = time.perf_counter()
                scored(reward, batch)  # everything is known by now
                again = time.perf_counter() - begin
                entry = {"way": way, "seconds": taken, "again": again, "in_flight": server.most_in_flight}
                found.append({**entry, "requests": len(server.asked)})
                print(f"{way}: {taken:.2f} s, {server.most_in_flight} in flight, again {again:.2f} s", flush=True)
    return found


def table(found: Sequence[Mapping[str, Any]], images: int) -> str:
    ways = list(dict.fromkeys(entry["way"] for entry in found))
    speed = {
        way: statistics.median(images / entry["seconds"] for entry in found if entry["way"] == way) for way in ways
    }
    lines = ["| | most in flight | images per second | against one by one | asked again |", "|---|---|---|---|---|"]
    for way in ways:
        entries = [entry for entry in found if entry["way"] == way]
        again = statistics.median(images / entry["again"] for entry in entries)
        flying = max(entry["in_flight"] for entry in entries)
        lines.append(f"| {way} | {flying} | {speed[way]:.2f} | {speed[way] / speed[ONE_BY_ONE]:.1f} | {again:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.3, help="that the judge takes for an answer")
    parser.add_argument("--images", type=int, default=32, help="of a group")
    parser.add_argument("--side", type=int, default=512, help="of an image, in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE, help="where judges.md and judges.json go")
    options = parser.parse_args()
    about = {"python": platform.python_version(), "cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
    about |= {"service_seconds": options.seconds, "images": options.images, "side": options.side}
    found = measure(options.seconds, options.images, options.side, options.repeats)
    text = (
        f"# Judges behind an address\n\n{table(found, options.images)}\n\n"
        f"A group of {options.images} images of {options.side} x {options.side}; the judge takes {options.seconds:g} s "
        f"for an answer, so one at a time can be at most {1 / options.seconds:.2f} images per second. Medians of "
        f"{options.repeats}. *Asked again* is the same group a second time, in images per second: answers are "
        "remembered, and what is left is making the JPEG files. Client and server share one Python on "
        f"{about['cores']} cores, load {about['load_before']:.1f} before.\n"
    )
    (options.out / "judges.md").write_text(text)
    (options.out / "judges.json").write_text(json.dumps({"machine": about, "runs": found}))
    print(text)


if __name__ == "__main__":
    main()
