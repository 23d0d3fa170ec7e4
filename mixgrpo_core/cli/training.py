"""``mixgrpo train`` and ``mixgrpo resume``: the loop over the core's generator, and what is left at the end."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import fields, make_dataclass, replace
from typing import TYPE_CHECKING, Any, get_type_hints

import tyro
from rich.console import Console

from ..rewards.port import Reward
from ..runs.folder import RunFolder
from ..runs.older import present_settings
from ..settings.config import TrainConfig
from ..settings.pictures import References
from ..settings.prompts import Prompts
from ..settings.values import checked
from ..support.paths import in_shell
from ..support.ranks import ALONE, Ranks
from ..support.setting import described, setting, settings_of
from ..support.sized import largest, size_of, typical
from ..training.loop import train
from ..training.out_of_memory import OutOfMemory as OneImageTooLarge
from ..training.out_of_memory import within_memory
from ..training.pace import Pace
from ..training.preflight import check
from ..training.visits import needed
from ..training.workload import Workload
from .all_ranks import (
    all_fit,
    all_ranks,
    created,
    own_device,
    ranks_words,
    require_one_folder,
    require_same_file,
    require_several,
    seen,
    shards_words,
)
from .announcement import announcement
from .expected import expected
from .flags import IMPORT_WORDS
from .loggers import Logger
from .memory import OutOfMemory, training_advice
from .model_config import ModelConfig
from .progress import RunProgress, run_progress
from .report import finish
from .settings import RunConfig, calls_as_flags, from_values, parse_flags, read_toml
from .stopping import status_of, stopped_by_signals
from .tensorboard import EventLog
from .trackers import Tracker, require_tracker

if TYPE_CHECKING:  # it imports diffusers
    from ..models.diffusers.model import PipelineModel


def train_command(arguments: Sequence[str]) -> int:
    """``train [RUN.toml] [flags]``."""
    with all_ranks() as ranks:
        with_file = bool(arguments) and not arguments[0].startswith("-")
        default = read_toml(arguments[0]) if with_file else RunConfig()
        settings = parse_flags(default, arguments[int(with_file) :], "mixgrpo train [RUN.toml]", "Start a new run.")
        return start(settings, Console(quiet=not ranks.is_first), ranks)


def start(settings: RunConfig, console: Console, ranks: Ranks = ALONE) -> int:
    """Check everything, make the run folder, train, and leave a report."""
    require_tracker(settings.tracker)
    require_several(settings, ranks)
    ranks.from_first(lambda: RunFolder.require_free(settings.out))
    require_same_file(settings, ranks)
    prompts = settings.make_prompts()
    rewards = _prepared(settings, prompts)
    model = _proven(settings, ranks)
    check(model, prompts.train, rewards, settings.train, prompts.held_out, prompts.contexts)
    model.take_pictures(References(prompts.contexts))
    run = created(settings, ranks)
    try:
        model.keep_texts(run.texts)
        model.prepare(needed(settings.train, prompts.train, prompts.held_out))
        most = largest((*prompts.train, *prompts.held_out), model.resolution)
        settings, words = all_fit(settings, model.at(size_of(most) or model.resolution), ranks)
    except BaseException:  # a prompt that cannot be encoded leaves no run folder behind
        if ranks.is_first:
            run.discard()
        raise
    if words:
        console.print(words, highlight=False, soft_wrap=True)
    if ranks.is_first:
        run.rewrite(settings.train, settings.setup())
    run.config = ranks.from_first(lambda: run.config)
    return drive(from_run(run), run, model, rewards, console, ranks)


_HINTS = get_type_hints(TrainConfig) | get_type_hints(ModelConfig)
ResumeFlags = make_dataclass(
    "ResumeFlags",
    [
        (name, _HINTS[name] | None, setting(None, told.help))
        for name, told in (*settings_of(TrainConfig), *settings_of(ModelConfig))
        if told.may_change
    ],
    frozen=True,
    kw_only=True,
    namespace={"__doc__": "What may change when a run goes on; None leaves it as it was."},
)
ResumeFlags = described(ResumeFlags)


def resume_command(arguments: Sequence[str]) -> int:
    """``resume RUN [--iterations N] [--update-batch N] ...``."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        raise ValueError("expected a run folder: mixgrpo resume RUN [--iterations N] [--update-batch N]")
    words = arguments if arguments[0] in ("-h", "--help") else arguments[1:]
    flags: Any = tyro.cli(
        ResumeFlags,
        args=words,
        prog="mixgrpo resume RUN",
        description=f"Go on with a run; what is not named stays as it was. {IMPORT_WORDS}",
        registry=calls_as_flags(),
    )
    with all_ranks() as ranks:
        run = seen(arguments[0], ranks)
        require_one_folder(run, ranks)
        ranks.from_first(run.require_checkpoints)
        begun = from_run(run)
        changes = {item.name: getattr(flags, item.name) for item in fields(ResumeFlags)}
        changes = {name: value for name, value in changes.items() if value is not None}
        of_model = {item.name: changes.pop(item.name) for item in fields(ModelConfig) if item.name in changes}
        model = replace(begun.model, **of_model)
        settings = replace(begun, model=model, train=replace(begun.train, **changes))
        require_several(settings, ranks)
        require_tracker(settings.tracker)
        require_same_file(settings, ranks)
        rewards = _prepared(settings, settings.make_prompts())
        proven = _proven(settings, ranks)
        if model != begun.model and ranks.is_first:
            run.rewrite(begun.train, settings.setup())
        return drive(settings, run, proven, rewards, Console(quiet=not ranks.is_first), ranks)


