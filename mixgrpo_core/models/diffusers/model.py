"""The model port over a diffusers pipeline: its velocity field, a LoRA on its network, prompts encoded once."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from copy import copy
from functools import partial
from pathlib import Path

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from ...support.activations import PassMemory
from ...support.queued import index_on, sent
from ...support.ranks import ALONE, Ranks
from ...support.sized import Size, size_of
from ..lora import WithLora
from ..lora_metadata import model_metadata
from ..pictures import maps_over_latents, maps_over_tokens
from ..port import LoraAbout, R, Velocity
from .arguments import arguments, place_vae, require_range
from .calls import Call, HeardNetwork
from .checkpointing import Checkpointing
from .cond import PipelineCond, as_negative
from .decoding import DecodesByVae
from .encoding import EncodesByVae, ImageEncoder
from .family import Embeds, Family
from .field import PipelineField
from .frames import PICTURE, Frames
from .interior import Interior
from .kept_texts import KeptTexts
from .memory import known_pass_memory
from .offload import Offload
from .peft_lora import PeftLora
from .references import Reference, References
from .rows import Prompts, Rows
from .texts import TextEmbedder

Grid = Callable[[int], Tensor]


class PipelineModel(WithLora[PeftLora], DecodesByVae, EncodesByVae):
    """The flow-model port over a pipeline.

    Attributes:
        latent_shape, device, evaluations: see the port.
        family: what is known of its kind.
        resolution: ``(H, W)`` of the decoded images.
        guidance: classifier-free guidance scale; 1 is off and costs one evaluation per row, more costs two.
        grid: the sigmas by the number of steps, at this size.
        lora: the LoRA, its rank and its scale.
        offload: the blocks of the network that wait in main memory.
        shards: where each rank holds a part of the network.
        architecture, base_model: the model's names in the header of an exported LoRA.
    """

    min_steps = 4  # what the distilled (turbo) members of the families are made for; below it there is no image

    def __init__(
        self,
        pipe: DiffusionPipeline,
        family: Family,
        texts: TextEmbedder,
        lora: PeftLora,
        *,
        resolution: tuple[int, int] | None = None,
        frames: Frames = PICTURE,
        guidance: float = 1.0,
        embedded_guidance: float | None = None,
        grids: Callable[[tuple[int, ...]], Grid] | None = None,
        compute: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        gradient_checkpointing: bool = False,
        offload: int = 0,
        ranks: Ranks = ALONE,
        architecture: str,
        base_model: str = "",
    ) -> None:
        if not 1 <= guidance < math.inf:
            raise ValueError(f"expected a finite guidance scale of 1 (off) or more, found {guidance}")
        require_range(compute)
        self.device = torch.device(device)
        self.family, self.guidance = family, guidance
        self.architecture, self.base_model = architecture, base_model
        self.lora = lora
        self._compute = compute
        network: ModelMixin = getattr(pipe, family.network)
        self._network = HeardNetwork(network, compute, self.device)
        self.shards = self._network.in_shards(lora, ranks)
        self.offload = Offload(network, lora, offload, self.device)
        if self.low_precision:
            lora.keep_inputs_low()
        place_vae(pipe.vae, self.device)
        self._texts = texts
        self._embed = KeptTexts(texts)
        self._rows, self._references = Rows(family, self.device), References(family)
        self._blank = family.example(network.config, torch.zeros)
        self._frames = frames
        self._asked = partial(
            arguments, pipe, family, frames=frames.made, guidance=guidance, embedded=embedded_guidance
        )
        self._pipe, self._inside, self._grids = pipe, Interior(pipe, self.device), grids
        self._take_size(resolution)
        self._sizes: dict[Size, PipelineModel] = {}
        self._blocks = Checkpointing(network, lora)
        self.checkpointing = gradient_checkpointing or offload > 0  # what waits for a backward pass does not go away

    def at(self, size: Size) -> "PipelineModel":
        """The same model for images of another size; its LoRA, conditionings and count are this one's.

        Raises:
            ValueError: a height or width that it does not make.
        """
        if size == self.resolution:
            return self
        if size not in self._sizes:
            made = copy(self)
            made._take_size(size)
            self._sizes[size] = made
        return self._sizes[size]

    def _take_size(self, asked: Size | None) -> None:
        """What depends on the size of images; None is the pipeline's own."""
        self._field = PipelineField(self._inside, self._told_blank(1), self._asked(resolution=asked))
        self.resolution, self.latent_shape = self._field.size, self._field.latent_shape
        self._encoder = ImageEncoder(self._pipe, self.latent_shape)
        if asked is not None and tuple(asked) != self.resolution:
            raise ValueError(
                f"expected a height and width that the pipeline of {self.family.name} makes, found {asked[0]} x "
                f"{asked[1]}, of which it makes {self.resolution[0]} x {self.resolution[1]}: take that"
            )
        self.grid: Grid = self._field.grid if self._grids is None else self._grids(self.latent_shape)

    @property
    def evaluations(self) -> int:
        """Rows that have gone through the network."""
        return self._network.evaluations

    @evaluations.setter
    def evaluations(self, count: int) -> None:
        self._network.evaluations = count

    @property
    def digest(self) -> str:
        """What tells the network's weights from others."""
        return self._network.digest

    @property
    def low_precision(self) -> bool:
        """Whether the network computes in fewer bits than float32."""
        return self._compute != torch.float32

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance is on."""
        return self.guidance > 1

    @property
    def lora_about(self) -> LoraAbout:
        """What a file of its LoRA has to know."""
        about = model_metadata(
            architecture=self.architecture,
            base_model=self.base_model,
            rank=self.lora.rank,
            alpha=self.lora.scale * self.lora.rank,
            resolution=self.resolution,
            precision=str(self._compute).removeprefix("torch."),
        )
        return LoraAbout(scale=self.lora.scale, metadata=about)

    def encode(self, prompt: str) -> PipelineCond:
        """The conditioning of one prompt; each text goes through the text encoders once."""
        words, picture = str(prompt), self._picture(prompt)
        negative = self._embed.negative(picture) if self.guided else {}
        return PipelineCond(positive=self._embed(words, picture), negative=negative, picture=picture)

    def take_pictures(self, pictures: Mapping[str, Tensor]) -> None:
        """The reference pictures of prompts; a family that conditions on none leaves them to rewards."""
        self._references.take(pictures)

    def _picture(self, prompt: str) -> Reference | None:
        return self._references.of(prompt, math.prod(size_of(prompt) or self.resolution))

    def drawn(self, generator: torch.Generator) -> PipelineCond:
        """A conditioning of numbers and no prompt, to ask the network with."""

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        positive, negative = (self.family.example(self._network.network.config, draw) for _ in range(2))
        picture = self._references.blank
        return PipelineCond(positive=positive, negative=as_negative(negative) if self.guided else {}, picture=picture)

    def prepare(self, prompts: Sequence[str]) -> None:
        """Encode every prompt, and let go of the text encoders; a prompt that comes later loads them again.

        Raises ``ValueError`` when a text encoder reads different prompts as one.
        """
        looked_at = self._texts.sees or self.family.needs_picture
        texts = dict.fromkeys((str(one), self._picture(one) if looked_at else None) for one in prompts)
        self._embed.prepare(texts, negative=self.guided)

    def keep_texts(self, folder: Path) -> None:
        """Keep what the text encoders made of prompts in files, and not in main memory. Raises ``OSError``."""
        self._embed.keep_in(folder)

    def noise(self, seed: int, count: int) -> Tensor:
        """Standard normal noise ``[count, *L]``: what the pipeline starts from."""
        return self._field.noise(seed, count)

    @property
    def checkpointing(self) -> bool:
        """Whether each block is computed again in the backward pass instead of keeping what is inside of it."""
        return self._blocks.on

    @checkpointing.setter
    def checkpointing(self, on: bool) -> None:
        self._blocks.on = on

    def pass_memory(self, *, checkpointing: bool) -> PassMemory | None:
        """Bytes that one call of the network holds besides the weights, by its images; computed, not measured.

        None where the network looks at numbers to decide what it does.
        """
        embeds = self._embed.last or self._blank
        if self.guided:
            embeds = {**embeds, **as_negative(embeds)}
        prompts = self._rows.of([embeds], [self._references.last])

        def calls(images: int) -> list[Call]:
            with torch.no_grad(), self._network.recording() as heard:
                self._velocity(self.noise(0, images), torch.tensor(0.5), prompts, [0] * images)
            return heard

        network, name = self._network.network, self.family.name
        return known_pass_memory(name, network, self.lora, calls, self._blocks, checkpointing=checkpointing)

    def places(self, maps: Tensor) -> Tensor:
        """Maps over images ``[B, H, W]`` broadcastable to latents: of planes, or of tokens in the order of rows."""
        maps = maps.to(self.device)
        if len(self.latent_shape) > 2:
            return maps_over_latents(maps, self.latent_shape)
        return maps_over_tokens(maps, self.latent_shape[0], self.resolution)

    def kind(self, cond: PipelineCond) -> Hashable:
        """What conditionings that share calls have in common."""
        return self._rows.kind(self._told(cond), cond.picture)

    def _told(self, cond: PipelineCond) -> Embeds:
        return {**cond.positive, **(cond.negative if self.guided else {})}

    def run(self, conds: Sequence[PipelineCond], body: Callable[[Velocity], R]) -> R:
        """Call ``body`` with the velocity field of some prompts."""
        for cond in conds:
            if self.guided and not cond.negative:
                raise ValueError(
                    f"expected a conditioning with its negative for guidance {self.guidance}, found none; "
                    "encode the prompt with this model"
                )
        prompts = self._rows.of([self._told(cond) for cond in conds], [cond.picture for cond in conds])

        def velocity(x: Tensor, sigma: Tensor, rows: Tensor | None = None) -> Tensor:
            return self._velocity(x.float(), sigma, prompts, [0] * len(x) if rows is None else rows.tolist())

        return body(velocity)

    def _velocity(self, x: Tensor, sigma: Tensor, prompts: Prompts, own: Sequence[int]) -> Tensor:
        calls = list(prompts.calls(own))
        if len(calls) == 1:
            return self._field.velocity(x, sigma, prompts.told(own))
        parts = []
        for places in calls:
            its = index_on(x.device, torch.tensor(places))
            parts.append(self._field.velocity(x[its], sigma, prompts.told([own[place] for place in places])))
        back = torch.tensor([place for places in calls for place in places]).argsort()
        return torch.cat(parts)[sent(back, x.device)]

    def _told_blank(self, rows: int) -> dict[str, object]:
        """A call in which the text does not matter."""
        off = {} if self.family.guidance is None else {self.family.guidance: self.family.unguided}
        told = self._rows.told(self._blank, rows, self._references.blank)
        if self.family.guider is not None and self.guided:  # it cannot be off for one call
            told |= self._rows.told(as_negative(self._blank), rows, None)
        return {**told, **off}
