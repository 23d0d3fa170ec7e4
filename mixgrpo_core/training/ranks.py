"""Ranks over ``torch.distributed``: what torchrun and ``accelerate launch`` start.

    torchrun --nproc-per-node 2 -m mixgrpo_core.cli train run.toml

Nothing wraps the network. What the ranks exchange is small - scores, advantages, figures, and the gradient of the LoRA
once an update - and goes over gloo, through main memory. Every exchange also says whether each rank is well: an error
or a stop of one rank reaches the others where they next wait for it. There is no time limit, for a reward may be slow,
and people who vote are.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch.nn import Parameter

from ..support.background import in_peace
from ..support.micro_batches import ran_out
from ..support.phases import PhaseClock
from ..support.ranks import ALONE, WAITING, Ranks
from .out_of_memory import OutOfMemoryElsewhere, too_large

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
_NOBODY = -1
_NOTHING = 2**62
"""What a rank wishes for that waits to tell something."""
_PIECES = 2**32
_PATIENCE = timedelta(days=365)


class RankFailed(RuntimeError):
    """Another rank failed, or is gone."""


class StoppedElsewhere(KeyboardInterrupt):
    """Another rank was stopped."""


@dataclass(frozen=True)
class _Failure:
    """Why a rank cannot go on. ``memory``: the work and the batch that were too large, where memory ran out."""

    words: str
    stopped: bool = False
    memory: tuple[str, str] | None = None

    @classmethod
    def of(cls, error: BaseException) -> "_Failure":
        if isinstance(error, KeyboardInterrupt | GeneratorExit):
            return cls("it was stopped", stopped=True)
        words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return cls(words, memory=too_large(error) if ran_out(error) else None)


def launched() -> Ranks:
    """The ranks that a launcher started, or one alone."""
    if not dist.is_available():
        return ALONE
    if not (dist.is_initialized() or dist.is_torchelastic_launched() or dist.get_node_local_rank(_NOBODY) != _NOBODY):
        return ALONE
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=_PATIENCE)
    return SeveralRanks() if dist.get_world_size() > 1 else ALONE


def _on_the_cpu(value: Any) -> Any:
    """The same with its tensors in main memory: another process has other devices."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {name: _on_the_cpu(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_on_the_cpu, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{part.name: _on_the_cpu(getattr(value, part.name)) for part in fields(value)})
    return value


def local_rank() -> int:
    """Which of its machine's ranks this process is."""
    return dist.get_node_local_rank(fallback_rank=0)


