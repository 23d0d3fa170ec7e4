"""A run that can be gone on with: knows the last whole state, and puts it on disk where it has a folder."""

import time
from collections.abc import Sequence
from functools import partial

from torch import Tensor

from ..evaluation.held_out import Evaluation
from ..models.lora_names import LoraFileError
from ..models.port import LoraState
from ..runs.checkpoint import Notes, Snapshot, TrainState
from ..runs.folder import RunError, RunFolder
from ..runs.reports import StepReport
from ..settings.config import UNTIL_STOPPED, TrainConfig, to_dict
from ..support.background import Background, in_peace
from ..support.ranks import Ranks
from .best import TrainingBest
from .lora_files import LoraFiles


class _OnDisk:
    """A run's state in its folder.

    Attributes:
        saved: iterations done in the newest checkpoint; None before the first.
    """

    def __init__(
        self, run: RunFolder, state: TrainState, config: TrainConfig, prompts_digest: int, best: TrainingBest
    ) -> None:
        self.run, self.state, self.config, self.best = run, state, config, best
        self.prompts_digest, self.files = prompts_digest, LoraFiles(run, state, config)
        self.saved: int | None = None

    def resume(self) -> None:
        """Go on from the run's newest checkpoint; a new run gets one right away."""
        snapshot = self.run.latest()
        if snapshot is not None:
            self._require_same_run(snapshot)
        self.run.require(self.config, self.run.config["setup"])
        if snapshot is not None:
            self.state.restore(snapshot)
            self.saved = snapshot.iteration
        self.state.notes["prompts"] = self.prompts_digest
        self._overrule()
        self.run.sweep()
        self.run.cut_metrics(self.state.iteration)
        if snapshot is None:
            self.save(self.state.capture())
        else:
            self._export_all(snapshot)  # a crash may have come between the checkpoint and its LoRA files

    def _require_same_run(self, snapshot: Snapshot) -> None:
        self.run.require_own(snapshot.settings)
        if snapshot.iteration > self.config.end:
            raise RunError(
                f"{self.run.path} has done {snapshot.iteration} iterations, found iterations={self.config.iterations}: "
                "ask for as many or more"
            )
        if snapshot.values["notes"].get("prompts") != self.prompts_digest:
            raise RunError(
                f"{self.run.path} was trained on other prompts (or other held-out ones): give the same, in the same "
                "order, or start a new run folder"
            )

    def _overrule(self) -> None:
        """Let a stopped run go on that is asked for with more iterations or with other guards."""
        stop, notes = self.state.notes.get("stopped"), self.state.notes
        if stop is None:
            return
        mended = to_dict(self.config)["guards"] != stop["guards"]
        before = stop["iterations"]
        longer = self.config.iterations > (self.state.iteration if before == UNTIL_STOPPED else before)
        if mended or longer or (self.config.endless and before != UNTIL_STOPPED):
            notes["overruled"] = [] if mended else sorted({*notes.get("overruled", ()), *stop["by"]})
            del notes["stopped"]

    def save(self, snapshot: Snapshot, best: LoraState | None = None) -> None:
        """Write a checkpoint and then the LoRA files; ``best`` are weights of the best policy that no file holds yet.

        The state may go on meanwhile, the snapshot may not change.
        """
        self.run.save(snapshot, self.config.keep)
        self.saved = snapshot.iteration
        self._export_all(snapshot)
        if best is not None:
            self._export("best", best, snapshot.values["notes"])
            if self.best.weights is best:  # there may be better ones meanwhile
                self.best.weights = None

    def _export_all(self, snapshot: Snapshot) -> None:
        notes: Notes = snapshot.values["notes"]
        trained, averaged = (snapshot.part(name, copied=False) for name in ("lora", "ema"))
        best = notes.get("best")
        self._export("last", trained, notes)
        if averaged is not None:
            self._export("ema", averaged, notes)
        if best is not None and 0 < snapshot.iteration == best["iteration"]:
            self._export("best", trained if averaged is None else averaged, notes)

    def _export(self, name: str, weights: LoraState, notes: Notes) -> None:
        path = self.run.lora(name)
        try:
            self.files.write(name, path, weights, notes)
        except (OSError, LoraFileError) as error:
            raise RunError(f"cannot write {path} ({error}): the checkpoint is whole, mend it and resume") from error