def _prepared(settings: RunConfig, prompts: Prompts) -> dict[str, Reward]:
    """The rewards, which have looked into their files. They are made once: a text network is read for that."""
    rewards = settings.make_rewards()
    for reward in rewards.values():
        reward.prepare([*prompts.train, *prompts.held_out])
    return rewards


def _proven(settings: RunConfig, ranks: Ranks) -> "PipelineModel":
    """The model, after a look at what a training would learn from it; the shipped one is known."""
    model: PipelineModel = replace(
        settings, model=replace(settings.model, device=own_device(settings.model.device, ranks))
    ).make_model(ranks)
    if not settings.model.shipped:
        from ..models.diffusers.proof import prove

        prove(model)
    return model


def from_run(run: RunFolder) -> RunConfig:
    """The settings a run folder was started with."""
    run.require_guests()
    setup = checked("the setup of config.json", dict[str, Any], run.config.get("setup"))
    return from_values({**setup, "train": present_settings(run.config), "out": str(run.path)})


def drive(
    settings: RunConfig,
    run: RunFolder,
    model: "PipelineModel",
    rewards: Mapping[str, Reward],
    console: Console,
    ranks: Ranks = ALONE,
) -> int:
    """The training loop of the command line."""
    prompts, done = settings.make_prompts(), ranks.from_first(lambda: _done(run))
    model.keep_texts(run.texts)
    model.take_pictures(References(prompts.contexts))
    asked = needed(settings.train, prompts.train, prompts.held_out, done)
    model.prepare(asked)
    if done >= settings.train.end:
        going_on = f"mixgrpo resume {in_shell(run.path)}"
        words = f"{run.path} is finished ({done} iterations); extend it: {going_on} --iterations N"
        console.print(words, highlight=False, soft_wrap=True)
    console.print(announcement(settings, run, model), highlight=False, soft_wrap=True)
    for words in filter(None, (ranks_words(ranks, settings), shards_words(ranks, model))):
        console.print(words, highlight=False, soft_wrap=True)

    work = workload(settings, prompts, ranks.size)
    known = None
    if done < settings.train.end and ranks.is_first:
        known = expected(work, model, typical(asked, model.resolution), run, rewards, done)
    if known is not None:
        console.print(known.words, highlight=False, soft_wrap=True)
    pace = Pace(work, None if known is None else known.rates)

    def attempt(config: TrainConfig) -> RunConfig:
        trying = replace(settings, train=config)
        _loop(trying, run, model, rewards, prompts, progress, loggers, ranks)
        return trying

    with (
        stopped_by_signals(),
        run_progress(pace, done, console) as progress,
        _loggers(settings, run, done, ranks) as loggers,
    ):
        try:
            settings = within_memory(attempt, settings.train, lambda _, words: progress.note(words))
        except KeyboardInterrupt as stop:
            words = f"stopped; everything is kept. Go on with: mixgrpo resume {in_shell(run.path)}"
            console.print(words, highlight=False, soft_wrap=True)
            return status_of(stop)
        except OneImageTooLarge as error:
            raise OutOfMemory(training_advice(error, settings.model.checkpointed)) from error
    if not ranks.is_first:
        return 0
    try:
        within_memory(
            lambda config: finish(replace(settings, train=config), run, model, rewards, console), settings.train
        )
    except OneImageTooLarge as error:
        raise OutOfMemory(f"{run.path} is finished, but pictures of it could not be made: {error}") from error
    return 0


@contextmanager
def _loggers(settings: RunConfig, run: RunFolder, done: int, ranks: Ranks) -> Iterator[Sequence[Logger]]:
    """Where the run is shown as it goes, but for its folder; one rank shows it."""
    with ExitStack() as stack:
        found: list[Logger] = []
        if ranks.is_first:
            found.append(stack.enter_context(EventLog(run.path, done)))
            if settings.tracker is not None:
                found.append(stack.enter_context(Tracker(settings.tracker, run, run.config)))
        yield found


def _loop(
    settings: RunConfig,
    run: RunFolder,
    model: "PipelineModel",
    rewards: Mapping[str, Reward],
    prompts: Prompts,
    progress: RunProgress,
    loggers: Sequence[Logger],
    ranks: Ranks,
) -> None:
    reports = train(
        model,
        prompts.train,
        rewards,
        settings.train,
        held_out=prompts.held_out,
        contexts=prompts.contexts,
        run=run,
        observer=progress.observe,
        ranks=ranks,
    )
    with closing(reports):  # Ctrl-C in the loop's body must reach the generator too, which then saves
        for report in reports:
            for logger in loggers:
                logger.write(report)
            progress.report(report)


def workload(settings: RunConfig, prompts: Prompts, ranks: int = 1) -> Workload:
    """What the run has to do, of several ranks the first one."""
    return Workload.of_run(settings.train, prompts.train, prompts.held_out, ranks=ranks)


def _done(run: RunFolder) -> int:
    """Iterations that the run goes on from."""
    snapshot = run.latest()
    return 0 if snapshot is None else snapshot.iteration
