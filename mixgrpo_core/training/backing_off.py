"""How large a step that sets itself is: larger where updates are seen to be right, smaller where they do harm.

The share of the usual move is halved after an iteration in which the held-out reward is below its best by more than two
standard errors, or in which the training reward fell below its start or images tear (the guard `Collapse`, which looks
here whether it is among the run's guards or not). A new best of the held-out reward doubles it again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite, sqrt

from torch import Tensor

from ..evaluation.guards import Alarm, Collapse, IterationView
from ..evaluation.held_out import Evaluation
from ..objectives.own_step import AUTO, Signal, target
from ..runs.checkpoint import StepNotes
from ..settings.config import TrainConfig
from ..support.ranks import ALONE, Ranks

LEAST_SHARE = 1 / 8
_ERRORS = 2  # standard errors that a fall must exceed
_HARM = Collapse(warn=1, stop=None, clipped=1 - 1e-9, gradient=1e9, moved=1e9)  # of images and rewards alone
_NAME = "StepSize"


class BackingOff:
    """Watches one run that sets its own step; of another it says and remembers nothing.

    Args:
        weights: of the trained rewards.
        ranks: who roll out by turns.
    """

    def __init__(self, config: TrainConfig, weights: Mapping[str, float], ranks: Ranks = ALONE) -> None:
        self.own, self._weights, self._ranks = config.learning_rate == AUTO, weights, ranks
        self._images = config.prompts_per_iteration * config.images_per_prompt
        self._measured: list[Mapping[str, Sequence[float]]] = []

    def move(self, iteration: int, notes: StepNotes) -> float:
        """The move that the updates of iteration ``iteration`` should end at, by what was remembered until then."""
        return target(iteration, self._images, notes.get("share", 1.0), Signal(*notes.get("signal", ())))

    def look(self, images: Tensor) -> None:
        """Measure the rolled out images ``[G, H, W, 3]`` of this rank's next prompt."""
        if self.own:
            self._measured.append(_HARM.look(images))

    def after(
        self, heard: IterationView, evaluations: Sequence[Evaluation], notes: StepNotes
    ) -> tuple[list[Alarm], StepNotes]:
        """What is told after an iteration and its evaluations, and the new memory; ``notes`` is not changed."""
        if not self.own:
            return [], notes
        notes = notes.copy()
        before = notes.get("share", 1.0)
        measured: dict[str, list[float]] = {}
        for one in self._ranks.joined(self._measured):
            for name, values in one.items():
                measured.setdefault(name, []).extend(values)
        alarm, memory = _HARM.hear(replace(heard, measured=measured), notes.get("harm", {}))
        notes["harm"], self._measured = dict(memory), []
        if "signal" in heard.figures:
            signal = Signal(*notes.get("signal", ())).after(heard.figures["signal"], heard.figures["signal_cells"])
            notes["signal"] = [signal.total, signal.cells, signal.squares]
        harm, share = ([] if alarm is None else [alarm.sentence.partition(":")[0]]), before
        for evaluation in evaluations:
            found = _held_out(evaluation, self._weights)
            if found is None:
                continue
            best = notes.get("best")
            if best is None or found[0] > best[0]:
                share, notes["best"] = (min(1.0, 2 * share) if best else share), list(found)
            elif best[0] - found[0] > _ERRORS * sqrt(best[1] ** 2 + found[1] ** 2):
                harm.append(f"the held-out reward fell ({found[0]:.3g}, was {best[0]:.3g})")
        notes["share"] = max(before / 2, LEAST_SHARE) if harm else share
        if not harm or notes["share"] == before:
            return [], notes
        sentence = f"{' and '.join(harm)}: from now on an iteration takes {notes['share']:.3g} of its usual step"
        return [Alarm(guard=_NAME, level="warn", sentence=sentence)], notes


def _held_out(evaluation: Evaluation, weights: Mapping[str, float]) -> tuple[float, float] | None:
    """The weighted held-out reward and its standard error; None where no trained reward has any."""
    known = {
        name: stats
        for name, stats in evaluation.rewards.items()
        if weights.get(name, 0.0) > 0 and stats.valid > 1 and isfinite(stats.mean) and isfinite(stats.spread)
    }
    total = sum(weights[name] for name in known)
    if not total:
        return None
    variance = sum((weights[name] * stats.spread) ** 2 / stats.valid for name, stats in known.items())
    return sum(weights[name] * stats.mean for name, stats in known.items()) / total, sqrt(variance) / total
