"""Models side by side, most often without and with a LoRA: the same prompts and noise, scores and how often each wins.

Images of one prompt, by all of them, are one group: a judge that compares images compares the models.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from ..models.port import FlowModel, Sampled
from ..models.sizes import sized
from ..rewards.port import Context, Reward, RewardBatch, Scores, about
from ..rewards.scoring import Failure, score
from ..rewards.stats import RewardStats
from ..sampling.ode import carried_together, decode_frames
from ..sampling.schedule import start_of
from ..support.seeds import derive_seed
from ..support.sized import size_of
from ..support.together import collected, filling
from .held_out import Evaluation, win_rate


class Draws(Sampled[Any], Protocol):
    """What images can be made with: a model of the port, or one without a LoRA of ours. Members are the port's."""

    @property
    def device(self) -> torch.device:
        """Where its latents live."""
        ...

    def noise(self, seed: int, count: int) -> Tensor:
        """Standard normal noise ``[count, *L]``, float32; see ``FlowModel.noise``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Comparing:
    """What models are compared on.

    Attributes:
        prompts: of which images are made.
        sigmas: gives the grid ``[T + 1]`` of a model at its size.
        contexts: reference pictures and masks, by prompt.
        images: of each prompt.
        seed: another one is other noise.
        batch, decode_batch: rows per call of the network, images per decode.
    """

    prompts: Sequence[str]
    sigmas: Callable[[Any], Tensor]
    contexts: Mapping[str, Context] = field(default_factory=dict)
    images: int = 4
    seed: int = 0
    batch: int = 16
    decode_batch: int = 16

    def noise_seed(self, place: int) -> int:
        """Of the noise of prompt number ``place``; it is drawn neither in training nor in its evaluations."""
        return derive_seed("compare", self.seed, place)


@dataclass(frozen=True)
class Part:
    """A part of the way from noise to an image.

    Attributes:
        model: who goes it.
        until: the share of the steps at which it ends.
        lora: whether the model's LoRA is on.
    """

    model: Draws
    until: float = 1.0
    lora: bool = True


def hybrid(model: Draws, share: float) -> list[Part]:
    """The model's LoRA for the first ``share`` of the steps, the base model for the rest (hybrid inference)."""
    return [Part(model, share), Part(model, lora=False)]


def drawn(parts: Sequence[Part], how: Comparing) -> list[Tensor]:
    """Latents ``[images, *L]`` of every prompt, on the CPU.

    All prompts go one part before any goes the next: changing a model's weights takes longer than keeping latents.
    """
    of_size = [_at(parts[0].model, prompt) for prompt in how.prompts]
    grids = [how.sigmas(model) for model in of_size]
    noise = [model.noise(how.noise_seed(place), how.images) for place, model in enumerate(of_size)]
    latents = [start_of(*each) for each in zip(noise, grids, strict=True)]
    done = 0
    for part in parts:
        steps = len(grids[0]) - 1 if grids else 0
        stop = round(part.until * steps)
        if stop > done:
            for places in _together(how):
                first = places[0]
                carried = carried_together(
                    _at(part.model, how.prompts[first]),
                    [part.model.encode(how.prompts[place]) for place in places],
                    [latents[place] for place in places],
                    grids[first][done : stop + 1],
                    lora_share=1.0 if part.lora else 0.0,
                    batch=how.batch,
                )
                for place, of in zip(places, carried, strict=True):
                    latents[place] = of
            done = stop
    return [of.cpu() for of in latents]


def _at(model: Draws, prompt: str) -> Draws:
    """The model at the prompt's own size."""
    return sized(cast(FlowModel[Any], model), prompt)


