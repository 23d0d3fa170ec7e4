"""Training on the canvas against training headless: seconds per iteration of the demo; and what loading the pack costs.

    OMP_NUM_THREADS=1 .host/venv/bin/python benchmarks/canvas.py [--comfyui FOLDER] [--seeds 3] [--iterations 10]

All in one process of the host's Python and by the same core: the demo model in diffusers (``mixgrpo demo``), the same
model as a MODEL of ComfyUI, and that with the live view's observer. The three take turns, one iteration each, in an
order that changes; a difference is between iterations that do the same work, one after another. Writes ``canvas.md``
and ``canvas.json``.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from host_here import ROOT, begin

HERE = Path(__file__).parent
HEADLESS, CANVAS, LIVE = "headless", "canvas", "canvas, live view"
WAYS = (HEADLESS, CANVAS, LIVE)
PHASES = ("rollout", "decode", "reward", "train")
WORK = "all, processor time"
"""What other work on the machine changes little."""
WARM_UP = 1
"""Iterations of each training that are left out: the first one makes the process's buffers."""

LOADING = """
import asyncio, json, resource, sys, time
comfyui, pack = sys.argv[1:]
sys.path.insert(0, comfyui)
sys.argv[1:] = ["--cpu", "--disable-api-nodes"]
import comfy.options
comfy.options.enable_args_parsing()
import execution, nodes, server
server.PromptServer(asyncio.new_event_loop())
import comfy_api.latest, comfy_extras.nodes_custom_sampler

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

modules, memory, begin = set(sys.modules), resident(), time.perf_counter()
assert asyncio.run(nodes.load_custom_node(pack))
loaded = time.perf_counter()
for name in [name for name in nodes.NODE_CLASS_MAPPINGS if name.startswith("MixGRPO_")]:
    nodes.NODE_CLASS_MAPPINGS[name].GET_NODE_INFO_V1()
told = time.perf_counter()
print(json.dumps({"load": loaded - begin, "describe": told - loaded, "memory": resident() - memory,
                  "modules": len(set(sys.modules) - modules)}))
"""


def trainings(seed: int, iterations: int, folder: Path, stack: ExitStack) -> dict[str, Iterator[Any]]:
    """The same training in three ways, as generators of reports."""
    from mixgrpo_pack.mixgrpo_core.demo import demo_config, train_prompts
    from mixgrpo_pack.mixgrpo_core.models.families.demo import load_demo
    from mixgrpo_pack.mixgrpo_core.rewards.shapes import ShapeReward
    from mixgrpo_pack.mixgrpo_core.sampling.planners import WindowPlanner
    from mixgrpo_pack.mixgrpo_core.sampling.windows import SlidingWindow
    from mixgrpo_pack.mixgrpo_core.training.loop import train
    from mixgrpo_pack.mixgrpo_core.training.pace import Pace
    from mixgrpo_pack.mixgrpo_core.training.workload import Workload
    from mixgrpo_pack.nodes.live.board import LiveRun

    demo = demo_config(iterations=iterations, seed=seed)
    config = replace(
        demo,
        steps=25,
        planner=WindowPlanner(window=SlidingWindow(size=4, stride=1, hold=5, last=3), tail_ratio=0.4),
        learning_rate=5e-4,
        updates=4,
        rollout_batch=16,
        decode_batch=16,
        update_batch=16,
        decode_dtype="float32",  # the canvas decodes in the host's own
        eval_every=0,
        reward_weights={},
    )
    live = LiveRun(
        run="benchmark",
        node="1",
        folder=folder,
        iterations=iterations,
        plan_of=config.plan,
        sigmas=config.sigmas(),
        pace=Pace(Workload(config)),
    )

    def reports(model: Any, **watched: Any) -> Iterator[Any]:
        return train(model, train_prompts(), {"shape": ShapeReward()}, config, **watched)

    return {
        HEADLESS: reports(load_demo(seed=seed)),
        CANVAS: reports(stack.enter_context(host_model(seed))),
        LIVE: reports(stack.enter_context(host_model(seed)), observer=stack.enter_context(live)),
    }


def host_model(seed: int) -> Any:
    """The demo model as the trainer's node makes it from what the Demo Model node hands on."""
    import torch
    from mixgrpo_pack.mixgrpo_core.demo import train_prompts
    from mixgrpo_pack.mixgrpo_core.models.facts import FACTS as FAMILIES
    from mixgrpo_pack.nodes.demo import load_clip, load_model, load_vae
    from mixgrpo_pack.nodes.host.model import HostModel
    from mixgrpo_pack.nodes.host.texts import PromptSet

    with torch.inference_mode():  # as nodes run
        model, clip, vae = load_model(), load_clip(), load_vae()
    prompts = PromptSet(train=train_prompts(), held_out=(), negative="", clip=clip)
    side = FAMILIES["demo"].side
    size = {"width": side, "height": side}
    return HostModel(model, vae, prompts, **size, rank=8, alpha=16, seed=seed, checkpointing=False)


