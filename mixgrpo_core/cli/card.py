"""The model card beside a run's LoRA files, ready to be uploaded with them."""

import shutil
from collections.abc import Mapping

from ..rewards.port import Reward, about
from ..runs.folder import RunFolder
from ..runs.model_card import model_card
from ..settings.kinds import summary
from .settings import RunConfig

PICTURES = {"before and after, from the same noise": "before_after.png", "the run": "report.png"}


def write_card(settings: RunConfig, run: RunFolder, rewards: Mapping[str, Reward]) -> None:
    """Write ``README.md`` beside the LoRA files, and copies of the pictures that it shows."""
    folder, prompts = run.lora("last").parent, settings.make_prompts()
    folder.mkdir(parents=True, exist_ok=True)
    shown = {caption: name for caption, name in PICTURES.items() if (run.path / name).exists()}
    for name in shown.values():
        shutil.copyfile(run.path / name, folder / name)
    card = model_card(
        run,
        rewards={name: f"{type(reward).__name__}: {summary(type(reward))}" for name, reward in rewards.items()},
        licences={name: about(reward).licence for name, reward in rewards.items()},
        pictures=shown,
        prompts=[str(prompt) for prompt in prompts.train],
        held_out=[str(prompt) for prompt in prompts.held_out],
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
