"""The rollouts of an iteration: groups of images, decoded and scored."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from ..advantages.combine import initial
from ..advantages.port import ScoredGroup
from ..evaluation.held_out import Prompted
from ..models.policy import OLD, REFERENCE
from ..models.sizes import sized
from ..objectives.packs import side_by_side, waves
from ..rewards.port import Origin, Reward, RewardBatch, about
from ..runs.checkpoint import TrainState
from ..runs.reports import GroupScored, Observer, Progress, Waiting
from ..sampling.planners import StepPlan
from ..sampling.rollouts import Prompt, rollout_together
from ..sampling.trajectory import Trajectory
from ..settings.config import TrainConfig
from ..support.beside import Beside
from ..support.phases import PhaseClock
from ..support.ranks import ALONE, Ranks
from ..support.seeds import derive_seed
from ..support.together import InOrder
from .decoding import Decoding
from .scoring import Scored, Scoring
from .taught import Rolled


def spread_floor(name: str, reward: Reward, config: TrainConfig) -> float:
    """Least standard deviation that a group's scores of this reward are divided by."""
    return config.spread_floors.get(name, max(config.spread_floor, about(reward).spread_floor))


@dataclass(frozen=True)
class _Sampled:
    """The latents of a group, and what gives its images and frames."""

    place: int
    item: Prompted
    plan: StepPlan
    trajectory: Trajectory
    images: Callable[[], tuple[Tensor | None, ...]]


@dataclass(frozen=True)
class _Decoded:
    """A group of images, and where it is from."""

    item: Prompted
    plan: StepPlan
    trajectory: Trajectory
    batch: RewardBatch


