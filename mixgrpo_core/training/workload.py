"""What a run has to do, counted before it does it; with seconds for each kind of work that is its length in time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ..evaluation.shown import IMAGES, PROMPTS, shown_prompts
from ..runs.reports import StepReport
from ..settings.config import TrainConfig
from .cost import in_part, iteration_cost, look_back_share, stretches
from .gallery import spacing
from .probing import EVERY

_COUNTED_WHOLE = 128
"""Images of an iteration up to which all of it is counted."""
_SAMPLING, _DECODING, _SCORING, _EVALUATION, _TRAINING = "rollout", "decode", "reward", "evaluation", "train"


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Seconds by kind of work; those of a row are of one without guidance, whatever guidance doubles.

    Attributes:
        row: a row of a rollout through the network.
        unit: training, by its forward passes; a backward pass counts as one.
        call: a call of the network, beside its rows; 0 where rows were timed in calls like those to come.
        decoded, scored: an image of a rollout.
        watched: an image by the rewards that score held-out ones only.
        shown: an image that is decoded to be evaluated or shown; None where it is as one of a rollout.
        evaluated: a held-out image in all; None where none was timed.
        beside: what an iteration takes besides, such as checkpoints.
        pictured: an entry of the gallery; None where none was timed.
    """

    row: float
    unit: float
    decoded: float
    scored: float
    call: float = 0.0
    watched: float = 0.0
    evaluated: float | None = None
    beside: float = 0.0
    pictured: float | None = None
    shown: float | None = None

    @property
    def looked_at(self) -> float:
        """Decoding an image that is evaluated or shown."""
        return self.decoded if self.shown is None else self.shown


@dataclass(frozen=True, kw_only=True)
class Timed:
    """The seconds of an iteration by phase, the evaluations among them, and the images that these say they scored.

    Of several ranks the seconds are those of the first, and the images those of all.
    """

    iteration: int
    seconds: Mapping[str, float]
    evaluations: int
    evaluated: int

    @classmethod
    def of(cls, report: StepReport) -> "Timed":
        """Those of a report."""
        return cls.told(report.to_json())

    @classmethod
    def told(cls, report: Mapping[str, Any]) -> "Timed":
        """Those of a line of ``metrics.jsonl``."""
        made = report["evaluations"]
        counts = [max((stats.get("count", 0) for stats in one["rewards"].values()), default=0) for one in made]
        return cls(
            iteration=report["iteration"], seconds=report["seconds"], evaluations=len(made), evaluated=sum(counts)
        )


