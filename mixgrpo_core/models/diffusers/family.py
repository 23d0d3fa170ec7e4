"""What cannot be read from a diffusers pipeline itself: one row of a table for each family."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor

from ..facts import OTHER, Facts

Config = Mapping[str, Any]
Embeds = Mapping[str, Tensor]
"""What text encoders made of one text: tensors by the argument of the pipeline's call, of one row."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of models as a diffusers pipeline.

    Attributes:
        name: in tables and errors.
        pipelines: the classes of its pipelines, as ``model_index.json`` has them.
        architecture: its modelspec name in the header of LoRA files, by the network's configuration.
        returns: what ``encode_prompt`` returns, each as an argument of the pipeline's call; empty where it is no
            argument. Without a ``negative_`` among them the negative is another call's.
        network: the part of the pipeline that is its network.
        diffusion: whether its network predicts noise or diffusion's v, which is made a velocity.
        example: one row of embeddings, drawn by the function that is given, for a network of this configuration.
        linears: a regular expression of the layers that the LoRA sits on.
        guidance: the call's argument of classifier-free guidance; None where it has none.
        unguided: its value that is off. What is asked for counts from 1 on, as in v_neg + g (v - v_neg).
        guider: the part of the pipeline that guides, by the scale, where it is no argument of the call.
        embedded: the call's argument of the guidance that the network was distilled with, where it has one.
        facts: what it wants, which a folder of it may do without.
        fixed: further arguments of the call, by height and width.
        side: how many latents of a side make a patch.
        rows: the dimension of an argument's rows, where it is not the first.
        listed: whether the call takes lists of rows instead of tensors.
        even_grid: whether its levels are even and shifted once, where the pipeline's own call shifts the ends twice.
        most_patches: the setting of the network that says how many patches of a side it has places for.
        distilled: whether a folder's guidance is in its weights, by the pipeline's and the network's configurations.
        refused: why a folder cannot be trained, by the pipeline's and the network's configurations; empty where it can.
        training: classes of modules that let no right gradient through unless they are told that they train.
        optional: text encoders that a folder may leave out.
        frames_a_latent: the pipeline's attribute of how many frames one latent stands for, where it makes videos.
        one_area: whether the pipeline makes images of one area only, its default; what is asked for becomes that.
        reads_pictures: whether the call takes a reference picture, ``image``.
        needs_picture: whether it cannot do without.
        own_area: whether the pipeline makes pictures of one area out of all; else they are no larger than the images.
        shown: the picture as the call hands it to ``encode_prompt``, where its text encoder sees it.
        one_row: whether the call takes one row at a time.
        said: what each text encoder on its own said of a prompt, by its name; by argument where it is None.
    """

    name: str
    pipelines: tuple[str, ...]
    architecture: Callable[[Config], str]
    returns: tuple[str, ...]
    example: Callable[[Config, Callable[..., Tensor]], Embeds]
    linears: str
    network: str = "transformer"
    diffusion: bool = False
    guidance: str | None = "guidance_scale"
    unguided: float = 1.0
    guider: Callable[[float], object] | None = None
    embedded: str | None = None
    facts: Facts = OTHER
    fixed: Callable[[int, int], Mapping[str, Any]] = field(default=lambda height, width: {})
    side: int = 2
    rows: Mapping[str, int] = field(default_factory=dict)
    listed: bool = False
    even_grid: bool = False
    most_patches: str | None = None
    distilled: Callable[[Config, Config], bool] = field(default=lambda pipeline, network: False)
    refused: Callable[[Config, Config], str] = field(default=lambda pipeline, network: "")
    training: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    frames_a_latent: str | None = None
    one_area: bool = False
    reads_pictures: bool = False
    needs_picture: bool = False
    own_area: bool = False
    shown: Callable[[Image.Image], Image.Image | list[Image.Image]] | None = None
    one_row: bool = False
    said: Callable[[Any, Embeds], Mapping[str, Tensor]] | None = None

    @property
    def embedded_value(self) -> float | None:
        """The family's own embedded guidance."""
        return self.facts.guidance if self.embedded else None

    @property
    def negatives(self) -> bool:
        """Whether ``encode_prompt`` returns the negative with the positive."""
        return any(name.startswith(NEGATIVE) for name in self.returns)

    @property
    def positives(self) -> tuple[str, ...]:
        """The arguments of a prompt itself."""
        return tuple(name for name in self.returns if name and not name.startswith(NEGATIVE))


NEGATIVE = "negative_"