def _together(how: Comparing) -> Iterator[list[int]]:
    """Places of prompts that have one size, as many as fill calls to the last row."""
    places = range(len(how.prompts))
    return collected(places, filling(how.images, how.batch), lambda place: size_of(how.prompts[place]))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What was found of several models.

    Attributes:
        names: of the models.
        evaluations: of each; of the rewards that score such images, which may be none.
        failures: what rewards could not score, and why.
    """

    names: Sequence[str]
    evaluations: Sequence[Evaluation]
    failures: Sequence[Failure] = ()

    @property
    def rewards(self) -> list[str]:
        """Names of the rewards that scored."""
        return list(self.evaluations[0].rewards)

    def wins(self, reward: str, of: int, against: int) -> float:
        """In what share of the pairs of one noise model ``of`` scores higher; NaN where no pair was scored."""
        return win_rate(self.evaluations[of], self.evaluations[against], reward)

    def figures(self, reward: str) -> list[str]:
        """Per model the mean and the spread of its scores, and what could not be scored."""
        return [in_words(evaluation.rewards[reward]) for evaluation in self.evaluations]

    def captions(self) -> list[list[str]] | None:
        """Per prompt and model its scores, for a sheet; None where nothing was scored."""
        prompts = len(next(iter(self.evaluations[0].scores.values()), ()))
        return [[caption(one, place) for one in self.evaluations] for place in range(prompts)] or None

    def table(self) -> str:
        """A line per reward and model: mean and spread, and how often it is better than the first."""
        lines = []
        for reward in self.rewards:
            lines.append(reward)
            for place, (name, figures) in enumerate(zip(self.names, self.figures(reward), strict=True)):
                wins = self.wins(reward, place, 0) if place else math.nan
                better = "" if math.isnan(wins) else f", better than {self.names[0]} in {wins:.1%}"
                lines.append(f"  {name}: {figures}{better}")
        return "\n".join(lines)


def compared(
    names: Sequence[str],
    latents: Sequence[Sequence[Tensor]],
    model: Draws,
    how: Comparing,
    rewards: Mapping[str, Reward],
    on_prompt: Callable[[int, Sequence[Tensor]], None] = lambda place, images: None,
) -> Comparison:
    """Decode and score what several models have ``drawn``.

    Args:
        names: of the models.
        latents: per model and prompt.
        model: who decodes all of them.
        rewards: those that do not score held-out images (``RewardInfo.held_out``) are not asked.
        on_prompt: hears the place of each prompt and per model its images ``[n, H, W, 3]``.
    """
    asked = {name: reward for name, reward in rewards.items() if about(reward).held_out}
    scores: list[dict[str, list[Scores]]] = [{name: [] for name in asked} for _ in names]
    failures: list[Failure] = []
    for place, prompt in enumerate(how.prompts):
        of_size = _at(model, prompt)
        made = [column[place].to(of_size.device) for column in latents]
        images, frames = zip(*(decode_frames(of_size, of, how.decode_batch) for of in made), strict=True)
        batch = RewardBatch(
            images=torch.cat(images),
            frames=None if frames[0] is None else torch.cat(frames),
            prompts=(prompt,) * sum(map(len, images)),
            group=place,
            context=replace(how.contexts.get(prompt, Context()), seed=how.noise_seed(place)),
            latents=torch.cat(made),
        )
        found, failed = score(asked, batch)
        failures += failed
        for name, given in found.items():
            for own, part in zip(scores, _split(given, list(map(len, images))), strict=True):
                own[name].append(part)
        on_prompt(place, images)
    return Comparison(names=names, evaluations=list(map(_evaluation, scores)), failures=failures)


def _split(scores: Scores, counts: Sequence[int]) -> list[Scores]:
    parts = zip(scores.values.split(list(counts)), scores.valid.split(list(counts)), strict=True)
    return [replace(scores, values=values, valid=valid) for values, valid in parts]


def _evaluation(scores: Mapping[str, Sequence[Scores]]) -> Evaluation:
    stats = {name: RewardStats.of(groups) for name, groups in scores.items()}
    return Evaluation(iteration=0, rewards=stats, scores=scores)


def caption(evaluation: Evaluation, place: int) -> str:
    """The means of one prompt's scores, in words."""
    means = {name: groups[place].values[groups[place].valid] for name, groups in evaluation.scores.items()}
    return "  ".join(f"{name} {float(values.mean()):.3g}" for name, values in means.items() if len(values))


def in_words(stats: RewardStats) -> str:
    """Mean and spread, and what could not be scored."""
    if not stats.valid:
        return f"no score ({stats.reason})" if stats.reason else "no score"
    figures = f"{stats.mean:.4g} ± {stats.spread:.3g}"
    return f"{figures} ({stats.valid} of {stats.count} images: {stats.reason})" if stats.failed else figures
