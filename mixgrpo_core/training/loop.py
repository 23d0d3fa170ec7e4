"""Training as a generator of reports: one iteration after another (arXiv 2507.21802, Algorithm 1).

A node, the command line and a test are loops over ``train``. However it ends - the loop breaks, an observer raises,
Ctrl-C, an error - a run folder holds a checkpoint of the last whole iteration, and the next call goes on from there.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import overload

import torch
from torch.nn import Parameter

from ..evaluation.held_out import HeldOut, Prompted
from ..evaluation.shown import shown_prompts
from ..models.ema import Ema
from ..models.lagged import Lagged
from ..models.port import Cond, FlowModel, TakesPictures
from ..models.sizes import of_sizes
from ..rewards.port import Context, Reward
from ..runs.checkpoint import TrainState
from ..runs.folder import RunFolder
from ..runs.reports import Observer, StepReport, ignore
from ..settings.config import TrainConfig
from ..settings.pictures import References
from ..support.digests import sampled_digest
from ..support.ranks import ALONE, Ranks
from ..support.seeds import derive_seed
from ..support.sized import size_of
from .alike import AFTER, START, after_an_iteration, at_the_start
from .gallery import GalleryKeeper
from .iteration import Iteration
from .preflight import check
from .session import Session
from .visits import visited

MakeOptimizer = Callable[[Iterable[Parameter]], torch.optim.Optimizer]


def train(
    model: FlowModel[Cond],
    prompts: Sequence[str],
    rewards: Mapping[str, Reward],
    config: TrainConfig,
    *,
    held_out: Sequence[str] = (),
    contexts: Mapping[str, Context] = MappingProxyType({}),
    run: RunFolder | None = None,
    observer: Observer = ignore,
    make_optimizer: MakeOptimizer | None = None,
    pictures_wanted: Callable[[], bool] = lambda: False,
    ranks: Ranks = ALONE,
) -> Generator[StepReport, None, None]:
    """Train the model's LoRA, yielding a report per iteration.

    A guard that stops the run ends it after the report that says so. A run that was stopped stays so; it goes on when
    it is asked for with more iterations, and that guard then only warns, or with other guards.

    Args:
        model: the policy; its LoRA is trained in place.
        prompts: what is rolled out, in an order shuffled by the seed; each comes once before any comes again.
        rewards: by name; ``config.reward_weights`` weighs them.
        held_out: prompts that are evaluated and never trained on.
        contexts: by prompt, the reference picture and the mask that travel with it.
        run: where checkpoints, metrics, LoRA files and the gallery go; a run that has a checkpoint is resumed. None
            keeps nothing.
        observer: hears what happens inside an iteration.
        make_optimizer: makes the optimizer of the LoRA's parameters; AdamW by default.
        pictures_wanted: asked between iterations, whether the gallery is to have the policy as it stands.
        ranks: the processes that train together, each with a model of its own; the first one's ``run`` is written, and
            the others start from the first one's state (`training.ranks.launched`).

    Raises:
        ValueError: settings, prompts and rewards that do not fit, before any work.
        RunError: the run folder cannot be read or written, or is a run of other settings.
        RewardsFailed: no image of an iteration got a valid score. NonFiniteLoss: see ``update``.
    """
    check(model, prompts, rewards, config, held_out, contexts)
    if isinstance(model, TakesPictures):
        model.take_pictures(References(contexts))
    for reward in rewards.values():
        reward.prepare([*prompts, *held_out])
    texts = _Texts(prompts, held_out, contexts)
    make_optimizer = make_optimizer or partial(adamw, config=config)
    own = run if ranks.is_first else None
    return _train(model, texts, rewards, config, own, observer, make_optimizer, pictures_wanted, ranks)


@dataclass(frozen=True)
class _Texts:
    """Prompts to train on and to hold out, and what travels with them."""

    train: Sequence[str]
    held_out: Sequence[str]
    contexts: Mapping[str, Context]

    @property
    def digest(self) -> int:
        """What must be the same for a run to go on."""
        pictures = [
            (f"{prompt} {name}", picture)
            for prompt, context in self.contexts.items()
            for name, picture in (("reference", context.reference), ("mask", context.mask))
            if picture is not None
        ]
        more = ("contexts", sampled_digest(pictures)) if pictures else ()
        sizes = [str(size_of(prompt)) for prompt in (*self.train, *self.held_out)]
        more = (*more, "sizes", *sizes) if any(map(size_of, (*self.train, *self.held_out))) else more
        return derive_seed(*self.train, "held out", *self.held_out, *more)

    @property
    def shown(self) -> list[str]:
        """Those that the gallery shows."""
        return shown_prompts(self.train, self.held_out)

    def prompted(self, model: FlowModel[Cond], prompt: str) -> Prompted[Cond]:
        """A prompt as the model is conditioned on it."""
        return Prompted(prompt=prompt, cond=model.encode(prompt), context=self.contexts.get(prompt, Context()))


class _Asked(Sequence[Prompted[Cond]]):
    """Prompts with their conditionings, which the model is asked for at each use: it knows where it keeps them."""

    def __init__(self, model: FlowModel[Cond], texts: _Texts, prompts: Sequence[str]) -> None:
        self._model, self._texts, self._prompts = model, texts, prompts

    def __len__(self) -> int:
        return len(self._prompts)

    @overload
    def __getitem__(self, place: int) -> Prompted[Cond]: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Prompted[Cond]]: ...

    def __getitem__(self, place: int | slice) -> Prompted[Cond] | Sequence[Prompted[Cond]]:
        if isinstance(place, slice):
            return _Asked(self._model, self._texts, self._prompts[place])
        return self._texts.prompted(self._model, self._prompts[place])


def _train(
    model: FlowModel[Cond],
    texts: _Texts,
    rewards: Mapping[str, Reward],
    config: TrainConfig,
    run: RunFolder | None,
    observer: Observer,
    make_optimizer: MakeOptimizer,
    pictures_wanted: Callable[[], bool],
    ranks: Ranks,
) -> Generator[StepReport, None, None]:
    with ranks.together(), run.locked() if run else nullcontext():
        ranks.require_alike(lambda: at_the_start(model, config, texts.digest, list(rewards)), START)
        with _gradients():
            state = _fresh_state(model, rewards, config, make_optimizer)
            session = Session(state, config, run, prompts_digest=texts.digest)
            session.resume(ranks)
            iteration = _iteration(state, texts, config, observer, ranks)
            look = _gallery(run, state, texts, config, observer, pictures_wanted)
        try:
            while state.iteration < config.end and not session.stopped:
                with _gradients():
                    look(over=False)
                    session.begin()
                    report = iteration.run()
                    ranks.require_alike(partial(after_an_iteration, state), AFTER)
                    session.finish(report)
                yield report
            with _gradients():
                look(over=True)
        finally:
            with _gradients():
                session.close()


@contextmanager
def _gradients() -> Iterator[None]:
    """Training's own gradient mode, whatever the caller's: a node of ComfyUI runs in inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def _gallery(
    run: RunFolder | None,
    state: TrainState,
    texts: _Texts,
    config: TrainConfig,
    observer: Observer,
    wanted: Callable[[], bool],
) -> Callable[..., None]:
    """What gives the gallery its entries, between iterations; nothing without a folder."""
    if run is None:
        return lambda over: None
    return GalleryKeeper(run, state, config, texts.shown, observer, wanted).visit