class RollingOut:
    """Rolls out and scores for the iteration that ``state`` stands at.

    Prompts of one size are rolled out side by side, as many as a call of the network has rows for: while a group is
    still one row, theirs fill a call. What comes after that is done in the order of the places: before the next prompts
    are rolled out, or, where a group is decoded beside them in a thread, when they have been.

    Args:
        trained: the rewards that are trained on.
        looks: hear the images ``[G, H, W, 3]`` of each group.
        ranks: who roll out by turns.
    """

    def __init__(
        self,
        state: TrainState,
        trained: Mapping[str, Reward],
        config: TrainConfig,
        decoding: Decoding,
        looks: Sequence[Callable[[Tensor], None]],
        observer: Observer,
        ranks: Ranks = ALONE,
    ) -> None:
        self._state, self._model, self._trained, self._config = state, state.model, trained, config
        self._decoding, self._looks, self._observer, self._ranks = decoding, looks, observer, ranks
        self._weights = {name: config.reward_weights.get(name, 1.0) for name in trained}
        self._floors = {name: spread_floor(name, reward, config) for name, reward in trained.items()}

    def groups(self, items: Sequence[Prompted], plans: Sequence[StepPlan], clock: PhaseClock) -> list[Rolled]:
        """This rank's groups of an iteration's prompts, in the order of their places."""
        own = self._ranks.own(len(items))
        waiting: deque[tuple[_Decoded, Scored]] = deque()
        found: list[Rolled] = []
        begun: list[_Sampled] = []
        with Scoring(self._trained, self._ranks, len(items)) as scoring, self._beside() as beside:

            def look_at(groups: Sequence[_Sampled]) -> None:
                for each in groups:
                    group = self._decoded(each, clock)
                    with clock.phase("reward"):
                        scored = scoring.begin(group.batch)
                        self._choose(group, scored)
                    waiting.append((group, scored))
                    while waiting and waiting[0][1].done:
                        found.append(self._rolled(*waiting.popleft()))
                    self._tell_waiting(len(waiting), scoring)

            hear = self._progress(sum(len(plans[place].steps) for place in own), scoring, beside)
            order = InOrder[Trajectory](own)
            for places in waves(own, self._together(scoring, beside), lambda place: items[place].prompt):
                trajectories = self._rolled_out(
                    [items[p] for p in places], [plans[p] for p in places], places, clock, hear
                )
                look_at(begun)
                begun = []
                for place, trajectory in order.of(zip(places, trajectories, strict=True)):
                    group = self._sampled(place, items[place], plans[place], trajectory, beside)
                    if beside is None or self._decoding.choosing(self._state.notes):
                        look_at([group])
                    else:
                        begun.append(group)
            look_at(begun)
            scoring.finish()
            while waiting:
                with clock.phase("reward"):
                    waiting[0][1].result()
                found.append(self._rolled(*waiting.popleft()))
                self._tell_waiting(len(waiting), scoring)
        return found

    def _beside(self) -> AbstractContextManager[Beside | None]:
        """Where groups are decoded while others are rolled out."""
        return self._decoding.beside or nullcontext()

    def _rolled_out(
        self,
        items: Sequence[Prompted],
        plans: Sequence[StepPlan],
        places: Sequence[int],
        clock: PhaseClock,
        hear: Callable[[int], None],
    ) -> list[Trajectory]:
        """Of prompts side by side."""
        with clock.phase("rollout"), self._sampling_policy():
            every = zip(items, plans, places, strict=True)
            return rollout_together(
                sized(self._model, items[0].prompt),
                [Prompt(cond=item.cond, plan=plan, seed=self._seed(place)) for item, plan, place in every],
                self._config.sampling(),
                group_size=self._config.images_per_prompt,
                on_step=hear,
            )

    def _sampled(
        self, place: int, item: Prompted, plan: StepPlan, trajectory: Trajectory, beside: Beside | None
    ) -> _Sampled:
        """A group of latents; where it is decoded beside others it is begun with."""
        how, latents = self._decoding.images(item.prompt, self._state.notes), trajectory.final
        if beside is None:
            return _Sampled(place, item, plan, trajectory, partial(how, latents))
        return _Sampled(place, item, plan, trajectory, partial(beside.take, beside.begin(how, latents)))

    def _tell_waiting(self, groups: int, scoring: Scoring) -> None:
        if scoring.aside:
            self._observer(Waiting(iteration=self._state.iteration, groups=groups))

    def _together(self, scoring: Scoring, beside: Beside | None) -> int:
        """Prompts that are rolled out side by side."""
        whole = scoring.aside or beside is not None
        return side_by_side(self._config.rollout_batch, self._config.images_per_prompt, whole=whole)

    def _seed(self, place: int) -> int:
        return derive_seed(self._config.seed, self._state.iteration, place)

    def _progress(self, total: int, scoring: Scoring, beside: Beside | None) -> Callable[[int], None]:
        number, done = self._state.iteration, 0

        def on_step(step: int) -> None:
            nonlocal done
            done += 1
            scoring.look()
            if beside is not None:
                beside.look()
            self._observer(Progress(iteration=number, phase="rollout", done=done, total=total))

        return on_step

    def _sampling_policy(self) -> AbstractContextManager[None]:
        """The weights that the objective samples with."""
        sampler = self._config.objective.sampled_by(self._state.notes.get("updates", 0))
        if sampler in (None, OLD):
            return nullcontext()
        return self._model.with_weights(None if sampler == REFERENCE else self._state.lagged[sampler].weights)

    def _decoded(self, group: _Sampled, clock: PhaseClock) -> _Decoded:
        seed, item, plan = self._seed(group.place), group.item, group.plan
        with clock.phase("decode"):  # beside rollouts: what is waited for
            images, frames = group.images()
        assert images is not None
        for look in self._looks:
            look(images)
        batch = RewardBatch(
            images=images,
            frames=frames,
            prompts=(item.prompt,) * len(images),
            group=group.place,
            context=replace(item.context, iteration=self._state.iteration, seed=seed),
            latents=group.trajectory.final,
            origin=self._origin(seed, plan),
        )
        return _Decoded(item, plan, group.trajectory, batch)

    def _choose(self, group: _Decoded, scored: Scored) -> None:
        """Where it is open how to decode, this group may tell: its scores are waited for."""
        if self._decoding.choosing(self._state.notes):
            self._decoding.choose(group.batch, scored.result()[0], self._state.notes)

    def _rolled(self, decoded: _Decoded, scored: Scored) -> Rolled:
        """The group with the advantages that it has on its own."""
        number, batch, (scores, failures) = self._state.iteration, decoded.batch, scored.result()
        group = ScoredGroup(
            prompt=decoded.item.prompt,
            place=batch.group,
            iteration=number,
            plan=decoded.plan,
            trajectory=decoded.trajectory,
            scores=scores,
            weights={name: self._weights[name] for name in scores},
            floors=self._floors,
            context=batch.context,
            places=sized(self._model, decoded.item.prompt).places,
        )
        looked = [stage.look(group, batch.images.clone()) for stage in self._config.credit]
        first = initial(self._config.credit, group, looked)
        self._observer(
            GroupScored(
                iteration=number,
                prompt=decoded.item.prompt,
                images=batch.images,
                scores=scores,
                advantage=first.values,
            )
        )
        return Rolled(decoded.item.cond, group, first, looked, failures)

    def _origin(self, seed: int, plan: StepPlan) -> Origin:
        starts = 1 if self._config.shared_noise else self._config.images_per_prompt // plan.leaves_per_row
        return Origin(seed=seed, sigmas=plan.sigmas, model=self._model.digest, starts=starts)