def measure(seeds: int, iterations: int) -> list[dict[str, Any]]:
    """One entry per iteration: its seed, its number, and per way the seconds by phase and in all."""
    import torch

    found = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack, torch.inference_mode():
            with torch.inference_mode(False):
                running = trainings(seed, iterations + WARM_UP, Path(folder), stack)
            for iteration in range(iterations + WARM_UP):
                turn = (seed + iteration) % len(WAYS)
                taken = {way: timed(running[way]) for way in (*WAYS[turn:], *WAYS[:turn])}
                rewards = [taken[way].pop("reward_mean") for way in WAYS]
                if max(rewards) - min(rewards) > 0.02:
                    raise RuntimeError(f"expected the same training in every way, found rewards {rewards}")
                if iteration >= WARM_UP:
                    found.append({"seed": seed, "iteration": iteration, **taken})
                    print(f"seed {seed}, iteration {iteration}: {described(taken)}", flush=True)
            for training in running.values():
                training.close()
    return found


def timed(training: Iterator[Any]) -> dict[str, float]:
    begin, worked = time.perf_counter(), time.process_time()
    report = next(training)
    whole, work = time.perf_counter() - begin, time.process_time() - worked
    return {**report.seconds, "all": whole, WORK: work, "reward_mean": report.rewards["shape"].mean}


def described(taken: Mapping[str, Mapping[str, float]]) -> str:
    return ", ".join(f"{way} {seconds['all']:.2f} s ({seconds[WORK]:.2f})" for way, seconds in taken.items())


def loading(comfyui: Path, repeats: int) -> list[dict[str, float]]:
    """Time and memory of loading the pack in a fresh process that has loaded the rest of ComfyUI."""
    found = []
    for _ in range(repeats):
        command = [sys.executable, "-c", LOADING, str(comfyui.resolve()), str(ROOT)]
        result = subprocess.run(command, capture_output=True, text=True, cwd=comfyui, check=True)
        found.append(json.loads(result.stdout.strip().splitlines()[-1]))
    return found


def middle(values: Sequence[float]) -> tuple[float, float, float]:
    """Median and quartiles."""
    low, median, high = statistics.quantiles(values, n=4)
    return median, low, high


def spread(values: Sequence[float], digits: int = 2) -> str:
    median, low, high = middle(values)
    return f"{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Seconds per iteration by phase: medians with quartiles, and the median of the differences pair by pair."""
    lines = [f"| phase | {' | '.join(WAYS)} | canvas / headless | live view / canvas |", "|---|---|---|---|---|---|"]
    for phase in (*PHASES, "all", WORK):
        columns = [spread([entry[way][phase] for entry in found]) for way in WAYS]
        ratios = [
            spread([entry[way][phase] / entry[against][phase] for entry in found])
            for way, against in ((CANVAS, HEADLESS), (LIVE, CANVAS))
        ]
        lines.append(f"| {phase} | {' | '.join((*columns, *ratios))} |")
    return "\n".join(lines)


def loading_words(found: Sequence[Mapping[str, float]]) -> str:
    load = spread([entry["load"] for entry in found])
    describe = spread([1000 * entry["describe"] for entry in found], 0)
    memory = spread([entry["memory"] / 2**20 for entry in found], 1)
    return (
        f"Loading the pack in a fresh process, after the rest of ComfyUI: {load} s, {memory} MiB of memory, "
        f"{found[0]['modules']} modules; describing all nodes to the browser: {describe} ms. "
        f"{len(found)} processes."
    )


def machine() -> dict[str, Any]:
    import torch
    from comfyui_version import __version__ as comfyui

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "comfyui": comfyui,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comfyui", type=Path, default=ROOT / ".host" / "ComfyUI-0.30.0", help="folder of a ComfyUI")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind")
    parser.add_argument("--iterations", type=int, default=10, help="timed iterations of each training")
    parser.add_argument("--loads", type=int, default=7, help="processes that load the pack")
    parser.add_argument("--out", type=Path, default=HERE, help="where canvas.md and canvas.json go")
    options = parser.parse_args()
    begin(options.comfyui)
    about = machine()
    found = measure(options.seeds, options.iterations)
    loads = loading(options.comfyui, options.loads)
    text = (
        f"# On the canvas and headless\n\n{table(found)}\n\n"
        f"Seconds per iteration of the demo (96 images), medians with quartiles of {len(found)} iterations of "
        f"{options.seeds} seeds; the ratios are of iterations that do the same work one after another. "
        f"ComfyUI {about['comfyui']}, torch {about['torch']}, {about['threads']} thread of {about['cores']} cores, "
        f"load {about['load_before']:.1f} before.\n\n{loading_words(loads)}\n"
    )
    (options.out / "canvas.md").write_text(text)
    (options.out / "canvas.json").write_text(json.dumps({"machine": about, "iterations": found, "loading": loads}))
    print(text)


if __name__ == "__main__":
    main()
