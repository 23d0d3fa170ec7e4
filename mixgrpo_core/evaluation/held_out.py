"""Held-out evaluation: prompts never trained on, plain ODE sampling, fixed seeds."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Generic

from torch import Tensor

from ..models.port import Cond, FlowModel, LoraState, alike
from ..models.sizes import sized
from ..rewards.port import Context, Origin, Reward, RewardBatch, Scores, about
from ..rewards.scoring import Failure, score
from ..rewards.stats import RewardStats
from ..rewards.turns import Turns
from ..sampling.ode import decode_frames, sample_together
from ..sampling.solvers import Euler, Solver
from ..support.ranks import ALONE, Ranks
from ..support.seeds import derive_seed
from ..support.sized import Size, size_of
from ..support.together import InOrder, collected, filling


@dataclass(frozen=True, kw_only=True)
class Prompted(Generic[Cond]):
    """A prompt, its conditioning, and the reference picture and mask that travel with it."""

    prompt: str
    cond: Cond
    context: Context = Context()


@dataclass(frozen=True, kw_only=True)
class HeldOut(Generic[Cond]):
    """What is evaluated: every prompt with the same seeds each time.

    Attributes:
        prompts: the held-out prompts.
        sigmas: ``[T + 1]``.
        of_sizes: those of prompts with a size of their own, where the grid is another.
        images_per_prompt: images of each prompt; the noise depends on the prompt's place and nothing else.
        batch: rows per network call.
        decode_batch: images per decode.
        solver: how to sample; plain Euler by default.
    """

    prompts: Sequence[Prompted[Cond]]
    sigmas: Tensor
    images_per_prompt: int = 4
    batch: int = 16
    decode_batch: int = 16
    solver: Solver = Euler()
    of_sizes: Mapping[Size, Tensor] = field(default_factory=dict)

    def sigmas_of(self, prompt: str) -> Tensor:
        """The grid of a prompt's size."""
        size = size_of(prompt)
        return self.sigmas if size is None else self.of_sizes.get(size, self.sigmas)

    def noise(self, model: FlowModel[Cond], index: int) -> Tensor:
        """Starting noise of prompt number ``index``, ``[images_per_prompt, *L]`` of a model at its size; never drawn in
        training."""
        return model.noise(self.seed(index), self.images_per_prompt)

    def seed(self, index: int) -> int:
        """Of that noise."""
        return derive_seed("held-out", index)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Held-out rewards of the policy after ``iteration`` iterations; ``scores`` per reward, one entry per prompt.

    Of the rewards that score held-out images, that is: there may be none.
    """

    iteration: int
    rewards: Mapping[str, RewardStats]
    scores: Mapping[str, Sequence[Scores]]
    failures: Sequence[Failure] = ()


def evaluate(
    model: FlowModel[Cond],
    held_out: HeldOut[Cond],
    rewards: Mapping[str, Reward],
    *,
    iteration: int = 0,
    weights: LoraState | None = None,
    lora_share: float = 1.0,
    on_prompt: Callable[[int, Tensor], None] = lambda index, images: None,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Score held-out samples of the model as it stands, or of ``weights`` (an EMA, say).

    A reward that does not score held-out images (``RewardInfo.held_out``) is not asked and has no figures.
    ``on_prompt`` hears the index and images ``[n, H, W, 3]`` of each prompt that is this rank's; raising from it
    cancels.
    """
    rewards = {name: reward for name, reward in rewards.items() if about(reward).held_out}
    own: list[tuple[dict[str, Scores], list[Failure]]] = []
    turns = Turns(rewards, ranks, len(held_out.prompts))
    for index, item, latents in _sampled(model, held_out, ranks.own(len(held_out.prompts)), weights, lora_share):
        images, frames = decode_frames(sized(model, item.prompt), latents, held_out.decode_batch)
        seed = held_out.seed(index)
        batch = RewardBatch(
            images=images,
            frames=frames,
            prompts=(item.prompt,) * len(images),
            group=index,
            context=replace(item.context, seed=seed),
            latents=latents,
            origin=Origin(seed=seed, sigmas=held_out.sigmas_of(item.prompt), model=model.digest),
        )
        with turns.at(index):
            own.append(score(rewards, batch))
        on_prompt(index, images)
    turns.finish()
    told = ranks.joined(own)
    scores = {name: [found[name] for found, _ in told] for name in rewards}
    failures = [failure for _, failed in told for failure in failed]
    stats = {name: RewardStats.of(groups) for name, groups in scores.items()}
    return Evaluation(iteration=iteration, rewards=stats, scores=scores, failures=failures)


def _sampled(
    model: FlowModel[Cond],
    held_out: HeldOut[Cond],
    own: Sequence[int],
    weights: LoraState | None,
    lora_share: float,
) -> Iterator[tuple[int, Prompted[Cond], Tensor]]:
    """The prompts ``own`` in their order, with their numbers and latents ``[n, *L]``: those that can share calls go
    together, as many as fill them to the last row."""
    together, order = filling(held_out.images_per_prompt, held_out.batch), InOrder[Tensor](own)

    def shared(index: int) -> Hashable:
        item = held_out.prompts[index]
        return size_of(item.prompt), alike(model, item.cond)

    for numbers in collected(own, together, shared):
        items = [held_out.prompts[index] for index in numbers]
        of_size = sized(model, items[0].prompt)
        with nullcontext() if weights is None else model.with_weights(weights):
            latents = sample_together(
                of_size,
                [item.cond for item in items],
                [held_out.noise(of_size, index) for index in numbers],
                held_out.sigmas_of(items[0].prompt),
                solver=held_out.solver,
                lora_share=lora_share,
                batch=held_out.batch,
            )
        for index, of_prompt in order.of(zip(numbers, latents, strict=True)):
            yield index, held_out.prompts[index], of_prompt


def win_rate(a: Evaluation, b: Evaluation, reward: str) -> float:
    """Share of image pairs (same prompt, same noise) in which ``a`` scores higher; a tie is half; NaN without pairs."""
    wins, pairs = 0.0, 0
    for left, right in zip(a.scores[reward], b.scores[reward], strict=True):
        valid = left.valid & right.valid
        difference = (left.values - right.values)[valid]
        wins += float((difference > 0).sum() + 0.5 * (difference == 0).sum())
        pairs += int(valid.sum())
    return wins / pairs if pairs else float("nan")
