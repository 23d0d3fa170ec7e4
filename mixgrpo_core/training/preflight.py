"""What is checked before any work starts, so that a mistake costs a second and not an hour."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from types import MappingProxyType

from ..advantages.port import WIDTHS, Width, widest_of, width_of
from ..models.policy import OLD, REFERENCE
from ..models.port import DecodesBeside, DecodesLow, FlowModel
from ..models.sizes import require_sizes
from ..objectives.port import GROUP, TRANSITIONS
from ..rewards.port import Context, Reward, about
from ..sampling.planners import StepPlan
from ..sampling.schedule import check_sigmas
from ..settings.config import TrainConfig
from ..settings.pictures import has_mask, without_reference
from ..support.facts import RunFacts
from ..support.memory import NOTHING
from ..support.setting import require_finite
from ..support.sized import resized

LONGEST_PROMPT = 10_000
_FOR_WIDTH: Mapping[Width, str] = MappingProxyType(
    {"step": "GRPO or another objective of single steps", "place": "PositionalGRPO"}
)


def check(
    model: FlowModel,
    prompts: Sequence[str],
    rewards: Mapping[str, Reward],
    config: TrainConfig,
    held_out: Sequence[str],
    contexts: Mapping[str, Context] = MappingProxyType({}),
) -> None:
    """Raise ``ValueError`` with one sentence - expected, found, how to mend - when a run cannot be right."""
    if isinstance(prompts, str) or not prompts:
        raise ValueError(f"expected a list of prompts to train on, found {prompts!r}: give at least one")
    if isinstance(held_out, str):
        raise ValueError(f"expected a list of held-out prompts, found {held_out!r}: put it in a list")
    for prompt in (*prompts, *held_out):
        if not isinstance(prompt, str):
            raise ValueError(f"expected prompts as text, found {prompt!r}: remove it")
        if not prompt.strip() or len(prompt) > LONGEST_PROMPT:
            raise ValueError(
                f"expected prompts with words, of at most {LONGEST_PROMPT} characters, found one of {len(prompt)} "
                f"characters ({prompt[:40]!r}): split or remove it"
            )
    require_sizes(model, (*prompts, *held_out))
    both = {resized(prompt, None) for prompt in prompts} & {resized(prompt, None) for prompt in held_out}
    if both:
        raise ValueError(
            f"held-out prompts must never be trained on, but {len(both)} are in both lists (such as "
            f"{sorted(both)[0]!r}): take them out of one"
        )
    bare = next(iter(without_reference(contexts, (*prompts, *held_out))), None)
    _check_rewards(rewards, config, bare)
    for name, steps in (("steps", config.steps), ("eval_steps", config.eval_steps or config.steps)):
        if steps < model.min_steps:
            raise ValueError(
                f"this model needs at least {model.min_steps} denoising steps to make an image, found {name}={steps}: "
                "raise it"
            )
    plans = _checked_plans(model, config)
    _check_objective(model, config)
    if config.decode_beside:
        _require_decoder(model)
    if config.decode_dtype != "float32" and not isinstance(model, DecodesLow):
        raise ValueError(
            f"decode_dtype = {config.decode_dtype!r} compares two precisions, and {type(model).__name__} decodes in "
            "the one that its host chooses: leave decode_dtype at 'float32', which changes nothing here"
        )
    unknown = contexts.keys() - {*prompts, *held_out}
    if unknown:
        raise ValueError(f"contexts are of prompts that are in no list (such as {sorted(unknown)[0]!r}): correct them")
    trained = tuple(name for name in rewards if config.reward_weights.get(name, 1.0) > 0)
    facts = RunFacts(
        latent_shape=tuple(model.latent_shape),
        trained_steps=tuple(sorted({len(plan.trained) for plan in plans})),
        rewards=trained,
        planner=type(config.planner).__name__,
        groupwise=tuple(name for name in trained if about(rewards[name]).groupwise),
        masks={prompt: has_mask(contexts, prompt) for prompt in prompts},
        candidates=tuple(config.updating(config.sigmas(model)).candidates),
        images=config.images_per_prompt,
        leaves=tuple(sorted({plan.leaves_per_row for plan in plans})),
        shared_noise=config.shared_noise,
    )
    config.objective.check(facts)
    config.prompt_source.check(facts)
    for stage in config.credit:
        stage.check(facts)
    if not any(True for _ in model.parameters()):
        raise ValueError("the model has no LoRA parameters to train: attach a LoRA of rank 1 or more")
    if math.prod(model.latent_shape) < 1:
        raise ValueError(f"expected a latent shape of positive sizes, found {model.latent_shape}")


def _require_decoder(model: FlowModel) -> None:
    """Raise ``ValueError`` where it cannot be decoded beside rollouts."""
    if not isinstance(model, DecodesBeside):
        raise ValueError(
            f"decode_beside decodes in a thread while the network runs, and {type(model).__name__} cannot: ComfyUI's "
            "models, for one, are moved in and out for one call at a time. Leave decode_beside out"
        )
    model.decoder()


def _checked_plans(model: FlowModel, config: TrainConfig) -> list[StepPlan]:
    """The plans of the first and of the last iteration, which are made over the model's own grid."""
    sigmas, name = config.sigmas(model), type(config.planner).__name__
    plans = [config.planner.plan(iteration, 0, sigmas, NOTHING) for iteration in (0, config.foreseen - 1)]
    for iteration, plan in zip((0, config.foreseen - 1), plans, strict=True):
        if TRANSITIONS in config.objective.needs and not plan.trained:
            raise ValueError(
                f"{name} trains none of the {config.steps} steps of iteration {iteration} (the last one never is): "
                "take more steps, or another planner"
            )
        leaves, images = plan.leaves_per_row, config.images_per_prompt
        if images % leaves:
            raise ValueError(
                f"the tree of {name} has {leaves} leaves, and {images} images per prompt are no multiple of that: set "
                f"images_per_prompt to {max(leaves, round(images / leaves) * leaves)}, or let it branch less"
            )
        if config.shared_noise and not plan.stochastic:
            raise ValueError(
                f"{name} makes no noisy step, and the images of a group start from the same noise: they would all be "
                "one image. Set shared_noise to false, or choose a planner with noisy steps"
            )
    check_sigmas(config.eval_sigmas(model))
    return plans


