"""One iteration: roll out groups, score them, update the policy, evaluate it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from ..evaluation.guards import Alarm, IterationView
from ..evaluation.guards.watch import Watch
from ..evaluation.held_out import Evaluation, HeldOut, Prompted, evaluate
from ..objectives.figures import UpdateStats
from ..objectives.pieces import Elsewhere, Group, Moment
from ..objectives.update import UpdateSettings, update_policy
from ..rewards.port import figures_of
from ..rewards.scoring import Failure
from ..rewards.stats import RewardStats, all_stats
from ..rewards.turns import remembers
from ..runs.checkpoint import TrainState
from ..runs.reports import Observer, Progress, StepReport
from ..sampling.planners import GroupResult, StepPlan
from ..settings.config import TrainConfig
from ..settings.prompt_sources.port import chosen_prompts
from ..support.memory import NOTHING, Memory
from ..support.phases import PhaseClock, reset_peak_memory
from ..support.ranks import ALONE, Ranks
from .backing_off import BackingOff
from .decoding import Decoding
from .effort import Effort, by_rank, evaluations_of
from .hearing import iterated, learned
from .probing import circumstances, due, noted
from .rolled_grids import RolledGrids
from .rolling_out import RollingOut
from .taught import taught, told
from .visits import prompt_draw


class Iteration:
    """Runs the iteration that ``state`` stands at; changes the policy, the optimizer, the EMA and the guards' notes.

    ``pool`` holds the prompts that will be rolled out, by their place among all ``pool_size`` prompts.
    """

    def __init__(
        self,
        state: TrainState,
        pool: Mapping[int, Prompted] | Sequence[Prompted],
        pool_size: int,
        config: TrainConfig,
        held_out: HeldOut,
        observer: Observer,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        ranks.deal_for(config.update_count)
        self.state, self.model, self.rewards = state, state.model, state.rewards
        self.pool, self.pool_size, self.config = pool, pool_size, config
        self.held_out, self.observer = held_out, observer
        self.grids = RolledGrids(state.model, config)
        self.updating = replace(config.updating(self.grids.sigmas), of_sizes=self.grids.candidates)
        self.weights = {name: config.reward_weights.get(name, 1.0) for name in self.rewards}
        self.trained = {name: reward for name, reward in self.rewards.items() if self.weights[name] > 0}
        weights = {name: self.weights[name] for name in self.trained}
        self.backing_off, self.watch = BackingOff(config, weights, ranks), Watch(config.guards, weights, ranks)
        self.decoding = Decoding(config, state.model, self.trained, ranks)
        looks = (self.watch.look, self.backing_off.look)
        self.rolling_out = RollingOut(state, self.trained, config, self.decoding, looks, observer, ranks)

    def run(self) -> StepReport:
        number = self.state.iteration
        self.clock = PhaseClock(lambda: self.model.evaluations, self.model.device)
        self.ranks.time_waits(self.clock)
        reset_peak_memory(self.model.device)
        self.failures: list[Failure] = []
        self.alarms: list[Alarm] = []
        evaluations: list[Evaluation] = []
        first = number == 0 and self._evaluating
        if first and any(remembers(reward.state_dict()) for reward in self.rewards.values()):
            evaluations.append(self._evaluate(0))
        memories = self.state.notes.get("learned", {})
        draw = prompt_draw(self.config, number, self.pool_size)
        chosen = chosen_prompts(self.config.prompt_source, draw, memories.get("prompt_source", NOTHING))
        items, memory = [self.pool[index] for index in chosen], memories.get("planner", NOTHING)
        grids = [self.grids.of(item.prompt) for item in items]
        plans = [self.config.plan(number, *each, memory) for each in zip(chosen, grids, strict=True)]
        rolled = self.rolling_out.groups(items, plans, self.clock)
        if first and not evaluations:  # once there are pictures: nothing has been learned yet
            evaluations.append(self._evaluate(0))
        scored, failures = told(rolled, number, self.ranks)
        self.failures.extend(failures)
        groups, credit_figures = taught(rolled, self.config, self.ranks)
        figures = self.ranks.from_first(lambda: figures_of(self.trained))
        update = self._update(groups, plans).beside({**credit_figures, **figures})
        self._learn(
            [GroupResult(prompt=p, plan=s, scores=g) for p, s, g in zip(chosen, plans, scored, strict=True)], memories
        )
        rewards = all_stats({name: [scores[name] for scores in scored] for name in self.trained})
        heard = iterated(number, scored, rewards, self.watch.weights, update, self.config)
        self.alarms.extend(self.watch.hear(heard, self.state.notes))
        if self._evaluating:
            self.watch.note(rewards, self.state.notes)
            if (number + 1) % self.config.eval_every == 0 or number + 1 == self.config.iterations:
                evaluations.append(self._evaluate(number + 1))
        self._back_off(heard, evaluations)
        flat = 1 - len(groups) / len(chosen)
        kept = sum(one.group.trajectory.nbytes for one in rolled)
        return self._report(rewards, evaluations, update, flat, plans[0], kept)

    @property
    def _evaluating(self) -> bool:
        return bool(self.held_out.prompts) and self.config.eval_every > 0

    def _learn(self, heard: Sequence[GroupResult], memories: Mapping[str, Memory]) -> None:
        """Planner and prompt source hear of the groups; what they remember is among the run's notes."""
        kept = learned(heard, self.config, memories)
        self.state.notes.pop("learned", None)
        if kept:
            self.state.notes["learned"] = kept

    def _update(self, groups: list[Group | Elsewhere], plans: Sequence[StepPlan]) -> UpdateStats:
        number = self.state.iteration

        def on_update(done: int, total: int) -> None:
            self.observer(Progress(iteration=number, phase="train", done=done, total=total))

        on_update(0, self.config.update_count * self.config.epochs)
        notes = self.state.notes
        now = self.ranks.from_first(lambda: circumstances(self.config, plans, self.model.device))
        probed = notes.get("probe")
        self.state.before_change()
        with self.clock.phase("train"):
            update = update_policy(
                self.model,
                groups,
                self.config.objective,
                self.state.optimizer,
                replace(self._updating, probe=due(probed, now, number), look_back=True),
                clock=self.clock,
                moment=Moment(seed=self.config.seed, iteration=number),
                ema=self.state.ema,
                lagged=self.state.lagged,
                on_update=on_update,
                ranks=self.ranks,
            )
            for policy in self.state.lagged.values():
                policy.passed("iteration", self.model.lora_state())
        notes.pop("probe", None)
        if (remembered := noted(probed, now, number, update)) is not None:
            notes["probe"] = remembered
        return update

    @property
    def _updating(self) -> UpdateSettings:
        """How groups become steps; where the step sets itself, as large as it should be now."""
        if not self.backing_off.own:
            return self.updating
        return replace(
            self.updating, move=self.backing_off.move(self.state.iteration, self.state.notes.get("steps", {}))
        )

    def _back_off(self, heard: IterationView, evaluations: Sequence[Evaluation]) -> None:
        """Where the step sets itself: by how much the next ones are smaller is among the run's notes."""
        alarms, notes = self.backing_off.after(heard, evaluations, self.state.notes.get("steps", {}))
        self.alarms.extend(alarms)
        if notes:
            self.state.notes["steps"] = notes

    def _evaluate(self, iteration: int) -> Evaluation:
        total = len(self.held_out.prompts)

        def on_prompt(index: int, images: Tensor) -> None:
            self.watch.see(images)
            self.observer(Progress(iteration=self.state.iteration, phase="evaluation", done=index + 1, total=total))

        with self.clock.phase("evaluation"):
            weights = None if self.state.ema is None else self.state.ema.average
            found = evaluate(
                self.model,
                self.held_out,
                self.rewards,
                iteration=iteration,
                weights=weights,
                on_prompt=on_prompt,
                ranks=self.ranks,
            )
            self.alarms.extend(self.watch.judge(found, self.state.notes))
        self.failures.extend(found.failures)
        return found

    def _report(
        self,
        rewards: Mapping[str, RewardStats],
        evaluations: list[Evaluation],
        update: UpdateStats,
        flat: float,
        plan: StepPlan,
        kept_bytes: int,
    ) -> StepReport:
        images = self.config.prompts_per_iteration * self.config.images_per_prompt
        held_out = max(1, len(evaluations) * len(self.held_out.prompts) * self.held_out.images_per_prompt)
        efforts = self.ranks.all_gather(Effort.of(self.clock, self.model.device, kept_bytes))
        evaluated = evaluations_of(efforts)
        self.alarms.extend(self.decoding.settled(self.state.notes))
        per = {name: held_out if name == "evaluation" else images for name in evaluated}
        return StepReport(
            iteration=self.state.iteration,
            rewards=rewards,
            evaluations=evaluations,
            update=update,
            flat_groups=flat,
            window=(plan.trained[0], plan.trained[-1] + 1) if plan.trained else (0, 0),
            sigmas=[round(level, 6) for level in self.grids.sigmas.tolist()],
            nfe={name: count / per[name] for name, count in evaluated.items() if count},
            seconds=efforts[0].seconds,
            peak_memory=max(one.memory for one in efforts),
            trajectory_bytes=sum(one.kept for one in efforts),
            by_rank=by_rank(efforts),
            decoded=self.decoding.told(self.state.notes),
            failures=self.failures,
            warnings=self.alarms,
            stopped="; ".join(str(alarm) for alarm in self.alarms if alarm.level == "stop"),
        )
