"""Every number of the demo model's recipe, in one place."""

from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class AutoencoderSettings:
    """Stage 1 trains encoder and decoder on crops, stage 2 the decoder alone on whole images."""

    steps: int = 2200
    batch: int = 16
    crop: int = 32
    learning_rate: float = 1e-3
    noise: float = 0.15  # latent noise from a third of the steps on: neighbours in latent space decode alike
    tuning_steps: int = 2200
    tuning_batch: int = 8
    tuning_learning_rate: float = 6e-4
    tuning_noise: float = 0.12
    tuning_average: float = 0.998


@dataclass(frozen=True, kw_only=True)
class FlowSettings:
    """Flow matching on the frozen latents with wrong captions mixed in."""

    steps: int = 9000
    batch: int = 128
    learning_rate: float = 2.5e-3
    average: float = 0.999
    wrong_word: float = 0.36  # a wrong colour and, independently, a wrong shape: (1 - .75 * .36)^2 = .53 stay right
    empty_caption: float = 0.1
    layers: int = 2


@dataclass(frozen=True, kw_only=True)
class EditSettings:
    """The edit twin on top of the finished flow."""

    pairs: int = 2_000
    steps: int = 700
    batch: int = 64
    rank: int = 32
    learning_rate: float = 3e-3
    average: float = 0.995
    wrong_colour: float = 0.5  # three of four of these are wrong: .62 stay right
    empty_caption: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where things go and how they are made.

    `work` keeps what a broken run needs to go on; `assets` receives the finished model.
    """

    work: Path = ROOT / "build" / "demo_model"
    assets: Path = ROOT / "mixgrpo_core" / "assets" / "demo"
    seed: int = 0
    drawings: int = 24_000
    autoencoder: AutoencoderSettings = field(default_factory=AutoencoderSettings)
    flow: FlowSettings = field(default_factory=FlowSettings)
    edit: EditSettings = field(default_factory=EditSettings)
