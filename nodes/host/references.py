"""Reference pictures on the canvas: what a MODEL that edits is conditioned on, as ComfyUI's own nodes do it.

FLUX.1 Kontext, FLUX.2, Qwen-Image-Edit     ``reference_latents``: the picture through the VAE
Qwen-Image-Edit                             one megapixel of it, whatever the size of the images, and the text encoder
                                            sees it
"""

from collections.abc import Mapping

import node_helpers
import torch
from comfy.sd import VAE
from torch import Tensor

from ...mixgrpo_core.rewards.port import Context
from ...mixgrpo_core.support.digests import picture_digest
from ...mixgrpo_core.support.pixels import of_area, rgb_of, shrunk, to_image
from .family import HostFamily
from .texts import Conditioning, PromptSet

_READ = frozenset({"Flux", "Flux2", "QwenImage"})
_SEEN = frozenset({"QwenImage"})
_SIDE = 1024
_KEPT = 64


def reads_pictures(family: HostFamily) -> bool:
    """Whether a model conditions on the pictures of its prompts. FLUX.1 does as Kontext, which its file's name says."""
    named_otherwise = family.name == "Flux" and family.base_model and "kontext" not in family.base_model.lower()
    return family.name in _READ and not named_otherwise


class HostReferences:
    """The pictures of a prompt set for one model."""

    def __init__(self, family: HostFamily, vae: VAE, contexts: Mapping[str, Context]) -> None:
        self._family, self._vae, self._contexts = family, vae, contexts
        self._latents: dict[str, Tensor] = {}

    def conditioning(self, texts: PromptSet, text: str, prompt: str, area: int) -> Conditioning:
        """That of ``text``, with the picture of ``prompt``, of at most ``area`` pixels, where the model reads it."""
        found = self._contexts.get(prompt, Context()).reference if reads_pictures(self._family) else None
        if found is None:
            return texts.encode(str(text))
        seen, image = self._family.name in _SEEN, to_image(found)
        picture = torch.from_numpy(rgb_of(of_area(image, _SIDE) if seen else shrunk(image, area)))[None]
        made = texts.encode(str(text), picture if seen else None)
        return node_helpers.conditioning_set_values(made, {"reference_latents": [self._encoded(picture)]}, append=True)

    def _encoded(self, picture: Tensor) -> Tensor:
        """Through the VAE once, on the CPU, cut to what the network takes whole."""
        key = picture_digest(picture)
        if key not in self._latents:
            unit = self._family.pixels * self._family.patch
            height, width = (length // unit * unit for length in picture.shape[1:3])
            top, left = ((length - kept) // 2 for length, kept in zip(picture.shape[1:3], (height, width), strict=True))
            cut = picture[:, top : top + height, left : left + width]
            with torch.inference_mode(False), torch.no_grad():
                made = self._vae.encode(cut).clone().cpu()
            while len(self._latents) >= _KEPT:
                del self._latents[next(iter(self._latents))]
            self._latents[key] = made
        return self._latents[key]
