"""A model card for a run's LoRA: a ``README.md`` that a model hub shows, with pictures beside it.

It names files and folders of this machine by their last part only.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..settings.config import TrainConfig, to_dict
from .folder import RunFolder
from .metrics import iterations_done

SHOWN = 12
"""Prompts that the card shows."""
_UNSAID = "not said"
_FOLDERS = re.compile(r"(?<=[\"'])(?:/|[A-Za-z]:[\\/]|~/)(?:[^\"']*[\\/])?")


def model_card(
    run: RunFolder,
    *,
    rewards: Mapping[str, str],
    licences: Mapping[str, str],
    pictures: Mapping[str, str],
    prompts: Sequence[str],
    held_out: Sequence[str],
) -> str:
    """The card in Markdown.

    Args:
        run: what is told of it is its settings and its reports.
        rewards: by name, what each is.
        licences: by name, that of its weights; empty where it has none.
        pictures: by caption, files beside the card.
        prompts, held_out: what was trained on, and what was only evaluated.
    """
    metrics, setup = run.metrics(), run.config["setup"]
    model = setup.get("model") if isinstance(setup.get("model"), Mapping) else {}
    base = Path(str(model.get("folder", ""))).name or _UNSAID
    done = iterations_done(metrics)
    parts = [
        "---\nlibrary_name: diffusers\ntags:\n- lora\n- text-to-image\n- reinforcement-learning\n- mixgrpo\n---\n",
        f"# {run.path.name}\n",
        f"A LoRA of **{base}**, trained on rewards by [MixGRPO](https://arxiv.org/abs/2507.21802): {done} iterations "
        f"of {run.settings.prompts_per_iteration} prompts with {run.settings.images_per_prompt} images each.\n",
        *(f"![{caption}]({file})\n" for caption, file in pictures.items()),
        f"## Rewards\n\n{_rewards(metrics, run.settings, rewards, licences)}",
        "Before you publish it, check the licence of the base model and those of the rewards' weights.\n",
        f"## Prompts\n\nTrained on {len(prompts)}, evaluated on {len(held_out)} others.\n\n{_listed(prompts)}",
        f"## Settings\n\nRank {model.get('rank') or 'of the model'}. What differs from the defaults:\n\n"
        f"{_settings(run.settings)}",
    ]
    return "\n".join(parts)


def _rewards(
    metrics: Sequence[Mapping[str, Any]],
    train: TrainConfig,
    rewards: Mapping[str, str],
    licences: Mapping[str, str],
) -> str:
    evaluations = [evaluation["rewards"] for report in metrics for evaluation in report["evaluations"]]
    first, last = (evaluations[0], evaluations[-1]) if len(evaluations) > 1 else ({}, {})
    rows = ["| reward | what it is | weight | held out, before | after | licence of its weights |", f"|{'---|' * 6}"]
    for name, what in rewards.items():
        before, after = (_mean(found.get(name)) for found in (first, last))
        weight = f"{train.reward_weights.get(name, 1.0):g}"
        rows.append(f"| {name} | {what} | {weight} | {before} | {after} | {licences.get(name) or 'it has none'} |")
    return "\n".join(rows) + "\n"


def _mean(stats: Mapping[str, Any] | None) -> str:
    found = None if stats is None else stats.get("mean")
    return "-" if found is None else f"{found:.3f}"


def _listed(prompts: Sequence[str]) -> str:
    shown = [f"* {' '.join(prompt.split())}" for prompt in prompts[:SHOWN]]
    more = len(prompts) - len(shown)
    return "\n".join([*shown, *([f"* ... and {more} more"] if more else [])]) + "\n"


def _settings(train: TrainConfig) -> str:
    usual = to_dict(TrainConfig())
    found = {name: repr(value) for name, value in to_dict(train).items() if value != usual[name]}
    rows = [f"    {name} = {_FOLDERS.sub('', value)}" for name, value in found.items()]
    return "\n".join(rows or ["    (nothing)"]) + "\n"
