"""A model card for a run's LoRA: a ``README.md`` that a model hub shows, with pictures beside it.

It names files and folders of this machine by their last part only.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..rewards.port import Reward, about
from ..settings.config import TrainConfig, to_dict
from ..settings.kinds import summary
from ..support.paths import in_link
from .folder import RunFolder
from .metrics import iterations_done

BEFORE_AFTER, REPORT = "before_after.png", "report.png"
PICTURES = {"before and after, from the same noise": BEFORE_AFTER, "the run": REPORT}
"""By caption the pictures in a run folder that a card shows."""
SHOWN = 12
"""Prompts that the card shows."""
_UNSAID = "not said"
_FOLDERS = re.compile(r"(?<=[\"'])(?:/|[A-Za-z]:[\\/]|~/)(?:[^\"']*[\\/])?")


def write_card(
    run: RunFolder,
    card: Path,
    *,
    rewards: Mapping[str, Reward],
    prompts: Sequence[str],
    held_out: Sequence[str],
    prefix: str = "",
) -> None:
    """Write the card of a run's LoRA to ``card``, and copies of the pictures that it shows beside it.

    Args:
        prompts, held_out: see `model_card`.
        prefix: of the copies' names, where LoRA files of several runs lie in one folder.

    Raises:
        OSError: they cannot be written.
    """
    card.parent.mkdir(parents=True, exist_ok=True)
    shown = {caption: name for caption, name in PICTURES.items() if (run.path / name).exists()}
    for name in shown.values():
        shutil.copyfile(run.path / name, card.parent / f"{prefix}{name}")
    told = model_card(
        run,
        rewards={name: f"{type(reward).__name__}: {summary(type(reward))}" for name, reward in rewards.items()},
        licences={name: about(reward).licence for name, reward in rewards.items()},
        pictures={caption: f"{prefix}{name}" for caption, name in shown.items()},
        prompts=prompts,
        held_out=held_out,
    )
    card.write_text(told, encoding="utf-8")


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
    base, rank = _base_and_rank(setup)
    done = iterations_done(metrics)
    parts = [
        "---\nlibrary_name: diffusers\ntags:\n- lora\n- text-to-image\n- reinforcement-learning\n- mixgrpo\n---\n",
        f"# {run.path.name}\n",
        f"A LoRA of **{base}**, trained on rewards by [MixGRPO](https://arxiv.org/abs/2507.21802): {done} iterations "
        f"of {run.settings.prompts_per_iteration} prompts with {run.settings.images_per_prompt} images each.\n",
        *(f"![{caption}]({in_link(file)})\n" for caption, file in pictures.items()),
        f"## Rewards\n\n{_rewards(metrics, run.settings, rewards, licences)}",
        "Before you publish it, check the licence of the base model and those of the rewards' weights.\n",
        f"## Prompts\n\nTrained on {len(prompts)}, evaluated on {len(held_out)} others.\n\n{_listed(prompts)}",
        f"## Settings\n\nRank {rank or 'of the model'}. What differs from the defaults:\n\n{_settings(run.settings)}",
    ]
    return "\n".join(parts)


def _base_and_rank(setup: Mapping[str, Any]) -> tuple[str, int | None]:
    """Of a run folder's setup: a table where the run was headless; on the canvas the model's family and a digest."""
    model = setup.get("model")
    if isinstance(model, Mapping):
        return Path(str(model.get("folder", ""))).name or _UNSAID, model.get("rank")
    return str(model or "").rpartition(" ")[0] or _UNSAID, setup.get("rank")


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
