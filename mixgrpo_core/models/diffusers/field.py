"""A diffusers pipeline as a velocity field: its own ``__call__`` is asked for one step, for a decoding, for a grid.

    velocity(x, sigma)    the call with one level; ``prepare_latents`` hands out x, ``Probe.step`` keeps the velocity
    decode(x)             the call without a level, up to the image that the processor is given
    grid(steps)           the levels that the pipeline asks its scheduler for

So guidance, sign, timestep scale, packing, position ids and masks are the pipeline's, and x is what its own loop holds
(packed where it packs).
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from ..pictures import within_0_to_1
from .diffusion_probe import DiffusionProbe
from .probe import Enough, Probe
from .references import PICTURE, Reference

K = TypeVar("K")
V = TypeVar("V")
_KEPT = 64  # pictures as latents, of a MiB each at one megapixel
_PICTURES = (PICTURE, "images")  # of ``prepare_latents``
_PROCESSORS = (("image_processor", "postprocess"), ("video_processor", "postprocess_video"))


class PipelineField:
    """A pipeline without text encoders.

    Attributes:
        size: ``(H, W)`` that the pipeline makes, which need not be what was asked for.
        latent_shape: of one latent.

    Args:
        pipe: the pipeline with a `Probe` or a `DiffusionProbe` for its scheduler, which nobody else asks from now on.
        embeds: arguments of one row, to ask where the text does not matter.
        fixed: further arguments of every call.
        device: where its networks are.
    """

    def __init__(
        self,
        pipe: DiffusionPipeline,
        embeds: Mapping[str, object],
        fixed: Mapping[str, object],
        device: torch.device,
    ) -> None:
        self._pipe, self._embeds, self._fixed = pipe, embeds, fixed
        self._call: Callable[..., Any] = inspect.unwrap(type(pipe).__call__)  # without its no_grad
        self._probe: Probe | DiffusionProbe = pipe.scheduler
        pipe.__class__ = _at(type(pipe), device)
        pipe.progress_bar = _no_bar
        self._prepare: Callable[..., Any] = pipe.prepare_latents
        pipe.prepare_latents = self._prepared
        self._image: Tensor | None = None
        for processor, name in _PROCESSORS:
            if hasattr(pipe, processor):
                setattr(getattr(pipe, processor), name, self._keep_image)
        if hasattr(pipe, "image_processor"):
            for name in ("resize", "preprocess"):
                setattr(pipe.image_processor, name, self._once(name, getattr(pipe.image_processor, name)))
        self._x: Tensor | None = None
        self._reference: Reference | None = None
        self._rest: dict[tuple[int, str], tuple[object, ...]] = {}
        self._seen: dict[object, Tensor] = {}
        self._sized: dict[object, Any] = {}
        if hasattr(pipe, "_encode_vae_image"):
            self._encode: Callable[..., Tensor] = pipe._encode_vae_image
            pipe._encode_vae_image = self._encoded
        self._asked: dict[str, Any] = {}
        self._ask(torch.ones(()), None, embeds, "latent")
        found = self.noise(0, 1)
        self.size: tuple[int, int] = (int(self._asked["height"]), int(self._asked["width"]))
        self.latent_shape = tuple(found.shape[1:])

    def noise(self, seed: int, count: int) -> Tensor:
        """What the pipeline starts from, ``[count, *L]`` in float32: numbers of the CPU, then packed."""
        told = {name: None if name in _PICTURES else value for name, value in self._asked.items()}
        made = self._drawn(count, torch.Generator().manual_seed(seed), told)
        drawn: Tensor = made[0] if isinstance(made, tuple) else made
        return drawn

    def velocity(self, x: Tensor, sigma: Tensor, embeds: Mapping[str, object]) -> Tensor:
        """``v [B, *L]`` of ``x``, float32, at the level ``sigma``; ``embeds`` are of B rows."""
        self._ask(sigma, x, embeds, "latent")
        return self._probe.take().float()

    def grid(self, steps: int) -> Tensor:
        """The sigmas ``[steps + 1]`` that the pipeline samples on, float32 on the CPU."""
        self._ask(None, self.noise(0, 1), self._embeds, "latent", num_inference_steps=steps)
        return self._probe.take().float().cpu()

    def decode(self, x: Tensor, embeds: Mapping[str, object]) -> Tensor:
        """Images ``[B, H, W, 3]`` in 0..1, or ``[B, F, H, W, 3]`` of a video; cut off so that a gradient leads back."""
        made = self._ask(torch.ones(0), x, embeds, "pt")
        image, self._image = self._image, None
        if image is not None:
            return _pictures(within_0_to_1(image.float().movedim(1, -1) / 2 + 0.5))
        found: Tensor = made[0] if isinstance(made, tuple) else made
        return _pictures(found.float().movedim(-3, -1))

    def _ask(
        self, level: Tensor | None, x: Tensor | None, embeds: Mapping[str, object], output: str, **more: object
    ) -> Any:
        self._probe.asked, self._x = level, x
        asked = {"num_inference_steps": 1, **self._fixed, **embeds, **more}
        reference = asked.get(PICTURE)
        self._reference = reference if isinstance(reference, Reference) else None
        if self._reference is not None:
            asked[PICTURE] = self._reference.image
        try:
            return self._call(self._pipe, **asked, output_type=output, return_dict=False)
        except Enough:
            return None
        finally:
            self._x = None

    def _prepared(self, *args: object, **named: object) -> Any:
        """In the place of ``prepare_latents``: the latents that are asked about, with the ids that belong to them."""
        if self._x is None:
            bound = inspect.signature(self._prepare).bind(*args, **named)
            self._asked = dict(bound.arguments)
            raise Enough
        key = (len(self._x), "" if self._reference is None else self._reference.key)
        if key not in self._rest:
            told = self._asked
            if self._reference is not None:
                told = dict(inspect.signature(self._prepare).bind(*args, **named).arguments)
            made = self._drawn(len(self._x), torch.Generator().manual_seed(0), told)
            _keep(self._rest, key, made[1:] if isinstance(made, tuple) else ())
        rest = self._rest[key]
        return (self._x, *rest) if rest else self._x

    def _drawn(self, rows: int, generator: torch.Generator, told: Mapping[str, Any]) -> Any:
        with torch.no_grad():
            return self._prepare(**{**told, "batch_size": rows, "generator": generator, "latents": None})

    def _once(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """``work`` of the pipeline on a reference picture, which at each of a run's velocities is the same."""

        def done(image: object, *args: object, **named: object) -> Any:
            if self._reference is None:
                return work(image, *args, **named)
            key = (self._reference.key, name, repr(args), repr(named))
            if key not in self._sized:
                _keep(self._sized, key, work(image, *args, **named))
            return self._sized[key]

        return done

    def _encoded(self, image: Tensor, generator: object = None) -> Tensor:
        """In the place of the pipeline's own: a picture goes through the autoencoder once, and not at every step."""
        key = (None if self._reference is None else self._reference.key, image.shape)
        if key not in self._seen:
            with torch.no_grad():
                _keep(self._seen, key, self._encode(image=image, generator=generator))
        return self._seen[key]

    def _keep_image(self, image: Tensor, *args: object, **named: object) -> None:
        self._image = image
        raise Enough


def _keep(kept: dict[K, V], key: K, value: V) -> None:
    """The newest, and a few before it."""
    while len(kept) >= _KEPT:
        del kept[next(iter(kept))]
    kept[key] = value


def _at(pipeline: type[DiffusionPipeline], device: torch.device) -> type[DiffusionPipeline]:
    """The pipeline's class, told where it computes: it would look through all modules for that in every call."""
    return type(pipeline.__name__, (pipeline,), {"_execution_device": property(lambda self: device)})


def _pictures(images: Tensor) -> Tensor:
    """A video of one frame is a picture."""
    return images[:, 0] if images.ndim == 5 and images.shape[1] == 1 else images


class _NoBar:
    def update(self, count: int = 1) -> None:
        """Nothing is shown."""


@contextmanager
def _no_bar(*args: object, **named: object) -> Iterator[_NoBar]:
    yield _NoBar()