def _iteration(state: TrainState, texts: _Texts, config: TrainConfig, observer: Observer, ranks: Ranks) -> Iteration:
    """Encode what will be used, and make the object that runs iterations."""
    model = state.model
    needed = visited(config, state.iteration, len(texts.train))
    model.prepare([*(texts.train[index] for index in needed), *texts.held_out, *texts.shown])
    evaluation = HeldOut(
        prompts=_Asked(model, texts, texts.held_out),
        sigmas=config.eval_sigmas(model),
        of_sizes=of_sizes(model, texts.held_out, config.eval_sigmas),
        images_per_prompt=config.eval_images,
        batch=config.rollout_batch,
        decode_batch=config.decode_batch,
    )
    return Iteration(state, _Asked(model, texts, texts.train), len(texts.train), config, evaluation, observer, ranks)


def _fresh_state(
    model: FlowModel[Cond], rewards: Mapping[str, Reward], config: TrainConfig, make_optimizer: MakeOptimizer
) -> TrainState:
    weights = model.lora_state()
    return TrainState(
        model=model,
        optimizer=make_optimizer(list(model.parameters())),
        rewards=rewards,
        ema=None if config.ema is None else Ema(config.ema, weights),
        lagged={name: Lagged(lag, weights) for name, lag in config.objective.policies.items()},
    )


def adamw(parameters: Iterable[Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """The default optimizer, with the config's settings."""
    return torch.optim.AdamW(
        parameters, lr=config.first_rate, betas=(config.beta1, config.beta2), weight_decay=config.weight_decay
    )