def _check_objective(model: FlowModel, config: TrainConfig) -> None:
    """What the objective can use, and what it asks, is there."""
    objective, name = config.objective, type(config.objective).__name__
    if objective.plain_field and model.guided:
        raise ValueError(
            f"{name} regresses the velocity to data, and guidance changes the velocity, which has no plain field "
            "beside it here: set guidance (CFG) to 1, or choose an objective of the sampled steps such as GRPO"
        )
    width = width_of(config.credit)
    if WIDTHS.index(width) > WIDTHS.index(objective.finest_credit):
        raise ValueError(
            f"{widest_of(config.credit)} makes the credit one number per {width}, but {name} can use one per "
            f"{objective.finest_credit} only: choose {_FOR_WIDTH[width]}, or take {widest_of(config.credit)} out"
        )
    groups, updates = config.prompts_per_iteration, config.update_count
    if GROUP in objective.needs and updates > groups:
        raise ValueError(
            f"{name} needs whole groups, and {groups} groups make no {updates} updates: lower updates to {groups}, or "
            "take more prompts per iteration"
        )
    kept = {REFERENCE, OLD, *objective.policies}
    sampler = objective.sampled_by(0)
    if sampler is not None and sampler not in kept:
        raise ValueError(f"{name} samples with {sampler!r}, but the policies of this run are {sorted(kept)}: name one")
    for regulariser in (*objective.regularisers, *config.regularisers):
        unknown = regulariser.policies - kept
        if unknown:
            raise ValueError(
                f"{type(regulariser).__name__} pulls to {sorted(unknown)}, but the policies of this run are "
                f"{sorted(kept)}: name one of them"
            )


def _check_rewards(rewards: Mapping[str, Reward], config: TrainConfig, bare: str | None) -> None:
    """``bare`` is a prompt without a reference picture, if there is one."""
    if not rewards:
        raise ValueError("expected at least one reward, found none: GRPO learns from scores")
    for setting in ("reward_weights", "spread_floors"):
        unknown = sorted(getattr(config, setting).keys() - rewards.keys())
        if unknown:
            raise ValueError(f"{setting} names {unknown}, but the rewards are {sorted(rewards)}: correct the names")
    if not any(config.reward_weights.get(name, 1.0) > 0 for name in rewards):
        raise ValueError("every reward has weight 0: give at least one a weight above 0 to train on")
    for name, reward in rewards.items():
        if is_dataclass(reward):
            require_finite(reward)
        if about(reward).reference and bare is not None:
            raise ValueError(
                f"reward {name!r} compares images with a reference picture, and the prompt {str(bare)[:40]!r} "
                "has none: give the reward one, or every prompt"
            )
