"""Training as a generator of reports: one iteration after another (arXiv 2507.21802, Algorithm 1).

A node, the command line and a test are loops over ``train``. However it ends - the loop breaks, an observer raises,
Ctrl-C, an error - a run folder holds a checkpoint of the last whole iteration, and the next call goes on from there.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch.nn import Parameter

from .checkpoint import Snapshot, TrainState
from .config import TrainConfig, to_dict
from .ema import Ema
from .evaluate import Evaluation, HeldOut, Prompted
from .guards.watch import OVERRULED
from .iteration import Iteration, visited
from .lora_format import LoraFileError, training_metadata
from .model import Cond, FlowModel, derive_seed
from .preflight import check
from .reward import Reward
from .run_folder import RunError, RunFolder
from .step_report import Observer, StepReport, ignore

MakeOptimizer = Callable[[Iterable[Parameter]], torch.optim.Optimizer]


def train(
    model: FlowModel[Cond],
    prompts: Sequence[str],
    rewards: Mapping[str, Reward],
    config: TrainConfig,
    *,
    held_out: Sequence[str] = (),
    run: RunFolder | None = None,
    observer: Observer = ignore,
    make_optimizer: MakeOptimizer | None = None,
) -> Iterator[StepReport]:
    """Train the model's LoRA, yielding a report per iteration.

    A guard that stops the run ends it after the report that says so. A run that was stopped stays so; it goes on when
    it is asked for with more iterations, and that guard then only warns, or with other guards.

    Args:
        model: the policy; its LoRA is trained in place.
        prompts: what is rolled out, in an order shuffled by the seed; each comes once before any comes again.
        rewards: by name; ``config.reward_weights`` weighs them.
        held_out: prompts that are evaluated and never trained on.
        run: where checkpoints, metrics and LoRA files go; a run that has a checkpoint is resumed. None keeps nothing.
        observer: hears what happens inside an iteration.
        make_optimizer: makes the optimizer of the LoRA's parameters; AdamW by default.

    Raises:
        ValueError: settings, prompts and rewards that do not fit, before any work.
        RunError: the run folder cannot be read or written, or is a run of other settings.
        RewardsFailed: no image of an iteration got a valid score. NonFiniteLoss: see ``update``.
    """
    check(model, prompts, rewards, config, held_out)
    for reward in rewards.values():
        reward.prepare([*prompts, *held_out])
    return _train(
        model, prompts, rewards, config, held_out, run, observer, make_optimizer or partial(adamw, config=config)
    )


def _train(
    model: FlowModel[Cond],
    prompts: Sequence[str],
    rewards: Mapping[str, Reward],
    config: TrainConfig,
    held_out: Sequence[str],
    run: RunFolder | None,
    observer: Observer,
    make_optimizer: MakeOptimizer,
) -> Iterator[StepReport]:
    with run.locked() if run else nullcontext():
        with _gradients():
            state = _fresh_state(model, rewards, config, make_optimizer)
            session = _Session(state, config, run, prompts_digest=derive_seed(*prompts, "held out", *held_out))
            session.resume()
            iteration = _iteration(state, prompts, held_out, config, observer)
        try:
            while state.iteration < config.iterations and not session.stopped:
                with _gradients():
                    session.begin()
                    report = iteration.run()
                    session.finish(report)
                yield report
        finally:
            with _gradients():
                session.close()


@contextmanager
def _gradients() -> Iterator[None]:
    """Training's own gradient mode, whatever the caller's: a node of ComfyUI runs in inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def _iteration(
    state: TrainState, prompts: Sequence[str], held_out: Sequence[str], config: TrainConfig, observer: Observer
) -> Iteration:
    """Encode what will be used, and make the object that runs iterations."""
    model = state.model
    needed = visited(config, state.iteration, len(prompts))
    model.prepare([*(prompts[index] for index in needed), *held_out])
    pool = {index: Prompted(prompt=prompts[index], cond=model.encode(prompts[index])) for index in needed}
    evaluation = HeldOut(
        prompts=[Prompted(prompt=prompt, cond=model.encode(prompt)) for prompt in held_out],
        sigmas=config.eval_sigmas(),
        images_per_prompt=config.eval_images,
        batch=config.rollout_batch,
        decode_batch=config.decode_batch,
    )
    return Iteration(state, pool, len(prompts), config, evaluation, observer)


def _fresh_state(
    model: FlowModel[Cond], rewards: Mapping[str, Reward], config: TrainConfig, make_optimizer: MakeOptimizer
) -> TrainState:
    ema = None if config.ema is None else Ema(config.ema, model.lora_state())
    return TrainState(model=model, optimizer=make_optimizer(list(model.parameters())), rewards=rewards, ema=ema)


