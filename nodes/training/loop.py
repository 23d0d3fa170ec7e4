"""One training on the canvas: the loop over the core's generator, what the artist asks meanwhile, lack of memory."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import comfy.model_management

from ...mixgrpo_core import TrainConfig, train
from ...mixgrpo_core.rewards.port import Reward
from ...mixgrpo_core.runs.reports import StepReport
from ...mixgrpo_core.support.micro_batches import ran_out
from ...mixgrpo_core.support.sized import largest, size_of
from ...mixgrpo_core.training.out_of_memory import OutOfMemory as TooLarge
from ...mixgrpo_core.training.out_of_memory import within_memory
from ..host.model import HostModel
from ..host.proof import prove
from ..host.texts import PromptSet
from ..live.board import Command, LiveRun
from ..live.canvas_run import CanvasRun
from ..live.voting import CutShort

R = TypeVar("R")


class OutOfMemory(RuntimeError):
    """Memory ran out with one image at a time; the sentence says what to lower."""


@dataclass
class Training:
    """A run under way.

    Attributes:
        config: its settings; batches are halved here when memory runs out.
    """

    model: HostModel
    prompts: PromptSet
    rewards: Mapping[str, Reward]
    config: TrainConfig
    run: CanvasRun
    live: LiveRun

    def go(self) -> Command | None:
        """Train until the end (None) or until the artist stops or pauses; a checkpoint of that moment stands."""
        while True:
            try:
                command = fitting(self._stretch, self.config, self._lowered)
            except CutShort:  # the iteration that waits for votes is done again, with them
                self.live.status("saving")
                return self._last_command()
            if command is not Command.SAVE:
                return command
            comfy.model_management.soft_empty_cache()

    def _lowered(self, config: TrainConfig, _words: str) -> None:
        self.model.make_room(config)

    def _stretch(self, config: TrainConfig) -> Command | None:
        """Train up to the end or to a command that needs the generator closed, which writes a checkpoint."""
        self.config = config
        with closing(self._reports()) as reports:
            for report in reports:
                self.live.report(report)
                if (command := self.live.take()) is not None:
                    self.live.status("saving")
                    return command
        return None

    def _last_command(self) -> Command:
        """The command that cut the training short; closing it has saved, and samples are of no more use."""
        while (command := self.live.take()) not in (Command.PAUSE, Command.STOP):
            pass
        return command

    def _reports(self) -> Generator[StepReport, None, None]:
        return train(
            self.model,
            self.prompts.train,
            self.rewards,
            self.config,
            held_out=self.prompts.held_out,
            contexts=self.prompts.contexts,
            run=self.run,
            observer=self.live,
            pictures_wanted=self.live.pictures_wanted,
        )


def fitting(
    attempt: Callable[[TrainConfig], R],
    config: TrainConfig,
    lowered: Callable[[TrainConfig, str], None] = lambda config, words: None,
) -> R:
    """``within_memory`` of the core, with the host's caches emptied between attempts.

    Raises ``OutOfMemory`` at one image, which says what to lower.
    """

    def emptied(config: TrainConfig, words: str) -> None:
        comfy.model_management.soft_empty_cache()
        lowered(config, words)

    try:
        return within_memory(attempt, config, emptied)
    except TooLarge as error:
        raise OutOfMemory(
            f"{no_room(error.work)}. The iterations that are done are kept; queue again to go on where the settings "
            "allow it"
        ) from error


def probe(model: HostModel, prompts: Sequence[str]) -> None:
    """``model.probe`` for the first prompt, and for that with the largest images, and the proof of the model, before a
    run is made.

    Raises ``OutOfMemory`` where one image alone does not fit.
    """
    try:
        for prompt in dict.fromkeys((prompts[0], largest(prompts, model.resolution))):
            model.at(size_of(prompt) or model.resolution).probe(prompt)
        prove(model, prompts)
    except Exception as error:
        if not ran_out(error):
            raise
        raise OutOfMemory(no_room("training")) from error


def no_room(work: str) -> str:
    """What is said where not even one image fits."""
    advice: Sequence[str] = ("a smaller width and height", "a quantised model")
    advice = (*advice, "gradient checkpointing", "a lower LoRA rank") if work == "training" else advice
    return f"out of memory while {work} one image at a time: choose {' or '.join(advice)}"
