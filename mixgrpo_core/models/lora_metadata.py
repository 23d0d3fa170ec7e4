"""What a LoRA file's header says of the model and of the training."""

import json
from collections.abc import Mapping
from datetime import datetime, timezone


def training_metadata(
    *,
    title: str,
    config: Mapping[str, object],
    learning_rate: float,
    seed: int,
    steps: int,
    rewards_before: Mapping[str, float],
    rewards_after: Mapping[str, float],
    started: datetime,
    finished: datetime | None = None,
    optimizer: str = "",
    trigger: str = "",
    hint: str = "",
) -> dict[str, str]:
    """What a LoRA file's header tells of the training: ``ss_*`` for LoRA managers, ``mixgrpo.*`` to redo the run.

    ``steps`` are updates; rewards are held-out means by name. What is empty is left out.
    """
    words = {
        "modelspec.title": title,
        "modelspec.date": _iso(finished or started),
        "modelspec.trigger_phrase": trigger,
        "modelspec.usage_hint": hint,
        "ss_learning_rate": repr(learning_rate),
        "ss_optimizer": optimizer,
        "ss_seed": str(seed),
        "ss_steps": str(steps),
        "ss_output_name": title,
        "ss_training_started_at": repr(started.timestamp()),
        "ss_training_finished_at": repr(finished.timestamp()) if finished else "",
        "ss_training_comment": f"MixGRPO, {steps} updates",
        "mixgrpo.config": json.dumps(config, sort_keys=True),
        "mixgrpo.rewards_before": json.dumps(dict(rewards_before), sort_keys=True),
        "mixgrpo.rewards_after": json.dumps(dict(rewards_after), sort_keys=True),
    }
    return {key: word for key, word in words.items() if word}


def model_metadata(
    *,
    architecture: str,
    base_model: str,
    rank: int,
    alpha: float,
    resolution: tuple[int, int],
    precision: str,
) -> dict[str, str]:
    """What a LoRA file's header tells of the model.

    ``architecture`` is the base model's modelspec name (``stable-diffusion-3.5-medium``), ``resolution`` is
    ``(height, width)``. ``ss_network_alpha`` says the rank, for that is what the file with its baked-in alpha amounts
    to; the alpha of the training stands in ``mixgrpo.alpha``.
    """
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{architecture}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.resolution": f"{resolution[1]}x{resolution[0]}",
        "modelspec.prediction_type": "flow",
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(rank),
        "ss_base_model_version": architecture,
        "ss_sd_model_name": base_model,
        "ss_mixed_precision": precision,
        "mixgrpo.alpha": repr(alpha),
    }


def _iso(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat(timespec="seconds")
