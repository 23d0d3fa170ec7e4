"""A published method for one GPU and one family of models.

What differs from the publications, which trained on 24 to 32 GPUs: ``Facts.prompts`` prompts an iteration instead of
32 to 96, no more updates an iteration than prompts, 300 iterations, and a window that stands still long enough to be
shown every step within them.

A preset whose rate sets itself is our own (``quick_look``) and was made short: it keeps its iterations, its window, its
rate and its updates, and its steps where the model makes images in so many or more. Held-out images have the family's.
"""

from dataclasses import replace

from ..models.facts import SD35, Facts
from ..objectives.own_step import AUTO
from ..sampling.kernels import FlowSDE
from ..sampling.planners import WindowPlanner
from ..sampling.solvers import Euler
from .config import TrainConfig
from .fitting import fitted_course, fitted_objective, fitted_tree, fitted_window, images_of, without_left_noise
from .presets import mixgrpo, mixgrpo_flash, mixgrpo_flash_star, mixgrpo_sd35

_FEWEST_STEPS_FOR_FLASH = 10
_SHORT = ("steps", "iterations")
"""What our own presets have fewer of than a family."""


def fitted(config: TrainConfig, facts: Facts, *, images: int | None = None) -> TrainConfig:
    """``config``, that of a publication, for a family: its steps, window, prompts, course and learning rate.

    Args:
        images: most images of a prompt; None is as many as published.
    """
    own, usual = config.learning_rate == AUTO, facts
    if own:
        facts = replace(usual, **{name: min(getattr(config, name), getattr(usual, name)) for name in _SHORT})
    share = facts.iterations / config.iterations
    pace = share if own or config.steps == facts.steps else facts.pace  # that of a window of MixGRPO's 25 steps
    if facts is SD35 and _is_mixgrpo(config):  # published for this model with a KL and an average
        weights = config.reward_weights
        config = replace(mixgrpo_sd35(), planner=config.planner, tail_solver=config.tail_solver, reward_weights=weights)
    flash = facts.steps >= _FEWEST_STEPS_FOR_FLASH
    noisy = isinstance(config.kernel, FlowSDE) and facts.few_steps
    images = min(config.images_per_prompt, images or config.images_per_prompt)
    planner = fitted_window(config.planner, facts.window, pace, facts.last, flash)
    planner = fitted_tree(planner, facts.steps, images)
    planner, source = fitted_course(planner, config.prompt_source, facts.iterations / config.iterations)
    made = replace(
        config,
        iterations=facts.iterations,
        steps=facts.steps,
        images_per_prompt=images_of(planner, facts.steps, images),
        prompts_per_iteration=facts.prompts,
        planner=planner,
        prompt_source=source,
        tail_solver=config.tail_solver if flash else Euler(),
        kernel=without_left_noise(config.kernel, planner, facts.steps) if noisy else config.kernel,
        objective=fitted_objective(config.objective, facts.steps - 1),
    )
    if own:
        return replace(made, eval_steps=usual.steps)
    return replace(made, learning_rate=facts.learning_rate, updates=min(config.update_count, facts.prompts))


def _is_mixgrpo(config: TrainConfig) -> bool:
    """Whether these are the settings of MixGRPO or of one of its Flash variants."""
    published = (mixgrpo(), mixgrpo_flash(), mixgrpo_flash_star())
    return isinstance(config.planner, WindowPlanner) and any(
        replace(config, reward_weights=one.reward_weights) == one for one in published
    )
