"""Speed and memory of the local reward networks at full size, with random weights: the same on a CPU and a GPU.

    .venv/bin/python benchmarks/reward_models.py [--images 8] [--device cuda] [--cases HPSv2 ImageReward] [--tiny]

Every case is a process of its own: it reads a file in the real layout, embeds prompts, releases the text network, and
scores images one by one and in one batch, three times each, in turns. Writes ``reward_models.md`` and ``.json``.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from reward_files_full import CASES, Case

from mixgrpo_core.rewards.networks.places import Resident
from mixgrpo_core.rewards.port import Reward, RewardBatch, about

HERE = Path(__file__).resolve().parent
SIDE = 512
ROUNDS = 3
PROMPTS = ("portrait of an old fisherman, window light", "a small red circle on the left")


def main() -> int:
    options = _options()
    if options.case:
        print(json.dumps(measured(CASES[options.case], options)))
        return 0
    found = []
    for name in options.cases or CASES:
        with tempfile.TemporaryDirectory() as folder:
            CASES[name].write(Path(folder), options.tiny)
            flags = ["--case", name, "--folder", folder, "--images", str(options.images), "--device", options.device]
            run = subprocess.run([sys.executable, __file__, *flags], capture_output=True, text=True)
            if run.returncode:
                print(run.stderr[-2000:], file=sys.stderr)
                return 1
            size = sum(file.stat().st_size for file in Path(folder).iterdir())
        found.append({"case": name, "file_bytes": size, **json.loads(run.stdout.splitlines()[-1])})
        print(_row(found[-1]), flush=True)
    where = torch.cuda.get_device_name() if options.device.startswith("cuda") else f"{os.cpu_count()} CPU cores"
    options.out.mkdir(parents=True, exist_ok=True)
    content = {"where": where, "torch": torch.__version__, "images": options.images, "side": SIDE, "cases": found}
    (options.out / "reward_models.json").write_text(json.dumps(content, indent=1) + "\n")
    (options.out / "reward_models.md").write_text(_table(content))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cases", nargs="*", choices=list(CASES))
    parser.add_argument("--tiny", action="store_true", help="networks of a few layers, to try the script")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--case", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def measured(case: Case, options: argparse.Namespace) -> dict[str, float]:
    """Figures of one case, in this process."""
    device = torch.device(options.device)
    images = torch.rand(options.images, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0)).to(device)
    import transformers  # noqa: F401 - its own memory and time are not the network's

    before = _memory(device)
    reward = case.make(options.folder, Resident(options.device), options.images)
    started = time.perf_counter()
    reward.prepare(PROMPTS)
    prepared = time.perf_counter() - started
    while_preparing = _peak(device) - before
    _score(reward, images[:1])  # the image network is read
    kept = _memory(device) - before
    alone, together = _rates(reward, images, device)
    return {
        "prepare_seconds": prepared,
        "declared_bytes": about(reward).memory,
        "peak_preparing_bytes": while_preparing,
        "kept_bytes": kept,
        "images_per_second_alone": alone,
        "images_per_second_together": together,
        "largest_difference": _difference(reward, images),
    }


def _rates(reward: Reward, images: torch.Tensor, device: torch.device) -> tuple[float, float]:
    """Images per second one by one and in one batch: the median of rounds that take turns."""
    alone, together = [], []
    for _ in range(ROUNDS):
        for seconds, batches in ((alone, images.split(1)), (together, (images,))):
            started = time.perf_counter()
            for batch in batches:
                _score(reward, batch)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - started)
    return tuple(len(images) / sorted(seconds)[ROUNDS // 2] for seconds in (alone, together))


def _score(reward: Reward, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return reward(RewardBatch(images=images, prompts=PROMPTS[:1] * len(images))).values


def _difference(reward: Reward, images: torch.Tensor) -> float:
    """Of the scores alone and together: the batch decides nothing but rounding."""
    together = _score(reward, images)
    return float((torch.cat([_score(reward, image) for image in images.split(1)]) - together).abs().max())


def _memory(device: torch.device) -> int:
    """Bytes that live now: of tensors on a GPU, of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _peak(device: torch.device) -> int:
    """The most bytes that lived so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    lines = Path("/proc/self/status").read_text().splitlines()  # getrusage's maximum is the parent's, too
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


COLUMNS = ("reward", "file", "peak while texts are embedded", "kept after that", "declared", "seconds to prepare")
COLUMNS += ("one by one", "in one batch", "gain")


def _row(found: dict) -> str:
    alone, together = found["images_per_second_alone"], found["images_per_second_together"]
    names = ("file_bytes", "peak_preparing_bytes", "kept_bytes", "declared_bytes")
    sizes = [f"{found[name] / 1e9:.2f} GB" for name in names]
    rates = [f"{alone:.3g} images/s", f"{together:.3g} images/s", f"{together / alone:.2f}"]
    return _line(found["case"], *sizes, format(found["prepare_seconds"], ".1f"), *rates)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _table(content: dict) -> str:
    words = (
        f"{content['where']}, torch {content['torch']}, {content['images']} images of {content['side']} x "
        f"{content['side']}; random weights at full size, median of {ROUNDS} rounds. Memory beside what the process "
        "had before; on a CPU it is that of the process, with what reading a file takes.\n"
    )
    lines = [_line(*COLUMNS), _line(*("---" for _ in COLUMNS)), *(_row(found) for found in content["cases"])]
    return words + "\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
