"""What a row of the demo model takes by the rows of its call, and what calls of several prompts save an iteration.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/rows.py

CPU seconds of one thread, medians of interleaved rounds: the machine may be shared. "Before" is the same code with a
model that says of any two prompts that they cannot go into one call. The bare calls are those that an iteration made of
the network, of the VAE and of the reward, made again with the same numbers and nothing around them. "Foretold" is what
one timed step says of the iteration before it is begun, as `mixgrpo plan`, `mixgrpo train` and the trainer's node have
it; "by a group" is what Fit Check makes of one group and its update. Writes ``rows.md``.
"""

# ruff: noqa: E402
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import process_time
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch
from demo_runs import fixed_rate_demo
from tiny_pipelines import make_folder, opened
from torch import Tensor

from mixgrpo_core.demo import demo_config, train_prompts
from mixgrpo_core.models.diffusers.model import PipelineModel
from mixgrpo_core.models.families.demo import load_demo
from mixgrpo_core.rewards.port import RewardBatch, Scores
from mixgrpo_core.rewards.shapes import ShapeReward
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.support import phases
from mixgrpo_core.training import timed_step
from mixgrpo_core.training.decoding import BFLOAT16, may_be_lower
from mixgrpo_core.training.loop import train
from mixgrpo_core.training.workload import Rates, Timed, Workload

timed_step.time = phases.time = SimpleNamespace(perf_counter=process_time)  # the machine may be shared
ROWS = (1, 2, 4, 8, 12, 16, 24, 48)
HEAD = """# Rows of a call

`benchmarks/rows.py`: what a row takes by the rows of its call, and what calls of several prompts save an iteration. CPU
seconds of one thread, medians of interleaved rounds on a shared machine; compare within a table. *Before*: prompts have
calls of their own. *Over bare calls*: an iteration and the start of its run, over its calls of network, VAE and
reward alone. *Foretold*: by one timed step, before the iteration is begun, as `mixgrpo plan`, `mixgrpo train` and the
trainer's node say it. *By a group*: by one group and its update, as Fit Check says it."""
PAGE = Path(__file__).with_suffix(".md")


class Apart:
    """A model whose prompts have calls of their own."""

    def __init__(self, model: PipelineModel) -> None:
        self._model, self._numbers = model, count()

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)

    def kind(self, cond: object) -> int:
        return next(self._numbers)


class Recorded:
    """A model and a reward that keep what they are asked, to be asked again."""

    def __init__(self, model: PipelineModel) -> None:
        self._model, self._reward, self.again = model, ShapeReward(), []
        self.calls: list[tuple[int, bool]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)

    def run(self, conds: Sequence[object], body: Callable) -> object:
        def inside(velocity: Callable) -> object:
            def kept(x: Tensor, sigma: Tensor, rows: Tensor | None = None) -> Tensor:
                trained = torch.is_grad_enabled()
                self.calls.append((len(x), trained))
                self.again.append(lambda: self._asked(conds, x.detach(), sigma, rows, trained))
                return velocity(x, sigma, rows)

            return body(kept)

        return self._model.run(conds, inside)

    def _asked(self, conds: Sequence[object], x: Tensor, sigma: Tensor, rows: Tensor | None, trained: bool) -> None:
        def body(velocity: Callable) -> None:
            v = velocity(x, sigma, rows)
            if trained:
                v.backward(v.detach())

        with torch.set_grad_enabled(trained):
            self._model.run(conds, body)

    def decode(self, x: Tensor, *, grad: bool = False) -> Tensor:
        self.again.append(lambda: self._model.decode(x))
        return self._model.decode(x)

    def decode_low(self, x: Tensor) -> Tensor:
        self.again.append(lambda: self._model.decode_low(x))
        return self._model.decode_low(x)

    def prepare(self, prompts: Sequence[str]) -> None:
        self._model.prepare(prompts)

    def score(self, batch: RewardBatch) -> Scores:
        kept = batch.copy()
        self.again.append(lambda: self._reward(kept))
        return self._reward(batch)


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds."""
    begun = process_time()
    work()
    return process_time() - begun


def medians(works: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Of each, in turns."""
    found = [[seconds(work) for work in works] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*found, strict=True)]


def by_rows(model: PipelineModel) -> str:
    """A table of milliseconds per row."""
    sigma, conds = torch.tensor(0.7), [model.encode(prompt) for prompt in train_prompts()[:8]]

    def forward(x: Tensor, own: Tensor) -> None:
        with torch.no_grad():
            model.run(conds, lambda velocity: velocity(x, sigma, own))

    def trained(x: Tensor, own: Tensor) -> None:
        model.run(conds, lambda velocity: velocity(x, sigma, own).square().mean().backward())

    asked = [(model.noise(0, rows), torch.arange(rows) % len(conds)) for rows in ROWS]
    works = [lambda f=f, a=a: f(*a) for a in asked for f in (forward, trained)]
    found = medians(works, 9)
    lines = [
        "| rows of a call | forward, ms a row | with its backward pass, ms a row | backward / forward |",
        "|---|---|---|---|",
    ]
    for rows, plain, both in zip(ROWS, found[::2], found[1::2], strict=True):
        lines.append(f"| {rows} | {1e3 * plain / rows:.2f} | {1e3 * both / rows:.2f} | {both / plain - 1:.2f} |")
    return "\n".join(lines)


