"""What is checked before any work starts, so that a mistake costs a second and not an hour."""

import math
from collections.abc import Mapping, Sequence

from ..models.port import FlowModel
from ..rewards.port import Reward, about
from ..settings.config import TrainConfig

LONGEST_PROMPT = 10_000


def check(
    model: FlowModel,
    prompts: Sequence[str],
    rewards: Mapping[str, Reward],
    config: TrainConfig,
    held_out: Sequence[str],
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
    both = set(prompts) & set(held_out)
    if both:
        raise ValueError(
            f"held-out prompts must never be trained on, but {len(both)} are in both lists (such as "
            f"{sorted(both)[0]!r}): take them out of one"
        )
    _check_rewards(rewards, config)
    for name, steps in (("steps", config.steps), ("eval_steps", config.eval_steps or config.steps)):
        if steps < model.min_steps:
            raise ValueError(
                f"this model needs at least {model.min_steps} denoising steps to make an image, found {name}={steps}: "
                "raise it"
            )
    if not any(True for _ in model.parameters()):
        raise ValueError("the model has no LoRA parameters to train: attach a LoRA of rank 1 or more")
    if math.prod(model.latent_shape) < 1:
        raise ValueError(f"expected a latent shape of positive sizes, found {model.latent_shape}")


def _check_rewards(rewards: Mapping[str, Reward], config: TrainConfig) -> None:
    if not rewards:
        raise ValueError("expected at least one reward, found none: GRPO learns from scores")
    for setting in ("reward_weights", "spread_floors"):
        unknown = sorted(getattr(config, setting).keys() - rewards.keys())
        if unknown:
            raise ValueError(f"{setting} names {unknown}, but the rewards are {sorted(rewards)}: correct the names")
    if not any(config.reward_weights.get(name, 1.0) > 0 for name in rewards):
        raise ValueError("every reward has weight 0: give at least one a weight above 0 to train on")
    for name, reward in rewards.items():
        if about(reward).reference:
            raise ValueError(
                f"reward {name!r} compares images with a reference picture, of which a training has none of its own: "
                "give the reward one"
            )
