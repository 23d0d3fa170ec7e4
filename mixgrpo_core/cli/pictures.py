"""What ``sample`` and ``evaluate`` share: flags checked before any work, results that overwrite no others."""

import math
from collections.abc import Sequence
from dataclasses import replace
from os.path import exists
from pathlib import Path
from typing import TYPE_CHECKING

from ..models.lora_file import load_lora
from ..models.sizes import require_sizes
from ..sampling.schedule import flow_sigmas
from ..settings.pictures import FileContexts, References, require_pictures
from ..settings.prompt_files import SUFFIXES
from ..settings.prompts import read_prompts
from .model_config import ModelConfig
from .settings import RunConfig

if TYPE_CHECKING:  # it imports diffusers
    from ..models.diffusers.model import PipelineModel


def read_words(words: Sequence[str]) -> list[str]:
    """Prompts, or those of the one file that is named."""
    # exists() of the os, not Path's: a prompt too long for a file name is just no file
    is_file = len(words) == 1 and (exists(words[0]) or Path(words[0]).suffix.lower() in SUFFIXES)
    if not is_file and not all(word.strip() for word in words):
        raise ValueError("expected prompts with words, found an empty one: remove it")
    return list(read_prompts(words[0] if is_file else words, held_out=()).train)


def check_counts(steps: int, shift: float | None, images: int, batch: int) -> None:
    """Raise ``ValueError`` for figures of plain sampling that cannot be."""
    for name, value in (("images", images), ("batch", batch), ("steps", steps)):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, found {value}")
    if shift is not None:
        flow_sigmas(steps, shift)


def check_share(flag: str, share: float) -> None:
    """Raise ``ValueError`` unless ``share`` is one."""
    if not (math.isfinite(share) and 0 <= share <= 1):
        raise ValueError(f"{flag} is the share of the steps with the LoRA on, 0 to 1, found {share}")


def new_folder(path: str) -> Path:
    """An empty folder at ``path``, made where there is none. Raises ``ValueError`` when it holds something."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        holds = any(folder.iterdir())
    except OSError as error:
        raise ValueError(f"cannot write pictures to {folder} ({error.strerror}): choose another --out") from error
    if holds:
        raise ValueError(f"{folder} holds files, which would be mixed with new ones: choose another --out or empty it")
    return folder


def with_lora(model: ModelConfig, lora: str | None) -> ModelConfig:
    """``model`` with the LoRA file ``lora`` (at the file's rank), or with one that does nothing."""
    return replace(model, lora=lora, rank=load_lora(lora).rank if lora else 1, alpha=None)


def loaded(model: ModelConfig, prompts: Sequence[str], steps: int) -> "PipelineModel":
    """The model with its prompts encoded. Raises ``ValueError`` when it makes no image in so few steps."""
    made = RunConfig(model=model).make_model()
    if steps < made.min_steps:
        raise ValueError(f"this model needs at least {made.min_steps} steps to make an image, found --steps {steps}")
    require_sizes(made, prompts)
    require_pictures(prompts)
    made.take_pictures(References(FileContexts(prompts)))
    made.prepare(prompts)
    return made