def iteration(config: TrainConfig, model: object, reward: object) -> None:
    """One iteration, its probe included; what it learns is thrown away."""
    before = {name: tensor.clone() for name, tensor in model.lora_state().items()}
    for _ in train(model, train_prompts(), {"shape": reward}, config):
        pass
    model.load_lora_state(before)


def of_an_iteration(name: str, config: TrainConfig, model: PipelineModel, rounds: int) -> str:
    """A row of the table."""
    kept = [Recorded(model), Recorded(Apart(model))]
    for one in kept:
        heard = type("Heard", (ShapeReward,), {"__call__": lambda _, batch, one=one: one.score(batch)})
        iteration(config, one, heard())

    def bare() -> None:
        for again in kept[0].again:
            again()

    works = [
        lambda: iteration(config, model, ShapeReward()),
        lambda: iteration(config, Apart(model), ShapeReward()),
        bare,
    ]
    now, before, calls = medians(works, rounds)
    model.prepare(train_prompts()[:1])
    rewards = {"shape": ShapeReward()}
    low = may_be_lower(config, model, rewards)
    rates = timed_step.rates_of_a_step(model, train_prompts()[0], config, rewards, low=low)
    work, group = Workload(config, shown=0), by_a_group(config, model)
    foretold, checked = work.alone(0, 1, rates), work.alone(0, 1, group)
    rows = sum(count for count, _ in kept[0].calls)
    return (
        f"| {name} | {rows} | {len(kept[1].calls)} | {len(kept[0].calls)} | {before:.2f} | {now:.2f} "
        f"| {now / before:.2f} | {now / calls - 1:+.1%} | {foretold / now:.2f} | {checked / now:.2f} |"
    )


def by_a_group(config: TrainConfig, model: PipelineModel) -> Rates:
    """The rates that Fit Check has."""
    trial = replace(config, iterations=1, prompts_per_iteration=1, updates=1, eval_every=0)
    before = {name: tensor.clone() for name, tensor in model.lora_state().items()}
    [report] = train(model, train_prompts()[:1], {"shape": ShapeReward()}, trial)
    model.load_lora_state(before)
    low = report.decoded.get("dtype") == BFLOAT16
    step = timed_step.rates_of_a_step(model, train_prompts()[0], trial, {"shape": ShapeReward()}, low=low)
    return step if report.flat_groups else Workload(trial, shown=0).measured(Timed.of(report), step)


def of_a_run(model: PipelineModel) -> str:
    """A sentence on the demo's iterations after the first one, in which the precision of decoding is chosen."""
    config = replace(demo_config(iterations=6), eval_every=0, reward_weights={})
    rewards = {"shape": ShapeReward()}
    model.prepare(train_prompts()[:1])
    rates = timed_step.rates_of_a_step(model, train_prompts()[0], config, rewards, low=True)
    before = {name: tensor.clone() for name, tensor in model.lora_state().items()}
    first, *rest = [sum(report.seconds.values()) for report in train(model, train_prompts(), rewards, config)]
    model.load_lora_state(before)
    later, foretold = statistics.median(rest), Workload(config, shown=0).alone(1, 2, rates)
    return (
        "The demo's iteration is the first of a run, in which a group is decoded twice to choose the precision. Of six "
        f"in a row the first took {first:.2f} s, the others {later:.2f} in the middle; foretold / that: "
        f"{foretold / later:.2f}."
    )


def main() -> None:
    torch.set_num_threads(1)
    model = load_demo()
    demo = replace(fixed_rate_demo(iterations=1), eval_every=0, reward_weights={})
    cases = {
        "the demo": replace(demo_config(iterations=1), eval_every=0, reward_weights={}),
        "Flash at the demo's size, 8 prompts x 12": demo,
        "16 updates, 48 rows a call": replace(demo, updates=16, rollout_batch=48, update_batch=48),
    }
    head = [
        "| iteration | rows | calls before | calls now | s before | s now | ratio | over bare calls | foretold / now "
        "| by a group / now |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    body = [of_an_iteration(name, config, model, 3) for name, config in cases.items()]
    with tempfile.TemporaryDirectory() as folder:
        flux = opened(make_folder("flux-dev", Path(folder) / "flux"))
        small = replace(demo, images_per_prompt=6, prompts_per_iteration=4)
        body.append(of_an_iteration("a FLUX of random weights, 4 prompts x 6", small, flux, 3))
    text = "\n".join([HEAD, "", by_rows(model), "", *head, *body, "", of_a_run(model), ""])
    PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