class Session:
    """Keeps a run resumable: knows the last whole state, and puts it on disk where the run has a folder.

    What an iteration starts from is held in two parts. The small one is copied when the iteration begins, the weights
    just before they are first changed, once: a checkpoint of the iteration's start is written from the same copy.
    Checkpoints are written in a thread, and their copy is not written over before they are whole.
    """

    def __init__(self, state: TrainState, config: TrainConfig, run: RunFolder | None, prompts_digest: int) -> None:
        self.state, self.config = state, config
        self._opening: Snapshot | None = None  # of the iteration under way
        self._weights: Snapshot | None = None  # those that iteration number ``_weights.iteration`` starts from
        self._buffers: dict[str, Tensor] = {}
        self._writing, self._saved_at = Background(), time.monotonic()
        self._best = TrainingBest(state, config)
        self._disk = None if run is None else _OnDisk(run, state, config, prompts_digest, self._best)
        state.before_change = self._keep_weights

    def resume(self, ranks: Ranks) -> None:
        """Go on from the run's newest checkpoint, all ranks alike; a new run gets one right away."""
        if self._disk is not None:
            self._disk.resume()
        if ranks.size > 1:
            snapshot = ranks.from_first(self.state.capture)
            if not ranks.is_first:
                self.state.restore(snapshot)

    @property
    def stopped(self) -> bool:
        """Whether a guard has stopped the run."""
        return "stopped" in self.state.notes

    def begin(self) -> None:
        """An iteration begins. Raises what went wrong with a checkpoint meanwhile."""
        self._writing.look()
        self._opening = self.state.opening()
        self._best.begin()

    def _keep_weights(self) -> Snapshot:
        """The weights as they are now, copied where they have not been since this iteration's start."""
        if self._weights is None or self._weights.iteration != self.state.iteration:
            self._writing.wait()  # its copy is in the same memory
            self._weights = self.state.weights(self._buffers)
        return self._weights

    def finish(self, report: StepReport) -> None:
        """An iteration is whole: record it, count it, and save when it is time."""
        if self._disk is not None:
            self._disk.run.record(report)  # first: an iteration that cannot be recorded is done again
        self.state.iteration = report.iteration + 1
        self.state.notes["updates"] = self.state.notes.get("updates", 0) + report.update.steps
        improved = self._note(report.evaluations)
        self._best.finish(report)
        if report.stopped:
            self._note_stop(report)
        self._opening = None
        if self._disk is not None and (improved or report.stopped or self._due):
            self._saved_at = time.monotonic()
            snapshot = self.state.opening().joined(self._keep_weights())
            self._writing.start(partial(self._disk.save, snapshot, self._best.weights))

    @property
    def _due(self) -> bool:
        done, minutes = self.state.iteration, self.config.checkpoint_minutes
        waited = bool(minutes) and time.monotonic() - self._saved_at >= 60 * minutes
        return waited or done % self.config.checkpoint_every == 0 or done == self.config.iterations

    def close(self) -> None:
        """Put an interrupted iteration back to its start, and leave a checkpoint of the last whole one.

        It is not cut short: a Ctrl-C meanwhile is raised after it.
        """
        try:
            self._writing.wait()
        finally:
            in_peace(self._close)

    def _close(self) -> None:
        opening, weights = self._opening, self._weights
        if opening is not None:  # the process's generators are left to its caller
            if weights is not None and weights.iteration == opening.iteration:
                self.state.restore_weights(weights)
            self.state.restore_opening(opening)
        if self._disk is not None and self._disk.saved != self.state.iteration:
            self._disk.save((opening or self.state.opening()).joined(self._keep_weights()), self._best.weights)

    def _note(self, evaluations: Sequence[Evaluation]) -> bool:
        """Note held-out means; whether the policy as it stands is the best so far."""
        improved = False
        for evaluation in evaluations:
            means = {name: stats.mean for name, stats in evaluation.rewards.items() if stats.valid}  # JSON has no NaN
            self.state.notes.setdefault("before", means)
            self.state.notes["after"] = means
            value, best = held_out_reward(evaluation, self.config), self.state.notes.get("best")
            if value is not None and value > (float("-inf") if best is None else best["reward"]):
                self.state.notes["best"] = {"iteration": evaluation.iteration, "reward": value}
                improved = evaluation.iteration == self.state.iteration
        return improved

    def _note_stop(self, report: StepReport) -> None:
        self.state.notes["stopped"] = {
            "why": report.stopped,
            "by": [alarm.guard for alarm in report.warnings if alarm.level == "stop"],
            "iterations": self.config.iterations,
            "guards": to_dict(self.config)["guards"],
        }


def held_out_reward(evaluation: Evaluation, config: TrainConfig) -> float | None:
    """Weighted mean of the trained rewards' held-out means: what "best" means. None where none of them has any."""
    weights = {name: config.reward_weights.get(name, 1.0) for name in evaluation.rewards}
    trained = {name: weight for name, weight in weights.items() if weight > 0}
    if not trained:
        return None
    return sum(weight * evaluation.rewards[name].mean for name, weight in trained.items()) / sum(trained.values())