def adamw(parameters: Iterable[Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """The default optimizer, with the config's settings."""
    return torch.optim.AdamW(
        parameters, lr=config.learning_rate, betas=(config.beta1, config.beta2), weight_decay=config.weight_decay
    )


class _Session:
    """Keeps a run resumable: knows the last whole state and puts it on disk."""

    def __init__(self, state: TrainState, config: TrainConfig, run: RunFolder | None, prompts_digest: int) -> None:
        self.state, self.config, self.run = state, config, run
        self.prompts_digest = prompts_digest
        self.whole: Snapshot | None = None
        self.saved: int | None = None

    def resume(self) -> None:
        """Go on from the run's newest checkpoint; a new run gets one right away."""
        if self.run is None:
            return
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
            self._save(self.state.capture())
        else:
            self._export_all()  # a crash may have come between the checkpoint and its LoRA files

    def _require_same_run(self, snapshot: Snapshot) -> None:
        if snapshot.iteration > self.config.iterations:
            raise RunError(
                f"{self.run.path} has done {snapshot.iteration} iterations, found iterations={self.config.iterations}: "
                "ask for as many or more"
            )
        if snapshot.values["notes"].get("prompts") != self.prompts_digest:
            raise RunError(
                f"{self.run.path} was trained on other prompts (or other held-out ones): give the same, in the same "
                "order, or start a new run folder"
            )

    @property
    def stopped(self) -> bool:
        """Whether a guard has stopped the run."""
        return "stopped" in self.state.notes

    def _overrule(self) -> None:
        """Let a stopped run go on that is asked for with more iterations or with other guards."""
        stop, notes = self.state.notes.get("stopped"), self.state.notes
        if stop is None:
            return
        mended = to_dict(self.config)["guards"] != stop["guards"]
        if mended or self.config.iterations > stop["iterations"]:
            notes[OVERRULED] = [] if mended else sorted({*notes.get(OVERRULED, ()), *stop["by"]})
            del notes["stopped"]

    def begin(self) -> None:
        self.whole = self.state.capture()

    def finish(self, report: StepReport) -> None:
        """An iteration is whole: record it, count it, and save when it is time."""
        if self.run is not None:
            self.run.record(report)  # first: an iteration that cannot be recorded is done again
        self.state.iteration = report.iteration + 1
        self.state.notes["updates"] = self.state.notes.get("updates", 0) + report.update.steps
        improved = self._note(report.evaluations)
        if report.stopped:
            self._note_stop(report)
        self.whole = None
        if self.run is None:
            return
        done = self.state.iteration
        due = done % self.config.checkpoint_every == 0 or done == self.config.iterations
        if improved or due or report.stopped:
            self._save(self.state.capture())

    def close(self) -> None:
        """Put an interrupted iteration back to its start, and leave a checkpoint of the last whole one."""
        if self.whole is not None:  # the process's generators are left to its caller
            self.state.restore(self.whole, generators=False)
        if self.run is not None and self.saved != self.state.iteration:
            self._save(self.whole or self.state.capture())

    def _note(self, evaluations: Sequence[Evaluation]) -> bool:
        """Note held-out means; whether the policy as it stands is the best so far."""
        improved = False
        for evaluation in evaluations:
            means = {name: stats.mean for name, stats in evaluation.rewards.items() if stats.valid}  # JSON has no NaN
            self.state.notes.setdefault("before", means)
            self.state.notes["after"] = means
            value = held_out_reward(evaluation, self.config)
            if value is not None and value > self.state.notes.get("best", {}).get("reward", float("-inf")):
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

    def _save(self, snapshot: Snapshot) -> None:
        self.run.save(snapshot, self.config.keep)
        self.saved = snapshot.iteration
        self._export_all()

    def _export_all(self) -> None:
        averaged = self.state.ema is not None
        self._export("last", averaged=False)
        if averaged:
            self._export("ema", averaged=True)
        if 0 < self.state.iteration == self.state.notes.get("best", {}).get("iteration"):
            self._export("best", averaged)

    def _export(self, name: str, averaged: bool) -> None:
        metadata = training_metadata(
            config=to_dict(self.config),
            learning_rate=self.config.learning_rate,
            seed=self.config.seed,
            steps=self.state.notes.get("updates", 0),
            rewards_before=self.state.notes.get("before", {}),
            rewards_after=self.state.notes.get("after", {}),
            title=f"{self.run.path.name}-{name}",
            started=self.run.started,
            optimizer=type(self.state.optimizer).__name__,
        )
        path = self.run.lora(name)
        try:
            self.state.model.export_lora(path, metadata, self.state.ema.average if averaged else None)
        except (OSError, LoraFileError) as error:
            raise RunError(f"cannot write {path} ({error}): the checkpoint is whole, mend it and resume") from error


def held_out_reward(evaluation: Evaluation, config: TrainConfig) -> float | None:
    """Weighted mean of the trained rewards' held-out means: what "best" means. None where none of them has any."""
    weights = {name: config.reward_weights.get(name, 1.0) for name in evaluation.rewards}
    trained = {name: weight for name, weight in weights.items() if weight > 0}
    if not trained:
        return None
    return sum(weight * evaluation.rewards[name].mean for name, weight in trained.items()) / sum(trained.values())
