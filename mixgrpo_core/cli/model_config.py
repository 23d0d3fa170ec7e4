"""Which model a run is about, and its LoRA."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch

from ..models.facts import DEMO, Facts
from ..models.lora_layers import Layers
from ..models.quantization import Quantization
from ..support.collector import uncollected
from ..support.paths import user_path
from ..support.ranks import ALONE, Ranks
from ..support.setting import described, require_ranges, setting
from .devices import usable_device
from .frozen_loras import frozen_loras

if TYPE_CHECKING:  # it imports diffusers
    from ..models.diffusers.smaller import Smaller

DEMO_MODEL, EDIT = "demo", "demo-edit"


@described
@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model, and its LoRA."""

    folder: str = setting(
        DEMO_MODEL,
        "``demo`` (the shipped one), ``demo-edit`` (its twin, which repaints pictures) or a local diffusers folder: "
        "Stable Diffusion, SDXL, FLUX, Qwen-Image and Qwen-Image-Edit, Z-Image, Lumina 2, SANA, Chroma, HiDream, Wan, "
        "LTX-Video and others.",
    )
    rank: int | None = setting(
        None, "Size of the LoRA; without one the LoRA file's, or 8 for the demo and 32 else.", least=1, below=65537
    )
    alpha: float | None = setting(None, "Scale of the LoRA times its rank; without one twice the rank.", above=0)
    lora: str | None = setting(None, "A LoRA file to start from.")
    layers: Layers | None = setting(
        None,
        "Which layers of the blocks carry the LoRA: ``attention``, ``attention and MLP`` or ``all linear``, those of "
        "modulation too; without one the LoRA file's, or attention and MLP.",
    )
    loras: tuple[str, ...] = setting(
        (),
        "LoRA files that lie under the one in training and stay as they are: a character, and taste on top. ``FILE`` "
        "or ``FILE:0.8`` with a strength. They are merged into the model, and no part of the files that come out.",
    )
    height: int | None = setting(
        None, "Of the images, in pixels; without one the model's own. The demo model draws one size only.", least=1
    )
    width: int | None = setting(None, "See height.", least=1)
    frames: int = setting(
        1, "Of a video, by a family that makes them: 1 more than a multiple of 4 for Wan; 1 is a picture.", least=1
    )
    frames_seen: int = setting(
        1,
        "How many frames of a video are decoded, evenly over it: rewards score each, and their mean counts; 1 is "
        "the frame in the middle. Pictures and guards show the middle one.",
        least=1,
    )
    guidance: float = setting(
        1.0,
        "Classifier-free guidance; 1 is off, above 1 every step costs two. Distilled models have none.",
        least=1,
    )
    embedded_guidance: float | None = setting(
        None,
        "What a network that was distilled with guidance is told, as FLUX.1 dev; without one the model's own (3.5).",
        least=0,
    )
    dtype: Literal["float32", "bfloat16"] = setting(
        "bfloat16",
        "Of the frozen weights and their products; the LoRA and the sampler's mathematics are always float32, and so "
        "is all of the demo model. There is no float16: the gradient of a mean log-probability is about 1e-8, which "
        "is 0 in it.",
    )
    quantization: Quantization | None = setting(
        None,
        "Keeps the frozen weights of linear layers in fewer bits: 8 with ``float8``, ``int8 torchao`` and ``int8 "
        "quanto``, 4 with ``nf4 bitsandbytes``. All but ``float8`` need the library that they name.",
    )
    gguf: str | None = setting(
        None, "A GGUF file of the network, read in place of the folder's weights; needs the library gguf."
    )
    tiny_autoencoder: str | None = setting(
        None,
        "A tiny autoencoder of the model's family that decodes the images that rewards look at in training: a folder "
        "of diffusers' AutoencoderTiny, or a TAESD decoder as ``.safetensors`` or ``.pth`` (taesd, taesdxl, taesd3, "
        "taef1). Held-out images and pictures of the result are decoded by the model's own.",
    )
    offload: int = setting(
        0,
        "How many of the network's repeated blocks wait in main memory and come to the GPU for their turn, in rollouts "
        "and updates; 0 is none. Two of them are there at a time, so 3 is the least. Gradient checkpointing is then "
        "on, and the numbers are those of a run without.",
        least=0,
        may_change=True,
    )
    sharded: bool = setting(
        False,
        "Whether each of several processes holds a part of the network's blocks (FSDP2) and not all of them: for what "
        "does not fit on one GPU. Where a block is needed all of them send it to each other, so it costs time.",
        may_change=True,
    )
    device: str | None = setting(None, "``cpu``, ``cuda``, ``cuda:1``, ``mps``; without one a GPU if there is one.")
    gradient_checkpointing: bool = setting(
        False,
        "Less memory in training, for a third more time in the update. A new run that could not train one image "
        "without it has it on.",
    )
    seed: int = setting(0, "Of the LoRA's first values.")
    pipeline_grid: bool = setting(
        False,
        "Whether steps lie where diffusers' own pipeline has them, to compare images with it: the ends of its grid are "
        "shifted twice. Without it the levels are even and shifted once, as the publications train.",
    )

    def __post_init__(self) -> None:
        require_ranges(self)

    @property
    def shipped(self) -> bool:
        """Whether it is the demo model, or its twin."""
        return self.folder in (DEMO_MODEL, EDIT)

    def make(self, ranks: Ranks = ALONE) -> Any:
        """The model with its LoRA, where it is ``sharded`` with a part of the base on each of ``ranks``. Imports
        diffusers, so only here."""
        model = self._made(ranks)
        if self.tiny_autoencoder is not None:
            model.take_tiny(user_path(self.tiny_autoencoder))
        return model

    def _made(self, ranks: Ranks) -> Any:
        with uncollected():
            from diffusers.utils import logging as diffusers_logging
            from transformers.utils import logging as transformers_logging

            diffusers_logging.set_verbosity_error()  # their hints are for callers of theirs, not for users of a command
            transformers_logging.set_verbosity_error()
            from ..models.families.demo import load_demo

        resolution = self.resolution()
        common: dict[str, Any] = {
            "rank": self.rank,
            "alpha": self.alpha,
            "lora": self.lora,
            "layers": self.layers,
            "loras": frozen_loras(self.loras),
            "seed": self.seed,
            "guidance": self.guidance,
            "device": usable_device(self.device or ("cuda" if torch.cuda.is_available() else "cpu"), "model.device"),
            "gradient_checkpointing": self.gradient_checkpointing,
            "pipeline_grid": self.pipeline_grid,
        }
        if self.shipped:
            if self.embedded_guidance is not None:
                raise ValueError("the demo model is told of no guidance: leave model.embedded_guidance out")
            if (self.frames, self.frames_seen) != (1, 1):
                raise ValueError("the demo model draws pictures: leave model.frames and model.frames_seen out")
            if self.quantization is not None or self.gguf is not None or self.offload or self.sharded:
                raise ValueError(
                    "the demo model is as small as it gets: leave model.quantization, model.gguf, model.offload and "
                    "model.sharded out"
                )
            return load_demo(**common, edit=self.folder == EDIT)
        from ..models.diffusers.frames import Frames
        from ..models.families.loading import load_pipeline

        return load_pipeline(
            self.folder,
            dtype=getattr(torch, self.dtype),
            resolution=resolution,
            embedded_guidance=self.embedded_guidance,
            frames=Frames(made=self.frames, seen=self.frames_seen),
            smaller=self.smaller(ranks),
            prove=False,  # sampling asks for less
            **common,
        )

    @property
    def checkpointed(self) -> bool:
        """Whether gradient checkpointing is on."""
        return self.gradient_checkpointing or self.offload > 0

    def smaller(self, ranks: Ranks = ALONE) -> "Smaller":
        """How the frozen weights are to take fewer bytes, on each of ``ranks``. Imports diffusers."""
        from ..models.diffusers.smaller import Smaller

        among = ranks if self.sharded else ALONE
        return Smaller(quantization=self.quantization, gguf=self.gguf, offload=self.offload, ranks=among)

    def facts(self) -> Facts:
        """What its family wants. Raises ``ValueError`` for a folder that is none."""
        if self.shipped:
            return DEMO
        from ..models.families.facts_of import facts_of

        return facts_of(self.folder, frozen_loras(self.loras))

    def fitted(self, facts: Facts, given: Collection[str]) -> "ModelConfig":
        """The guidance and size of its family, but for those that were ``given``."""
        usual: dict[str, Any] = {} if "guidance" in given else {"guidance": facts.cfg}
        if not self.shipped and not {"height", "width"} & {*given}:
            usual |= {"height": facts.side, "width": facts.side}
        return replace(self, **usual)

    def resolution(self) -> tuple[int, int] | None:
        """``(H, W)`` of the images; None is the model's own."""
        height, width = self.height, self.width
        if height is None and width is None:
            return None
        if self.shipped:
            raise ValueError("the demo model draws 64 x 64 pixels only: leave model.height and model.width out")
        if height is None or width is None:
            raise ValueError(
                f"expected both model.height and model.width, found {height} and {width}: give both or none"
            )
        return height, width
