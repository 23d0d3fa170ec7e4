"""Training through ComfyUI on a GPU, with random models of real sizes: memory, time, first ratio, restoration.

    <ComfyUI's python> benchmarks/gpu/canvas_training.py /path/of/ComfyUI
    <ComfyUI's python> benchmarks/gpu/canvas_training.py /path/of/ComfyUI --cases sd3:bf16 flux:float8_e4m3fn
    <ComfyUI's python> benchmarks/gpu/canvas_training.py /path/of/ComfyUI --tiny            a minute on a CPU

Every case runs in a process of its own: files of random weights are written once, loaded by the host's own loader under
its own memory management, sampled, trained for two iterations with a reward on pixels, and sampled again. Writes
``results.json`` and ``results.md`` to ``--out`` and goes on after a case that fails.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from one_case import Case

HERE = Path(__file__).resolve().parent
CASES = ("sd3:bf16", "sd3:float8_e4m3fn", "flux:bf16", "flux:float8_e4m3fn")
PHASES = ("rollout", "decode", "reward", "train")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comfyui", type=Path, help="folder of a ComfyUI 0.30 or newer; run this with its Python")
    parser.add_argument("--cases", nargs="+", default=CASES, help="model:format, model sd3 or flux, format bf16 or ...")
    parser.add_argument("--host-args", default="", help='for ComfyUI, such as --host-args="--reserve-vram 60"')
    parser.add_argument("--tiny", action="store_true", help="tiny models on the CPU: does everything run?")
    parser.add_argument("--side", type=int, default=512, help="pixels of a side")
    parser.add_argument("--rank", type=int, default=32, help="of the LoRA")
    parser.add_argument("--iterations", type=int, default=2, help="of the training")
    parser.add_argument("--images", type=int, default=4, help="per prompt")
    parser.add_argument("--prompts", type=int, default=2, help="per iteration")
    parser.add_argument("--steps", type=int, default=10, help="denoising steps")
    parser.add_argument("--rollout-batch", type=int, default=4, help="images per call in rollouts")
    parser.add_argument("--update-batch", type=int, default=1, help="images per forward and backward")
    parser.add_argument("--no-checkpointing", action="store_true", help="keep all activations for the backward pass")
    parser.add_argument("--brief", action="store_true", help="without the matrix peak and the profiler")
    parser.add_argument("--work", type=Path, help="keeps the files of weights (up to 50 GB); else they are temporary")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where the findings go")
    return parser.parse_args()


def cases(options: argparse.Namespace, work: Path) -> list[Case]:
    shared: dict[str, Any] = {
        "comfyui": str(options.comfyui.resolve()),
        "work": str(work),
        "host_arguments": [*options.host_args.split(), *(["--cpu"] if options.tiny else [])],
        "tiny": options.tiny,
        "side": 64 if options.tiny else options.side,
        "rank": 2 if options.tiny else options.rank,
        "iterations": options.iterations,
        "images": options.images,
        "prompts": options.prompts,
        "steps": 4 if options.tiny else options.steps,
        "rollout_batch": options.rollout_batch,
        "update_batch": options.update_batch,
        "checkpointing": not options.no_checkpointing,
        "brief": options.brief,
    }
    pairs = [name.split(":") for name in options.cases]
    return [
        Case(**shared, model=model, form=form, out=str(work / f"{model}-{form}.found.json")) for model, form in pairs
    ]


def findings(case: Case) -> dict[str, Any]:
    """What a process of its own finds, or its last words."""
    Path(case.out).unlink(missing_ok=True)
    command = [sys.executable, str(HERE / "one_case.py"), json.dumps(asdict(case))]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode == 0:
        return json.loads(Path(case.out).read_text())
    last = result.stderr.strip().splitlines()[-15:]
    return {"case": asdict(case), "failed": f"exit status {result.returncode}", "last_words": last}


COLUMNS = (
    "case",
    "weights",
    "model GB",
    "least resident GB",
    "peak GB (torch / device)",
    "first ratio off 1 by",
    *(f"{phase} s" for phase in PHASES),
    "update / matrix peak",
    "computed GB",
    "waits",
    "base restored",
)


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """One line per case; seconds are those of the last iteration."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for entry in found:
        name = Case(**entry["case"]).name
        if "failed" in entry:
            blank = " |" * (len(COLUMNS) - 2)
            lines.append(
                f"| {name} | {entry['failed']}: {entry['last_words'][-1] if entry['last_words'] else ''} |{blank}"
            )
            continue
        seconds = entry["seconds"][-1]
        cells = [
            name,
            entry["weights"],
            gigabytes(entry["model_bytes"]),
            gigabytes(entry["least_resident_bytes"]),
            f"{gigabytes(entry['peak_torch_bytes'])} / {gigabytes(entry['peak_device_bytes'])}",
            f"{max(entry['ratio_first']):.1e}",
            *(f"{seconds.get(phase, 0):.2f}" for phase in PHASES),
            *held_against(entry),
            restored(entry),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def held_against(entry: Mapping[str, Any]) -> list[str]:
    """The share of the matrix peak, the computed memory, and the waits."""
    if "waits" not in entry:
        return ["-"] * 3
    waits = ", ".join(f"{name.removeprefix('aten::')} {count}" for name, count in entry["waits"].items())
    return [f"{share_of_peak(entry):.0%}", gigabytes(entry["predicted_bytes"]), waits]


def share_of_peak(entry: Mapping[str, Any]) -> float:
    """Of the update of the last iteration: its counted operations in its seconds, over those of plain products."""
    counted = entry["operations_of_an_image"] * entry["images_trained"][-1]
    return counted / max(entry["seconds"][-1].get("train", 0.0), 1e-9) / entry["matrix_peak"]


def gigabytes(count: int | None) -> str:
    return "-" if not count else f"{count / 1e9:.2f}"


def restored(entry: Mapping[str, Any]) -> str:
    """Bit for bit; where the base does not even repeat itself, nothing can be said."""
    if not entry["repeatable"]:
        return "does not repeat itself"
    return "yes" if entry["restored"] else "NO"


def main() -> None:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        found = []
        for case in cases(options, work.resolve()):
            print(f"{case.name} ...", flush=True)
            found.append(findings(case))
            (options.out / "results.json").write_text(json.dumps(found, indent=1))
            (options.out / "results.md").write_text(f"# Training through ComfyUI\n\n{table(found)}\n")
    print(table(found))
    sys.exit(any("failed" in entry for entry in found))


if __name__ == "__main__":
    main()