@dataclass(frozen=True, kw_only=True)
class Dealt:
    """How the prompts of an iteration fall to ranks.

    Attributes:
        most: prompts of the rank that has most.
        trained: prompts that one rank trains while each update waits for the rank that has most of its prompts.
    """

    most: int
    trained: int

    @classmethod
    def of(cls, config: TrainConfig, ranks: int) -> "Dealt":
        """Among ``ranks`` ranks."""
        prompts = config.prompts_per_iteration
        groups = min(config.update_count, prompts)
        trained = sum(-(-len(range(update, prompts, groups)) // ranks) for update in range(groups))
        return cls(most=-(-prompts // ranks), trained=trained)


class Workload:
    """The work of a run; of several ranks that of the first, which has as much as any.

    Args:
        ranks: processes that share the prompts of an iteration and the held-out ones.
        held_out: prompts that are evaluated.
        shown: prompts of the gallery; 0 where there is none.
        images_at_the_end: that are made once training is over, to be looked at.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        held_out: int = 0,
        shown: int = PROMPTS,
        images_at_the_end: int = 0,
        ranks: int = 1,
    ) -> None:
        self.config, self.iterations = config, config.iterations
        self._dealt = Dealt.of(config, ranks)
        self.images = self._dealt.most * config.images_per_prompt
        self._looked = -(-held_out // ranks) / held_out if held_out else 1 / ranks
        self._held_out = round(held_out * self._looked) * config.eval_images
        self._shown, self._at_the_end = shown, images_at_the_end
        self._eval_steps = config.eval_steps or config.steps
        self._eval_every = config.eval_every if held_out else 0

    @classmethod
    def of_run(
        cls, config: TrainConfig, train: Sequence[str], held_out: Sequence[str], *, ranks: int = 1
    ) -> "Workload":
        """That of a run on these prompts, with its pictures of before and after."""
        at_the_end = 2 * IMAGES * len(shown_prompts(train, held_out))
        return cls(config, held_out=len(held_out), images_at_the_end=at_the_end, ranks=ranks)

    @cached_property
    def _counted(self) -> list[tuple[range, float, float, float]]:
        """Stretches of iterations, each with the rows that one of them rolls out, its units of training, its calls."""
        found, smaller = [], _smaller(self.config)
        shares = {"probe": 1 / EVERY, "look back": look_back_share(self.config, smaller)}
        for first, last, _ in stretches(self.config):
            cost = in_part(iteration_cost(smaller, first), shares)
            rows = cost.nfe.get(_SAMPLING, 0.0)
            trained = self._dealt.trained * self.config.images_per_prompt
            counts = (rows * self.images, (cost.units - rows) * trained, cost.calls * self.images)
            found.append((range(first, last + 1), *counts))
        return found

    def rows(self, first: int, stop: int) -> float:
        """Of the rollouts of the iterations from ``first`` up to ``stop``."""
        return sum(rows * _common(part, first, stop) for part, rows, _, _ in self._counted)

    def units(self, first: int, stop: int) -> float:
        """Forward passes that training in these iterations amounts to."""
        return sum(units * _common(part, first, stop) for part, _, units, _ in self._counted)

    def calls(self, first: int, stop: int) -> float:
        """Of the network in these iterations; a backward pass counts as in ``units``."""
        return sum(calls * _common(part, first, stop) for part, _, _, calls in self._counted)

    def evaluations(self, first: int, stop: int) -> int:
        """How many there are before and after these iterations."""
        if not self._eval_every:
            return 0
        regular = stop // self._eval_every - first // self._eval_every
        last = first < self.iterations <= stop and self.iterations % self._eval_every != 0
        return (first == 0) + regular + last

    def entries(self, first: int, stop: int) -> int:
        """How many the gallery gets before these iterations, in a run that has an end."""
        every = spacing(self.config)
        return -(-stop // every) + -first // every if self._shown else 0

    def rates(self, timed: Sequence[Timed]) -> Rates:
        """Those of iterations of this run, at least one."""

        def spent(*phases: str) -> float:
            return sum(one.seconds.get(phase, 0.0) for one in timed for phase in phases)

        known = (_SAMPLING, _DECODING, _SCORING, _EVALUATION)
        rows = sum(self.rows(one.iteration, one.iteration + 1) for one in timed)
        units = sum(self.units(one.iteration, one.iteration + 1) for one in timed)
        trained = sum(sum(one.seconds.values()) for one in timed) - spent(*known)
        evaluated = sum(one.evaluated * self._looked or one.evaluations * self._held_out for one in timed)
        return Rates(
            row=spent(_SAMPLING) / rows if rows else 0.0,
            unit=trained / units if units else 0.0,
            decoded=spent(_DECODING) / (self.images * len(timed)),
            scored=spent(_SCORING) / (self.images * len(timed)),
            evaluated=spent(_EVALUATION) / evaluated if evaluated else None,
        )

    def measured(self, first: Timed, step: Rates) -> Rates:
        """The rates of a timed step, with the seconds of the network as they were in this run's first iteration, which
        had an update."""
        counted = self.rows(0, 1) * step.row + self.units(0, 1) * step.unit + self.calls(0, 1) * step.call
        spent = first.seconds.get(_SAMPLING, 0.0) + first.seconds.get(_TRAINING, 0.0)
        factor = spent / counted if counted else 1.0
        return replace(step, row=factor * step.row, unit=factor * step.unit, call=factor * step.call)

    def evaluation(self, rates: Rates) -> float:
        """Seconds of one evaluation."""
        if rates.evaluated is not None:
            return self._held_out * rates.evaluated
        sampled = self._sampled(self._held_out, self.config.rollout_batch, rates)
        return sampled + self._held_out * (rates.scored + rates.watched)

    def entry(self, rates: Rates) -> float:
        """Seconds of one entry of the gallery."""
        return self._sampled(self._shown, self._shown, rates) if rates.pictured is None else rates.pictured

    def end(self, rates: Rates) -> float:
        """Seconds of what is made once training is over: the gallery's last entry, and pictures to be looked at."""
        return self.entry(rates) + self._sampled(self._at_the_end, self.config.rollout_batch, rates)

    def _sampled(self, images: int, together: int, rates: Rates) -> float:
        """Seconds of pictures by the plain ODE, so many of them at a time."""
        calls = -(-images // max(1, min(together, self.config.rollout_batch)))
        return images * (rates.row * self._eval_steps + rates.looked_at) + calls * self._eval_steps * rates.call

    def seconds(self, first: int, stop: int, rates: Rates) -> float:
        """Seconds of the iterations from ``first`` up to ``stop``, with what comes before and after each."""
        return (
            self.alone(first, stop, rates)
            + self.evaluations(first, stop) * self.evaluation(rates)
            + self.entries(first, stop) * self.entry(rates)
        )

    def alone(self, first: int, stop: int, rates: Rates) -> float:
        """Seconds of these iterations without evaluations and the gallery."""
        each = self.images * (rates.decoded + rates.scored) + rates.beside
        network = self.rows(first, stop) * rates.row + self.units(first, stop) * rates.unit
        return network + self.calls(first, stop) * rates.call + (stop - first) * each


def _common(part: range, first: int, stop: int) -> int:
    """How many iterations of ``part`` lie from ``first`` up to ``stop``."""
    return max(min(part.stop, stop) - max(part.start, first), 0)


def _smaller(config: TrainConfig) -> TrainConfig:
    """Settings that cost about the same per image, and less time to count."""
    few = config.prompts_per_iteration * config.images_per_prompt <= _COUNTED_WHOLE
    if few or config.update_count > config.prompts_per_iteration:  # groups are split, which costs rows of its own
        return config
    prompts = min(config.prompts_per_iteration // config.update_count, 2)
    return replace(config, prompts_per_iteration=prompts, updates=1)
