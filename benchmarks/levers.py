"""Three levers, each alone: compiled blocks, a decoder in channels-last, a LoRA that is merged for rollouts.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/levers.py [--flux]

CPU seconds of one thread and one process, medians of rounds in turns; the machine may be shared. The first one needs
a C++ compiler. With ``--flux`` a tiny FLUX is measured, too. Writes ``levers.md``.
"""

# ruff: noqa: E402
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch
import torch._inductor.config
from peft.tuners.lora import LoraLayer
from tiny_pipelines import make_folder as pipeline_folder
from tiny_pipelines import opened
from tiny_sd3 import stir
from torch import Tensor

from mixgrpo_core import FlowSDE
from mixgrpo_core.models.diffusers.model import PipelineModel
from mixgrpo_core.models.families.demo import load_demo

ROUNDS = 5
ROWS = (12, 48)
PROMPT = "a small red circle on the left"
PAGE = Path(__file__).with_suffix(".md")
HEAD = """# Compiled blocks, channels-last, a merged LoRA

`benchmarks/levers.py`: CPU milliseconds a row or image on one thread, medians of {rounds} rounds in turns on a machine
that may be shared; compare within a line. *Off by* is the largest difference of velocities, of gradients or of pixels,
over the largest of these numbers; *first ratio*: how far the ratio is off 1 where a rollout is trained as it is without
the lever. The LoRAs have weights of a size that shows.

* *compiled*: `torch.compile` of each repeated block for any number of rows (`dynamic=True`), by {compiler}. *To begin*:
  seconds until the first call is done.
* *merged*: the LoRA is added to the frozen weights for a rollout and taken out for the update; *to begin*: both, once.
* *channels-last*: weights of the decoder in that layout.
"""


@dataclass(frozen=True)
class Measured:
    """Seconds as it is and with a lever, how far results are apart, and what it takes to begin."""

    plain: float
    changed: float
    off: str
    begins: float = 0.0

    @property
    def cells(self) -> str:
        return f"{self.plain:.2f} | {self.changed:.2f} | {self.changed / self.plain:.2f} | {self.off}"


def seconds(work: Callable[[], object]) -> float:
    begun = process_time()
    work()
    return process_time() - begun


