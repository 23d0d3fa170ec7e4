"""``mixgrpo train`` and ``mixgrpo resume``: the loop over the core's generator, and what is left at the end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from rich.console import Console

from ..config import TrainConfig
from ..preflight import check
from ..run_folder import RunFolder
from ..train import train
from .progress import headline, run_progress
from .report import finish
from .settings import RunConfig, from_values, parse_flags, read_toml
from .tensorboard import EventLog


def train_command(arguments: Sequence[str]) -> int:
    """``train [RUN.toml] [flags]``."""
    with_file = bool(arguments) and not arguments[0].startswith("-")
    default = read_toml(arguments[0]) if with_file else RunConfig()
    settings = parse_flags(default, arguments[int(with_file) :], "mixgrpo train [RUN.toml]", "Start a new run.")
    return start(settings, Console())


def start(settings: RunConfig, console: Console) -> int:
    """Check everything, make the run folder, train, and leave a report."""
    prompts, rewards = settings.make_prompts(), settings.make_rewards()
    for reward in rewards.values():
        reward.prepare([*prompts.train, *prompts.held_out])
    model = settings.make_model()
    check(model, prompts.train, rewards, settings.train, prompts.held_out)
    run = RunFolder.create(settings.out, settings.train, settings.setup())
    return drive(from_run(run), run, model, console)


@dataclass(frozen=True, kw_only=True)
class ResumeFlags:
    """``iterations``: train until that many in all; a finished run is extended by raising it."""

    iterations: int | None = None


def resume_command(arguments: Sequence[str]) -> int:
    """``resume RUN [--iterations N]``."""
    if not arguments or arguments[0].startswith("-"):
        raise ValueError("expected a run folder: mixgrpo resume RUN [--iterations N]")
    flags = tyro.cli(ResumeFlags, args=arguments[1:], prog="mixgrpo resume RUN", description="Go on with a run.")
    run = RunFolder.open(arguments[0])
    settings = from_run(run)
    if flags.iterations is not None:
        settings = replace(settings, train=replace(settings.train, iterations=flags.iterations))
        run.require(settings.train, run.config["setup"])
    return drive(settings, run, settings.make_model(), Console())


def from_run(run: RunFolder) -> RunConfig:
    """The settings a run folder was started with."""
    return from_values({**run.config["setup"], "train": run.config["train"], "out": str(run.path)})


def drive(settings: RunConfig, run: RunFolder, model: object, console: Console) -> int:
    """The training loop of the command line."""
    prompts = settings.make_prompts()
    for prompt in (*prompts.train, *prompts.held_out):
        model.encode(prompt)
    model.release_text_encoders()
    before = run.latest()
    done = before.iteration if before else 0
    if done >= settings.train.iterations:
        console.print(
            f"{run.path} is finished ({done} iterations); extend it: mixgrpo resume {run.path} --iterations N"
        )
    _announce(settings, run, console)
    try:
        with run_progress(settings.train.iterations, done, console) as progress, EventLog(run.path) as events:
            reports = train(
                model,
                prompts.train,
                settings.make_rewards(),
                settings.train,
                held_out=prompts.held_out,
                run=run,
                observer=progress.observe,
            )
            for report in reports:
                progress.report(report)
                events.write(report)
                if report.evaluations or not console.is_terminal:
                    console.print(f"{report.iteration + 1:>5}  {headline(report)}", highlight=False)
                for failure in report.failures:
                    console.print(f"       {failure}", style="yellow")
    except KeyboardInterrupt:
        console.print(f"stopped; everything is kept. Go on with: mixgrpo resume {run.path}")
        return 130
    finish(settings, run, model, console)
    return 0


def _announce(settings: RunConfig, run: RunFolder, console: Console) -> None:
    config: TrainConfig = settings.train
    console.print(
        f"{Path(run.path)}: {config.iterations} iterations of {config.prompts_per_iteration} prompts x "
        f"{config.images_per_prompt} images, {config.steps} steps, {type(config.planner).__name__}",
        highlight=False,
    )