class SeveralRanks(Ranks):
    """The ranks of the initialised default process group; all of them make one of these at the same time.

    Attributes:
        said_before: the last error of this rank was also that of one before it.
    """

    def __init__(self) -> None:
        self.size, self.rank = dist.get_world_size(), dist.get_rank()
        self._group = dist.new_group(backend="gloo", timeout=_PATIENCE)
        self.said_before = False
        self._waiting: Callable[[], AbstractContextManager[None]] = nullcontext
        self._work: Callable[[int], None] | None = None  # that all ranks do together
        self._common: int | None = None  # the identity of the error that all ranks know of: it holds tensors

    def all_gather(self, value: T) -> list[T]:
        found = self._exchanged(value)
        failures = [one if isinstance(one, _Failure) else None for one in found]
        if any(failures):
            raise self._known(self._error(failures))
        self._common = None
        return cast(list[T], found)

    def from_first(self, ask: Callable[[], T]) -> T:
        return cast(T, self.all_gather(ask() if self.is_first else None)[0])

    def collective(self, work: Callable[[int], None]) -> Callable[[int], None]:
        self.all_gather(None)  # what is made from here on is made by all ranks or by none
        self._work = work
        return self._ask

    def sum_gradients(self, parameters: Iterable[Parameter]) -> None:
        every = list(parameters)
        there = [any(has) for has in zip(*self.all_gather([p.grad is not None for p in every]), strict=True)]
        summed = [p for p, anywhere in zip(every, there, strict=True) if anywhere]
        if not summed:
            return
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in summed]
        flat = torch.cat([part.detach().flatten().cpu() for part in parts])
        self._undisturbed(lambda: dist.all_reduce(flat, group=self._group))
        for p, part in zip(summed, flat.split([p.numel() for p in summed]), strict=True):
            p.grad = part.view(p.shape).to(p.device, p.dtype)

    def require_alike(self, facts: Callable[[], Mapping[str, object]], otherwise: str) -> None:
        first, *others = self.all_gather({name: str(fact) for name, fact in facts().items()})
        for rank, found in enumerate(others, 1):
            for name in first:
                if found.get(name) != first[name]:
                    raise RankFailed(
                        f"expected {name} to be the same on all {self.size} ranks, found {first[name]} on rank 0 and "
                        f"{found.get(name)} on rank {rank}: {otherwise}"
                    )

    def time_waits(self, clock: PhaseClock) -> None:
        self._waiting = partial(clock.phase, WAITING)

    def deal_for(self, updates: int) -> None:
        self.updates = updates

    @contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if id(error) == self._common:
                raise
            own = _Failure.of(error)
            failures: list[_Failure | None] = []
            with suppress(RankFailed):
                failures = [one if isinstance(one, _Failure) else None for one in self._exchanged(own)]
            self._known(error)
            self.said_before = own in failures[: self.rank]
            if own.memory is not None and failures and failures[self._deciding(failures)] != own:
                raise self._known(self._error(failures)) from error
            raise

    def leave(self) -> None:
        """Wait for the others to be done, too, and part."""
        with suppress(RankFailed):
            self._exchanged(None)
        with suppress(RuntimeError):
            dist.destroy_process_group()

    def _known(self, error: E) -> E:
        """``error`` as one that all ranks know of."""
        self._common = id(error)
        return error

    def _deciding(self, failures: Sequence[_Failure | None]) -> int:
        """The first rank with an error, or with a lack of memory where there is no other error."""
        failed = [rank for rank, failure in enumerate(failures) if failure is not None]
        return min(failed, key=lambda rank: (failures[rank].memory is not None, rank))  # type: ignore[union-attr]

    def _error(self, failures: Sequence[_Failure | None]) -> BaseException:
        rank = self._deciding(failures)
        failure = failures[rank]
        assert failure is not None
        if failure.stopped:
            return StoppedElsewhere()
        if failure.memory is not None:
            return OutOfMemoryElsewhere(rank, *failure.memory)
        return RankFailed(f"rank {rank} of {self.size} failed: {failure.words}")

    def _exchanged(self, value: object) -> list[object]:
        found: list[object] = [None] * self.size
        sent = _on_the_cpu(value)
        self._undisturbed(lambda: dist.all_gather_object(found, sent, group=self._group))
        return [value if rank == self.rank else theirs for rank, theirs in enumerate(found)]

    def _ask(self, number: int) -> None:
        """Have all ranks do a piece of the work that is theirs together."""

        def until_done() -> None:
            while self._next_piece(number) != number:
                pass

        self._in_peace(until_done)

    def _next_piece(self, wish: int = _NOTHING) -> int:
        """Do what the first rank wishes for that wishes for anything: which it was."""
        first = torch.tensor([wish if wish == _NOTHING else self.rank * _PIECES + wish])
        dist.all_reduce(first, dist.ReduceOp.MIN, group=self._group)
        number = int(first)
        if number == _NOTHING or self._work is None:
            return _NOTHING
        self._work(number % _PIECES)
        return number % _PIECES

    def _undisturbed(self, exchange: Callable[[], object]) -> None:
        """What ranks do at the same time, after all that the others still want of this one."""

        def work() -> None:
            while self._work is not None and self._next_piece() != _NOTHING:
                pass
            exchange()

        with self._waiting():
            self._in_peace(work)

    def _in_peace(self, work: Callable[[], None]) -> None:
        """A stop in the middle of it would leave the others in the middle; it is raised after it."""
        try:
            in_peace(work)
        except RuntimeError as error:
            if ran_out(error):
                raise
            gone = RankFailed(
                f"another rank is gone ({str(error).partition(chr(10))[0][:200]}). The last whole iteration is kept: "
                "see what that rank said, and resume"
            )
            raise self._known(gone) from error