def all_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process and of those that it starts: a compiler."""
    begun = sum(os.times()[:4])
    work()
    return sum(os.times()[:4]) - begun


def in_turns(*works: Callable[[], object]) -> list[float]:
    """The median of each."""
    for work in works:
        work()
    found = [[seconds(work) for work in works] for _ in range(ROUNDS)]
    return [statistics.median(column) for column in zip(*found, strict=True)]


def forward(model: PipelineModel, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.run([model.encode(PROMPT)], lambda velocity: velocity(x, torch.tensor(0.7)))


def backward(model: PipelineModel, x: Tensor) -> Tensor:
    """The gradients, in one row."""
    model.run([model.encode(PROMPT)], lambda velocity: velocity(x, torch.tensor(0.7)).square().mean().backward())
    found = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    for parameter in model.parameters():
        parameter.grad = None
    return found


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / one.abs().max())


def told(one: Tensor, other: Tensor) -> str:
    return f"{apart(one, other):.0e}"


def compiled(make: Callable[[], PipelineModel], rows: int) -> list[Measured]:
    """Forward, and forward with its backward pass."""
    plain, changed = make(), make()
    x = plain.noise(0, rows)
    for blocks in changed._network.network.children():
        for block in blocks if isinstance(blocks, torch.nn.ModuleList) else ():
            block.compile(dynamic=True)
    found = []
    for work in (forward, backward):
        torch._dynamo.reset()
        begins = all_seconds(lambda work=work: work(changed, x))
        spent = in_turns(lambda work=work: work(plain, x), lambda work=work: work(changed, x))
        found.append(Measured(*(1e3 * s / rows for s in spent), told(work(plain, x), work(changed, x)), begins))
    return found


def channels_last(make: Callable[[], PipelineModel], rows: int) -> Measured:
    plain, changed = make(), make()
    plain._pipe.vae.to(memory_format=torch.contiguous_format)  # a model has the other one as it is made
    x = plain.noise(0, rows)
    spent = in_turns(lambda: plain.decode(x), lambda: changed.decode(x))
    return Measured(*(1e3 * s / rows for s in spent), told(plain.decode(x), changed.decode(x)))


@torch.no_grad()
def merge(model: PipelineModel, sign: float) -> None:
    """Add the LoRA to the weights that it lies over, or take it out again."""
    for layer in model._network.network.modules():
        if isinstance(layer, LoraLayer):
            down, up = layer.lora_A["mixgrpo"].weight, layer.lora_B["mixgrpo"].weight
            layer.get_base_layer().weight.add_(up @ down, alpha=sign * layer.scaling["mixgrpo"])
            layer.enable_adapters(sign < 0)


def ratio_off(x: Tensor, old: Tensor, new: Tensor) -> float:
    """How far the first ratios of a group are off 1 where it was rolled out by ``old`` and is trained by ``new``."""
    kernel = FlowSDE(eta=0.7)
    before, after = (kernel(x, v, 0.7, 0.66) for v in (old, new))
    x_next = before.sample(torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
    return float((after.log_prob(x_next) - before.log_prob(x_next)).exp().sub(1).abs().max())


def merged(make: Callable[[], PipelineModel], rows: int) -> Measured:
    plain, changed = make(), make()
    x = plain.noise(0, rows)

    def in_and_out() -> None:
        merge(changed, 1.0)
        merge(changed, -1.0)

    [begins] = in_turns(in_and_out)
    merge(changed, 1.0)
    spent = in_turns(lambda: forward(plain, x), lambda: forward(changed, x))
    one, other = forward(plain, x), forward(changed, x)
    off = f"{apart(one, other):.0e} (first ratio {ratio_off(x, other, one):.0e})"
    return Measured(*(1e3 * s / rows for s in spent), off, begins)


def lines(cases: dict[str, Callable[[], PipelineModel]], compiler: str | None) -> Sequence[str]:
    head = "without, ms | with it, ms | ratio | off by"
    table = [f"| model, rows | lever | {head} | to begin, s |", "|---|---|---|---|---|---|---|"]
    for name, make in cases.items():
        for rows in ROWS:
            found: list[tuple[str, Measured]] = []
            if compiler and rows == ROWS[0]:
                parts = compiled(make, rows)
                found += zip(("compiled, forward", "compiled, forward and backward"), parts, strict=True)
            found.append(("merged, forward", merged(make, rows)))
            if rows == ROWS[0]:
                found.append(("channels-last, decoding", channels_last(make, rows)))
            for lever, one in found:
                table.append(
                    f"| {name}, {rows} | {lever} | {one.cells} | {f'{one.begins:.2g}' if one.begins else ''} |"
                )
                print(table[-1], flush=True)
    return table


def main() -> None:
    torch.set_num_threads(1)
    torch._inductor.config.compile_threads = 1  # so that its seconds are this process's
    compiler = shutil.which("g++") or shutil.which("clang++")
    with tempfile.TemporaryDirectory() as folder:
        cases = {"the demo, an SD3": lambda: stir(load_demo(), size=0.05)}
        if "--flux" in sys.argv:
            flux = pipeline_folder("flux-dev", Path(folder) / "flux")
            cases["a tiny FLUX"] = lambda: stir(opened(flux), size=0.05)
        table = lines(cases, compiler)
    head = HEAD.format(rounds=ROUNDS, compiler=f"`{Path(compiler).name}`" if compiler else "no compiler: none is here")
    after = PAGE.read_text(encoding="utf-8").partition("\n## ")[2] if PAGE.exists() else ""
    PAGE.write_text("\n".join([head, *table, "", *([f"## {after}"] if after else [])]), encoding="utf-8")


if __name__ == "__main__":
    main()
