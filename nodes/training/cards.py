"""Model cards of runs: beside the run's LoRA files, and beside what Save LoRA writes of them, named as they are."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from ...mixgrpo_core.rewards.port import Reward
from ...mixgrpo_core.runs.model_card import PICTURES, write_card
from ...mixgrpo_core.support.paths import in_link
from ..host.texts import PromptSet
from ..live.canvas_run import CanvasRun

_CARD = "card.md"


def write_run_card(run: CanvasRun, rewards: Mapping[str, Reward], prompts: PromptSet) -> Path | None:
    """Write a run's card and its pictures. Returns where it is; a run is not lost for a card that cannot be written."""
    last = run.lora("last")
    prefix = last.stem.removesuffix("last")
    card = last.with_name(f"{prefix}{_CARD}")
    try:
        write_card(run, card, rewards=rewards, prompts=prompts.train, held_out=prompts.held_out, prefix=prefix)
    except OSError as error:
        logging.warning("MixGRPO cannot write the model card %s (%s)", card, error.strerror or error)
        return None
    return card


def copy_card(card: Path | None, lora: Path) -> None:
    """Put a run's card and its pictures beside the LoRA file ``lora`` as well, where there is one."""
    if card is None or not card.is_file():
        return
    old, new = card.name.removesuffix(_CARD), f"{lora.stem}-"
    text = card.read_text(encoding="utf-8")
    try:
        for name in PICTURES.values():
            picture = card.with_name(f"{old}{name}")
            if picture.is_file():
                shutil.copyfile(picture, lora.with_name(f"{new}{name}"))
                text = text.replace(f"]({in_link(picture.name)})", f"]({in_link(f'{new}{name}')})")
        lora.with_name(f"{new}{_CARD}").write_text(text, encoding="utf-8")
    except OSError as error:
        logging.warning("MixGRPO cannot copy the model card to %s (%s)", lora.parent, error.strerror or error)
