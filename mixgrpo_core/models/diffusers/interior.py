"""The inside of a diffusers pipeline: its own ``__call__`` is asked one thing at a time, and stopped at the answer."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any, TypeVar

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from .diffusion_probe import DiffusionProbe
from .probe import Enough, Probe
from .references import PICTURE, Reference

K = TypeVar("K")
V = TypeVar("V")
_KEPT = 64  # pictures as latents, of a MiB each at one megapixel
PICTURES = (PICTURE, "images")
"""Arguments of ``prepare_latents``."""
_PROCESSORS = (("image_processor", "postprocess"), ("video_processor", "postprocess_video"))


class Interior:
    """A pipeline that nobody else calls.

    Attributes:
        probe: its scheduler, which keeps the answers.
        pipe: the pipeline.
        device: where its networks are.

    Args:
        pipe: the pipeline with a `Probe` or a `DiffusionProbe` for its scheduler.
    """

    def __init__(self, pipe: DiffusionPipeline, device: torch.device) -> None:
        self._untouched, self.device = _copied(pipe), device
        self.pipe = pipe
        self._call: Callable[..., Any] = inspect.unwrap(type(pipe).__call__)  # without its no_grad
        self.probe: Probe | DiffusionProbe = pipe.scheduler
        pipe.__class__ = _at(type(pipe), device)
        pipe.progress_bar = _no_bar
        self._own_area = getattr(pipe, "default_sample_size", None)
        self._prepare: Callable[..., Any] = pipe.prepare_latents
        pipe.prepare_latents = self._prepared
        if hasattr(pipe, "encode_prompt"):
            pipe.encode_prompt = _made_on(device, pipe.encode_prompt)
        self._image: Tensor | None = None
        for processor, name in _PROCESSORS:
            if hasattr(pipe, processor):
                setattr(getattr(pipe, processor), name, self._keep_image)
        if hasattr(pipe, "image_processor"):
            for name in ("resize", "preprocess"):
                setattr(pipe.image_processor, name, self._once(name, getattr(pipe.image_processor, name)))
        self._x: Tensor | None = None
        self._reference: Reference | None = None
        self._rest: dict[object, tuple[object, ...]] = {}
        self._seen: dict[object, Tensor] = {}
        self._sized: dict[object, Any] = {}
        if hasattr(pipe, "_encode_vae_image"):
            self._encode: Callable[..., Tensor] = pipe._encode_vae_image
            pipe._encode_vae_image = self._encoded
        self._told: dict[str, Any] = {}

    def ask(
        self, level: Tensor | None, x: Tensor | None, named: Mapping[str, object], output: str, area: float | None
    ) -> Any:
        """What a call with these arguments returns; None where it was stopped.

        Args:
            level: what the scheduler hands out; see `Probe`.
            x: latents ``[B, *L]`` in the place of noise; None stops the call where it would draw some.
            area: see `Asked`.
        """
        self.probe.asked, self._x = level, x
        reference = named.get(PICTURE)
        self._reference = reference if isinstance(reference, Reference) else None
        if self._reference is not None:
            named = {**named, PICTURE: self._reference.image}
        if self._own_area is not None:
            self.pipe.default_sample_size = self._own_area if area is None else area
        try:
            return self._call(self.pipe, **named, output_type=output, return_dict=False)
        except Enough:
            return None
        finally:
            self._x = None

    def another(self) -> "Interior":
        """One over the same networks that may be asked in another thread: what is asked and answered is its own."""
        return Interior(_copied(self._untouched), self.device)

    def told(self, named: Mapping[str, object], area: float | None) -> dict[str, Any]:
        """The arguments with which a call would draw its noise."""
        self.ask(torch.ones(()), None, named, "latent", area)
        return self._told

    def drawn(self, told: Mapping[str, Any], rows: int, seed: int) -> Any:
        """What ``prepare_latents`` gives: latents, perhaps with the ids that belong to them."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            return self._prepare(**{**told, "batch_size": rows, "generator": generator, "latents": None})

    def image(self) -> Tensor | None:
        """What the last call gave its processor of images, once."""
        image, self._image = self._image, None
        return image

    def _prepared(self, *args: object, **named: object) -> Any:
        """In the place of ``prepare_latents``: the latents that are asked about, with the ids that belong to them."""
        told = dict(inspect.signature(self._prepare).bind(*args, **named).arguments)
        if self._x is None:
            self._told = told
            raise Enough
        size = (told.get("height"), told.get("width"))
        key = (len(self._x), size, "" if self._reference is None else self._reference.key)
        if key not in self._rest:
            made = self.drawn(told, len(self._x), 0)
            _keep(self._rest, key, made[1:] if isinstance(made, tuple) else ())
        rest = self._rest[key]
        return (self._x, *rest) if rest else self._x

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


def _copied(pipe: DiffusionPipeline) -> DiffusionPipeline:
    """Another pipeline over the same networks; what an interior changes of it is another's, too."""
    made = copy(pipe)
    for name in ("scheduler", *(processor for processor, _ in _PROCESSORS)):
        if hasattr(pipe, name):
            setattr(made, name, copy(getattr(pipe, name)))
    return made


def _keep(kept: dict[K, V], key: K, value: V) -> None:
    """The newest, and a few before it."""
    while len(kept) >= _KEPT:
        del kept[next(iter(kept))]
    kept[key] = value


def _at(pipeline: type[DiffusionPipeline], device: torch.device) -> type[DiffusionPipeline]:
    """The pipeline's class, told where it computes: it would look through all modules for that in every call."""
    return type(pipeline.__name__, (pipeline,), {"_execution_device": property(lambda self: device)})


def _made_on(device: torch.device, work: Callable[..., Any]) -> Callable[..., Any]:
    """``work`` whose new tensors are on ``device``: a pipeline that is given embeddings makes ids of tokens on the CPU,
    and to place these at every call would wait for a GPU."""

    def done(*args: object, **named: object) -> Any:
        with device:
            return work(*args, **named)

    return done


class _NoBar:
    def update(self, count: int = 1) -> None:
        """Nothing is shown."""


@contextmanager
def _no_bar(*args: object, **named: object) -> Iterator[_NoBar]:
    yield _NoBar()
