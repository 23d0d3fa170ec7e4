"""What decoding a group beside the rollout of the next one takes off the thread that rolls out, and what it costs.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/beside.py [--rounds 4]

One process, one thread for each kind of work, settings in turns, medians after an iteration that warms up. Seconds of
the clock on the wall want two cores with nothing else to do. Writes ``beside.md``.
"""

# ruff: noqa: E402
import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time, thread_time

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from tiny_sd3 import LETTERS
from tiny_sd3 import make_folder as tiny_folder

from mixgrpo_core import FrozenWindow, StepReport, TrainConfig, WindowPlanner, train
from mixgrpo_core.demo import demo_config, train_prompts
from mixgrpo_core.models import load_demo
from mixgrpo_core.models.diffusers.model import PipelineModel
from mixgrpo_core.models.families.sd3 import load_sd3
from mixgrpo_core.rewards import Reward, ShapeReward
from mixgrpo_core.rewards.pixels.measures import Brightness, More, PixelReward

PAGE = Path(__file__).with_suffix(".md")
CLOCKS = (thread_time, process_time, perf_counter)
"""Of this thread, of all of them, on the wall."""
HEAD = """# Decoding beside the rollouts

`benchmarks/beside.py`: seconds of an iteration on a CPU of two cores, one thread for the rollouts and all else, one for
the decoder (`OMP_NUM_THREADS=1`), settings in turns, medians of {rounds} iterations after one that warms up. By
`rollout_batch` groups are rolled out together: the fewer, the more is left to decode beside.

* *main thread*: CPU seconds without what was decoded beside: with two cores to itself an iteration takes no less;
* *both*: what all of it costs, smaller calls of the network included;
* *wall*: on a machine whose load, in processes, was {load}.

* the demo: 8 prompts of 12 images of 64 px, its own settings, so in bfloat16;
* an SD3 of random weights with a larger autoencoder: 4 prompts of 8 images of 128 px, 10 steps, float32.

| | rollout_batch | main thread, s | both, s | wall, s (range) | main / in turn | both / in turn |
|---|---|---|---|---|---|---|
"""
Case = tuple[PipelineModel, list[str], Mapping[str, Reward], TrainConfig]


def sd3_folder(path: Path) -> Path:
    """A pipeline whose decoder takes a fifth of an iteration."""
    tiny_folder(path)
    torch.manual_seed(0)
    SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=16,
        num_layers=2,
        attention_head_dim=32,
        num_attention_heads=4,
        caption_projection_dim=128,
        joint_attention_dim=32,
        pooled_projection_dim=20,
        pos_embed_max_size=32,
    ).save_pretrained(path / "transformer")
    AutoencoderKL(
        block_out_channels=(32,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=16,
        norm_num_groups=8,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).save_pretrained(path / "vae")
    return path


def demo() -> Case:
    config = replace(demo_config(), eval_every=0, guards=(), reward_weights={})
    return load_demo(), list(train_prompts()), {"shape": ShapeReward()}, config


def sd3(folder: Path) -> Case:
    config = TrainConfig(
        steps=10,
        images_per_prompt=8,
        prompts_per_iteration=4,
        updates=2,
        planner=WindowPlanner(window=FrozenWindow(size=2, start=0)),
        eval_every=0,
    )
    model = load_sd3(folder, rank=8, dtype=torch.float32)
    prompts = [f"{letter} red circle" for letter in LETTERS]
    return model, prompts, {"brightness": PixelReward(Brightness(), More())}, config


def begun(case: Case, batch: int, beside: bool, rounds: int) -> Iterator[StepReport]:
    model, prompts, rewards, config = case
    config = replace(config, iterations=rounds, rollout_batch=batch, decode_beside=beside)
    return train(model, prompts, rewards, config)


def table(name: str, settings: Mapping[tuple[int, bool], Case], rounds: int) -> list[str]:
    runs = {asked: begun(case, *asked, rounds + 1) for asked, case in settings.items()}
    found: dict[tuple[int, bool], list[tuple[float, ...]]] = {asked: [] for asked in runs}
    for number in range(rounds + 1):
        for asked, run in runs.items():
            before = [clock() for clock in CLOCKS]
            next(run)
            if number:
                found[asked].append(tuple(clock() - start for clock, start in zip(CLOCKS, before, strict=True)))
    lines, first = [], (0.0, 0.0)
    for (batch, beside), told in found.items():
        main, both, wall = (statistics.median(column) for column in zip(*told, strict=True))
        first = first if any(first) else (main, both)
        walls = [one[-1] for one in told]
        cells = [f"{name}, {'beside' if beside else 'in turn'}", str(batch), f"{main:.2f}", f"{both:.2f}"]
        cells += [f"{wall:.2f} ({min(walls):.2f}-{max(walls):.2f})", f"{main / first[0]:.2f}", f"{both / first[1]:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def load() -> str:
    return Path("/proc/loadavg").read_text(encoding="ascii").split()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    before = load()
    with tempfile.TemporaryDirectory() as place:
        folder = sd3_folder(Path(place) / "sd3")
        lines = table("an SD3", {asked: sd3(folder) for asked in ((32, False), (8, True), (16, True))}, rounds)
        lines += table("the demo", {asked: demo() for asked in ((96, False), (24, True), (48, True))}, rounds)
    head = HEAD.format(rounds=rounds, load=f"{before} before and {load()} after")
    after = PAGE.read_text(encoding="utf-8").partition("\n## ")[2] if PAGE.exists() else ""
    PAGE.write_text(head + "\n".join([*lines, "", *([f"## {after}"] if after else [])]), encoding="utf-8")


if __name__ == "__main__":
    main()
