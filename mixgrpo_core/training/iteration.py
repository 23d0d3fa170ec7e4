"""One iteration: roll out groups, score them, update the policy, evaluate it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..advantages.combine import Advantages
from ..advantages.group import has_spread
from ..evaluation.guards import Alarm
from ..evaluation.guards.watch import Watch
from ..evaluation.held_out import Evaluation, HeldOut, Prompted, evaluate
from ..objectives.update import Group, UpdateStats, update_policy
from ..rewards.port import Context, Reward, RewardBatch, Scores, about
from ..rewards.scoring import Failure, score
from ..rewards.stats import RewardStats, all_stats
from ..runs.checkpoint import TrainState
from ..runs.reports import GroupScored, Observer, Progress, StepReport
from ..sampling.ode import decode
from ..sampling.planners import StepPlan
from ..sampling.rollouts import rollout
from ..sampling.trajectory import Trajectory
from ..settings.config import TrainConfig
from ..support.phases import PhaseClock, peak_memory, reset_peak_memory
from ..support.seeds import derive_seed


class RewardsFailed(RuntimeError):
    """No image of an iteration got a valid score: there is nothing to train on."""


def prompt_order(seed: int, iteration: int, count: int, pool: int) -> list[int]:
    """Which ``count`` of ``pool`` prompts an iteration rolls out: a fresh shuffle each time the pool is used up."""
    places = range(iteration * count, (iteration + 1) * count)
    return [int(_shuffle(seed, place // pool, pool)[place % pool]) for place in places]


def visited(config: TrainConfig, first: int, pool: int) -> list[int]:
    """Which of ``pool`` prompts the iterations from ``first`` on roll out, ascending."""
    count = config.prompts_per_iteration
    orders = (prompt_order(config.seed, iteration, count, pool) for iteration in range(first, config.iterations))
    return sorted({index for order in orders for index in order})


@lru_cache(maxsize=2)
def _shuffle(seed: int, epoch: int, pool: int) -> Tensor:
    return torch.randperm(pool, generator=torch.Generator().manual_seed(derive_seed("prompts", seed, epoch)))


def spread_floor(name: str, reward: Reward, config: TrainConfig) -> float:
    """Least standard deviation that a group's scores of this reward are divided by."""
    return config.spread_floors.get(name, max(config.spread_floor, about(reward).spread_floor))


@dataclass(frozen=True)
class _Rolled:
    """A scored group: what it would be trained on, or no trajectory where it has no spread."""

    item: Prompted
    trajectory: Trajectory | None
    advantages: Advantages


