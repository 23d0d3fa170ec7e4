"""Rollouts of several prompts side by side: what they ask the network at one level goes there in shared calls.

A rollout is a generator that yields the latents it wants the velocity of and is sent the answer. Rollouts that stand at
the same level, with latents of one shape and conditionings that go together, are asked for as one batch: calls are
filled up with the rows of several prompts, whatever each of them has to do next.
"""

from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

import torch
from torch import Tensor

from ..models.port import Velocity

R = TypeVar("R")


@dataclass(frozen=True)
class Question:
    """Latents ``x [B, *L]`` at the level ``sigma``, a scalar."""

    x: Tensor
    sigma: Tensor


@dataclass(frozen=True)
class Answer:
    """Their velocity ``v [B, *L]``, and how many evaluations of the network it took."""

    v: Tensor
    evaluations: int


Asking: TypeAlias = Generator[Question, Answer, R]


@dataclass
class _Under(Generic[R]):
    """A rollout under way.

    Attributes:
        number: of its prompt.
        asking: the rollout.
        question: what it waits for; None once it is over.
        answers: parts of the answer that are there.
    """

    number: int
    asking: Asking[R]
    question: Question | None = None
    answers: list[Answer] = field(default_factory=list)
    result: Any = None

    def go_on(self, answer: Answer | None = None) -> None:
        """Up to the next question."""
        self.answers = []
        try:
            self.question = next(self.asking) if answer is None else self.asking.send(answer)
        except StopIteration as end:
            self.question, self.result = None, end.value

    def hear(self, part: Answer) -> None:
        """Some rows of the answer; with the last of them it goes on."""
        self.answers.append(part)
        waiting = self.question
        if waiting is not None and sum(len(each.v) for each in self.answers) == len(waiting.x):
            whole = self.answers[0].v if len(self.answers) == 1 else torch.cat([each.v for each in self.answers])
            self.go_on(Answer(whole, sum(each.evaluations for each in self.answers)))


def answered(
    rollouts: Sequence[Asking[R]],
    velocity: Velocity,
    evaluations: Callable[[], int],
    *,
    kinds: Sequence[Hashable],
    batch: int | None,
) -> list[R]:
    """What the rollouts return, in their order.

    Args:
        velocity: of their prompts, which are numbered as they are.
        evaluations: the model's counter; its rows all cost the same.
        kinds: of each prompt's conditioning; those of different kinds share no call.
        batch: rows of a call at most; None is no limit.
    """
    under = [_Under(number, asking) for number, asking in enumerate(rollouts)]
    for one in under:
        one.go_on()
    while waiting := [one for one in under if one.question is not None]:
        for together in _sorted_by_kind(waiting, kinds):
            for part in _calls(together, batch):
                _ask(part, velocity, evaluations, several=len(under) > 1)
    return [one.result for one in under]


def _sorted_by_kind(waiting: Sequence[_Under[R]], kinds: Sequence[Hashable]) -> list[list[tuple[_Under[R], Question]]]:
    found: dict[Hashable, list[tuple[_Under[R], Question]]] = {}
    for one in waiting:
        if (question := one.question) is not None:
            kind = (float(question.sigma), question.x.shape[1:], question.x.dtype, kinds[one.number])
            found.setdefault(kind, []).append((one, question))
    return list(found.values())


def _calls(
    together: Sequence[tuple[_Under[R], Question]], batch: int | None
) -> Iterator[list[tuple[_Under[R], Question]]]:
    """The questions cut and joined to batches."""
    call: list[tuple[_Under[R], Question]] = []
    room = most = batch or sum(len(question.x) for _, question in together)
    for one, question in together:
        rest = question.x
        while len(rest):
            call.append((one, Question(rest[:room], question.sigma)))
            taken = len(call[-1][1].x)
            rest, room = rest[taken:], room - taken
            if not room:
                yield call
                call, room = [], most
    if call:
        yield call


def _ask(
    call: Sequence[tuple[_Under[R], Question]], velocity: Velocity, evaluations: Callable[[], int], *, several: bool
) -> None:
    """One call of the network, and its answers to those who asked."""
    sizes, sigma, before = [len(question.x) for _, question in call], call[0][1].sigma, evaluations()
    x = call[0][1].x if len(call) == 1 else torch.cat([question.x for _, question in call])
    if several:
        own = torch.tensor([one.number for one, _ in call]).repeat_interleave(torch.tensor(sizes))
        v = velocity(x, sigma, own)
    else:
        v = velocity(x, sigma)
    each = (evaluations() - before) // len(x)
    for (one, _), part in zip(call, v.split(sizes), strict=True):
        one.hear(Answer(part, each * len(part)))
