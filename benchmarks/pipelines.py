"""What a velocity out of a diffusers pipeline's own call costs besides the network, on tiny pipelines and a CPU.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/pipelines.py

The CPU seconds of a velocity without those of the network's forward in it, both of the same calls: milliseconds that do
not grow with the network. Two rows of one prompt, guidance off and on. Writes ``pipelines.md``.
"""

# ruff: noqa: E402
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import tiny_edits
import torch
from tiny_edits import EDITS
from tiny_edits import SIDE as EDITED
from tiny_pipelines import PIPELINES, SIDE, make_folder, opened
from torch import Tensor

CALLS, PROMPT = 60, "a red circle"


def milliseconds(folder: Path, guidance: float) -> tuple[float, float]:
    """Medians of what the network takes, and of what is around it."""
    edits = folder.name in EDITS
    model = opened(folder, guidance=guidance, resolution=(EDITED,) * 2 if edits else (SIDE,) * 2)
    if edits or model.family.reads_pictures:
        model.take_pictures({PROMPT: torch.rand(EDITED, EDITED, 3)})
    network, inside = model._network.network, []
    network.forward = timed(network.forward, inside)
    x, outside = model.noise(0, 2), []

    def body(velocity: Callable[..., Tensor]) -> None:
        for _ in range(CALLS):
            inside.clear()
            begun = time.process_time()
            with torch.no_grad():
                velocity(x, torch.tensor(0.5))
            outside.append((sum(inside), time.process_time() - begun - sum(inside)))

    model.run([model.encode(PROMPT)], body)
    return tuple(1000 * statistics.median(each) for each in zip(*outside, strict=True))


def timed(forward: Callable[..., Any], inside: list[float]) -> Callable[..., Any]:
    @wraps(forward)
    def heard(*args: Any, **kwargs: Any) -> Any:
        begun = time.process_time()
        made = forward(*args, **kwargs)
        inside.append(time.process_time() - begun)
        return made

    return heard


def main() -> None:
    torch.set_num_threads(1)
    rows = ["| pipeline | guidance | network, ms | around it, ms |", "| --- | --- | --- | --- |"]
    with tempfile.TemporaryDirectory() as place:
        for name in ("sd3", *PIPELINES, *EDITS):
            folder = (tiny_edits.make_folder if name in EDITS else make_folder)(name, Path(place) / name)
            for guidance in (1.0, 3.0):
                try:
                    network, around = milliseconds(folder, guidance)
                except ValueError:  # it has none
                    continue
                rows.append(f"| {name} | {guidance:g} | {network:.1f} | {around:.1f} |")
                print(rows[-1], flush=True)
    words = "Tiny random pipelines, two rows of one prompt, one thread, medians of 60 calls of one run; other work ran."
    (ROOT / "benchmarks" / "pipelines.md").write_text(
        f"# What a pipeline's own call costs beside its network\n\n{words}\n\n" + "\n".join(rows) + "\n"
    )


if __name__ == "__main__":
    main()
