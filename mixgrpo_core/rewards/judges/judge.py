"""One image, one question, one score: a vision-language model as a reward."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ..port import RewardBatch, RewardInfo, Scores, StatelessReward
from .chat import Chat, Question
from .reading import Reading
from .scoring import ALTERNATIVES, Mode, UnifiedReward2
from .templates import SLOT, fill, read_template

SPREAD_FLOOR = 1e-2
"""Judges give few distinct values: a group that differs by less than this ties."""


@dataclass(frozen=True)
class JudgeReward(StatelessReward):
    """Asks a judge about every image of a group at once; what it cannot say, or says wrongly, is masked.

    Ours; the questions are those of the modes (`scoring`).

    Attributes:
        chat: who is asked.
        mode: what for.
        template: file of another question than the mode's own.
        question: that question itself; ``{prompt}`` in it is where the prompt goes.
    """

    chat: Chat
    mode: Mode = UnifiedReward2()
    template: str = ""
    question: str = ""

    @property
    def about(self) -> RewardInfo:
        return replace(of_the_model(self.chat), expected=self.mode.expected)

    def prepare(self, prompts: Sequence[str]) -> None:
        """See that the template and the judge are there, and whether it offers log-probs where they are wanted.

        Raises:
            TemplateError, or what the chat raises: one sentence.
        """
        self._question  # noqa: B018 - reads the file
        self.chat.check()
        self.by_probability  # noqa: B018 - asks once

    def __call__(self, batch: RewardBatch) -> Scores:
        images = batch.images.detach().float().cpu().unbind()
        texts = [fill(self._question, prompt) for prompt in batch.prompts]
        asked = [place for place, prompt in enumerate(batch.prompts) if prompt.strip() or SLOT not in self._question]
        tokens = 1 if self.by_probability else self.mode.max_tokens
        alternatives = self.mode.alternatives if self.by_probability else 0
        questions = [Question(texts[place], (images[place],), tokens, alternatives) for place in asked]
        readings = [Reading(problem="the prompt is empty")] * len(images)
        for place, answer in zip(asked, self.chat.ask(questions), strict=True):
            readings[place] = (
                Reading(problem=answer.problem)
                if answer.problem
                else self.mode.read(answer, by_probability=self.by_probability)
            )
        return scores_of(readings)

    @cached_property
    def by_probability(self) -> bool:
        """Whether scores come from log-probs; else, and for modes that have no use for them, from the written text."""
        return bool(self.mode.alternatives) and offers_log_probs(self.chat)

    @cached_property
    def _question(self) -> str:
        return self.question or read_template(self.template or self.mode.template)


def offers_log_probs(chat: Chat) -> bool:
    """Whether answers come with the first token's log-probs; seen from one answer about a grey image.

    Raises:
        ConnectionError: no answer at all, so nobody knows.
    """
    grey = torch.full((64, 64, 3), 0.5)
    question = Question("Is this image grey? Answer yes or no.", (grey,), max_tokens=1, alternatives=ALTERNATIVES)
    answer = chat.ask([question])[0]
    if answer.problem:
        raise ConnectionError(f"the judge {chat.identity} does not answer a first question: {answer.problem}")
    return bool(answer.first)


def scores_of(readings: Sequence[Reading]) -> Scores:
    """Values ``[G]`` on the CPU; what was not read is masked, and the note says why."""
    valid = torch.tensor([not reading.problem for reading in readings])
    values: Tensor = torch.tensor([0.0 if reading.problem else reading.value for reading in readings])
    return Scores(values, valid, problems(reading.problem for reading in readings))


def problems(found: Iterable[str]) -> str:
    """The most frequent problems, counted."""
    counted = Counter(problem for problem in found if problem).most_common()
    words = [f"{problem} ({count} times)" if count > 1 else problem for problem, count in counted[:3]]
    more = len(counted) - len(words)
    return "; ".join(words) + (f"; and {more} others" if more else "")


def of_the_model(chat: Chat) -> RewardInfo:
    """What all rewards by ``chat`` declare: licence and memory of weights that it has in this process."""
    licence, memory = getattr(chat, "licence", ""), getattr(chat, "memory", 0)
    return RewardInfo(
        licence=licence, memory=memory, spread_floor=SPREAD_FLOOR, aside=getattr(chat, "elsewhere", False)
    )