class Iteration:
    """Runs the iteration that ``state`` stands at; changes the policy, the optimizer, the EMA and the guards' notes.

    ``pool`` holds the prompts that will be rolled out, by their place among all ``pool_size`` prompts.
    """

    def __init__(
        self,
        state: TrainState,
        pool: Mapping[int, Prompted],
        pool_size: int,
        config: TrainConfig,
        held_out: HeldOut,
        observer: Observer,
    ) -> None:
        self.state, self.model, self.rewards = state, state.model, state.rewards
        self.pool, self.pool_size, self.config = pool, pool_size, config
        self.held_out, self.observer = held_out, observer
        self.weights = {name: config.reward_weights.get(name, 1.0) for name in self.rewards}
        self.trained = {name: reward for name, reward in self.rewards.items() if self.weights[name] > 0}
        self.floors = {name: spread_floor(name, reward, config) for name, reward in self.trained.items()}
        self.watch = Watch(config.guards, {name: self.weights[name] for name in self.trained})

    def run(self) -> StepReport:
        number = self.state.iteration
        self.clock = PhaseClock(lambda: self.model.evaluations, self.model.device)
        reset_peak_memory(self.model.device)
        self.scores: dict[str, list[Scores]] = {name: [] for name in self.trained}
        self.failures: list[Failure] = []
        self.alarms: list[Alarm] = []
        evaluations = [self._evaluate(0)] if number == 0 and self._evaluating else []
        plans, rolled, kept_bytes = [], [], 0
        chosen = prompt_order(self.config.seed, number, self.config.prompts_per_iteration, self.pool_size)
        for place, index in enumerate(chosen):
            plan = self.config.planner.plan(number, index, self.config.sigmas())
            trajectory = self._rollout(plan, self.pool[index], place)
            rolled.append(self._scored(trajectory, self.pool[index], place))
            kept_bytes += trajectory.nbytes
            plans.append(plan)
        self._require_scores()
        groups = self._groups(rolled)
        update = self._update(groups)
        rewards = all_stats(self.scores)
        if self._evaluating:
            self.watch.hear(rewards, self.state.notes)
            if (number + 1) % self.config.eval_every == 0 or number + 1 == self.config.iterations:
                evaluations.append(self._evaluate(number + 1))
        flat = 1 - len(groups) / len(rolled)
        return self._report(rewards, evaluations, update, flat, plans[0], kept_bytes)

    @property
    def _evaluating(self) -> bool:
        return bool(self.held_out.prompts) and self.config.eval_every > 0

    def _rollout(self, plan: StepPlan, item: Prompted, place: int) -> Trajectory:
        number, total = self.state.iteration, self.config.prompts_per_iteration * len(plan.steps)

        def on_step(step: int) -> None:
            done = place * len(plan.steps) + step + 1
            self.observer(Progress(iteration=number, phase="rollout", done=done, total=total))

        with self.clock.phase("rollout"):
            return rollout(
                self.model,
                item.cond,
                plan,
                self.config.sampling(),
                group_size=self.config.images_per_prompt,
                seed=derive_seed(self.config.seed, number, place),
                on_step=on_step,
            )

    def _scored(self, trajectory: Trajectory, item: Prompted, place: int) -> _Rolled:
        """The group with the advantages that it has on its own. One without spread is let go at once."""
        number = self.state.iteration
        with self.clock.phase("decode"):
            images = decode(self.model, trajectory.final, self.config.decode_batch)
        with self.clock.phase("reward"):
            context = Context(iteration=number, seed=derive_seed(self.config.seed, number, place))
            prompts = (item.prompt,) * len(images)
            batch = RewardBatch(images=images, prompts=prompts, group=place, context=context)
            scores, failures = score(self.trained, batch)
        self.failures.extend(failures)
        for name, values in scores.items():
            self.scores[name].append(values)
        weights = {name: self.weights[name] for name in scores}
        advantages = self.config.combination.combine(scores, weights, self.floors)
        self.observer(
            GroupScored(iteration=number, prompt=item.prompt, images=images, scores=scores, advantage=advantages.values)
        )
        return _Rolled(item, trajectory if has_spread(advantages.values) else None, advantages)

    def _groups(self, rolled: list[_Rolled]) -> list[Group]:
        """What is trained on: groups with spread, with their final advantages, without members that do not count."""
        settled = self.config.combination.settle([one.advantages for one in rolled])
        groups = []
        for one, advantages in zip(rolled, settled, strict=True):
            if one.trajectory is not None:
                device = one.trajectory.final.device
                group = Group(cond=one.item.cond, trajectory=one.trajectory, advantage=advantages.values.to(device))
                groups.append(group.select(advantages.counted.nonzero()[:, 0].to(device)))
        return groups

    def _require_scores(self) -> None:
        if not any(found.abstained or bool(found.valid.any()) for groups in self.scores.values() for found in groups):
            raise RewardsFailed(
                f"expected scores for iteration {self.state.iteration}, but no image got a valid one "
                f"({self.failures[-1]}). The run is kept as it was before this iteration: mend the reward and resume"
            )

    def _update(self, groups: list[Group]) -> UpdateStats:
        number = self.state.iteration

        def on_update(done: int, total: int) -> None:
            self.observer(Progress(iteration=number, phase="train", done=done, total=total))

        on_update(0, self.config.updates * self.config.epochs)
        with self.clock.phase("train"):
            return update_policy(
                self.model,
                groups,
                self.config.objective,
                self.state.optimizer,
                self.config.updating(),
                clock=self.clock,
                ema=self.state.ema,
                on_update=on_update,
            )

    def _evaluate(self, iteration: int) -> Evaluation:
        total = len(self.held_out.prompts)

        def on_prompt(index: int, images: Tensor) -> None:
            self.watch.see(images)
            self.observer(Progress(iteration=self.state.iteration, phase="evaluation", done=index + 1, total=total))

        with self.clock.phase("evaluation"):
            weights = None if self.state.ema is None else self.state.ema.average
            found = evaluate(
                self.model, self.held_out, self.rewards, iteration=iteration, weights=weights, on_prompt=on_prompt
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
        per = {name: held_out if name == "evaluation" else images for name in self.clock.evaluations}
        return StepReport(
            iteration=self.state.iteration,
            rewards=rewards,
            evaluations=evaluations,
            update=update,
            flat_groups=flat,
            window=(plan.trained[0], plan.trained[-1] + 1) if plan.trained else (0, 0),
            nfe={name: count / per[name] for name, count in self.clock.evaluations.items() if count},
            seconds=dict(self.clock.seconds),
            peak_memory=peak_memory(self.model.device),
            trajectory_bytes=kept_bytes,
            failures=self.failures,
            warnings=self.alarms,
            stopped="; ".join(str(alarm) for alarm in self.alarms if alarm.level == "stop"),
        )
