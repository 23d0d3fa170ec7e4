"""Runs of the canvas whose groups were voted on, and how their images were made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...mixgrpo_core import TrainConfig
from ...mixgrpo_core.models.lora_layers import USUAL
from ...mixgrpo_core.rewards.people.ballot_box import BallotBox
from ...mixgrpo_core.training.align.voted import Found, voted_in
from ..host.identity import model_digest
from ..host.model import HostModel
from ..host.texts import PromptSet
from ..live.canvas_run import CanvasRun, all_runs, name_of, runs_folder
from ..live.voting import VOTES

NO_RUN = "no run with votes"
_SIZE = ("size", "cfg", "guidance", "negative")


def voted_runs() -> list[str]:
    """The names of runs with ballots; ``NO_RUN`` alone where there is none."""
    return sorted(name_of(run) for run in all_runs() if BallotBox(run / VOTES).ids()) or [NO_RUN]


def require_voted(name: str) -> None:
    """Raise ``ValueError`` unless there is a run of that name with votes."""
    if name == NO_RUN or name not in voted_runs():
        lost = "there is none" if name == NO_RUN else f"{name!r} is none"
        raise ValueError(
            f"run: expected a run with votes, and {lost}: train with Human Vote or Taste Reward, then press R"
        )


def state_of_votes(name: str) -> str:
    """What the ballots of a run are now: another vote is another training."""
    files = sorted((runs_folder() / name / VOTES).glob("*.json"))
    return repr([(file.name, file.stat().st_mtime_ns) for file in files])


@dataclass(frozen=True)
class VotedRun:
    """A run with its votes."""

    run: CanvasRun
    found: Found

    @classmethod
    def of(cls, name: str) -> "VotedRun":
        """The run of that name.

        Raises:
            ValueError: there is none with votes, or it was not made on the canvas.
            RunError: it cannot be read.
        """
        require_voted(name)
        folder = runs_folder() / name
        run = CanvasRun.open(folder)
        lacking = [key for key in _SIZE if key not in run.config["setup"]]
        if lacking:
            raise ValueError(
                f"run: {name!r} does not say the {lacking[0]} of its images, as runs of MixGRPO Train do: use mixgrpo "
                "align for it"
            )
        return cls(run=run, found=voted_in([folder]))

    @property
    def setup(self) -> Any:
        """How its images were made."""
        return self.run.config["setup"]

    @property
    def prompts(self) -> Sequence[str]:
        """Those with votes that can be trained on."""
        return list(dict.fromkeys(group.prompt for group in self.found.groups))

    def policy(self, model: Any, clip: Any, vae: Any, *, rank: int, seed: int) -> HostModel:
        """The MODEL with a fresh LoRA, asked as the run asked it.

        Raises:
            ValueError: no flow model, or another text encoder than the run's.
        """
        encoder = f"{model_digest(clip.patcher)} {clip.layer_idx}"
        if self.setup.get("text encoder", encoder) != encoder:
            raise ValueError(
                f"clip: expected the text encoder of {self.run.name!r}, whose images were voted on, found another: "
                "connect the same loader"
            )
        width, height = self.setup["size"]
        texts = PromptSet(train=tuple(self.prompts), held_out=(), negative=self.setup["negative"], clip=clip)
        return HostModel(
            model,
            vae,
            texts,
            width=width,
            height=height,
            rank=rank,
            alpha=2.0 * rank,
            seed=seed,
            cfg=self.setup["cfg"],
            guidance=self.setup["guidance"],
            layers=self.setup.get("layers", USUAL),
        )

    @property
    def config(self) -> TrainConfig:
        """What the run was asked to do."""
        return self.run.settings
