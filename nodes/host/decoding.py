"""Images of a MODEL's latents by a VAE of the host: its own, or a tiny one in its place.

``process_latent_out`` gives the latents that the MODEL's own VAE takes. A tiny VAE of *Load VAE* (taesd, taesd3, ...)
takes these too: the host puts its scale and shift before it.
"""

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ...mixgrpo_core.models.pictures import within_0_to_1
from ...mixgrpo_core.models.tiny import picture, require_alike
from ...mixgrpo_core.support.micro_batches import ran_out
from .gradients import trainable
from .identity import model_digest
from .streaming import weights_asked_again

_SIDE = 256
"""Pixels of the picture by which a tiny VAE is compared, at most."""


class DecodesByVae:
    """The part of a model that decodes.

    Attributes:
        vae: the MODEL's own.
        tiny: what tells the tiny VAE from others; empty without one.
    """

    tiny = ""
    vae: VAE
    patcher: ModelPatcher
    resolution: tuple[int, int]
    _small: VAE

    @property
    def decode_dtype(self) -> torch.dtype:
        """What the host has its VAE compute in."""
        found: torch.dtype = self.vae.vae_dtype
        return found

    def decode(self, x: Tensor, *, grad: bool = False) -> Tensor:
        """Latents ``[B, *L]`` to images ``[B, H, W, 3]`` in 0..1, float32, where the VAE puts them."""
        return self._by(self.vae, x, grad=grad)

    def decode_low(self, x: Tensor) -> Tensor:
        """The same, computed in bfloat16 where the host would compute in float32."""
        return self._by_low(self.vae, x)

    def decode_tiny(self, x: Tensor, *, low: bool = False) -> Tensor:
        """The same by the tiny VAE, as the host computes or, ``low``, in bfloat16."""
        return self._by_low(self._small, x) if low else self._by(self._small, x)

    def take_tiny(self, vae: VAE | None) -> None:
        """Have a tiny VAE beside the MODEL's own; None leaves it at that.

        Raises:
            ValueError: it does not decode this MODEL's latents.
        """
        if vae is None:
            return
        self._small = vae
        shown = picture(*(min(side, _SIDE) for side in self.resolution))
        try:
            with torch.inference_mode(False), torch.no_grad():
                latents = self.patcher.model.process_latent_in(self.vae.encode(shown).float())
                own, small = self.decode(latents), self.decode_tiny(latents)
        except Exception as error:
            if ran_out(error):
                raise
            raise ValueError(
                f"reward_vae could not decode what the model's own VAE encodes ({type(error).__name__}: {error}): "
                "connect the tiny VAE of this model's family, such as taesd3 for Stable Diffusion 3, taef1 for FLUX.1"
            ) from error
        require_alike(own, small, "of reward_vae")
        self.tiny = model_digest(vae.patcher)

    def _by_low(self, vae: VAE, x: Tensor) -> Tensor:
        low = vae.vae_dtype == torch.float32
        with torch.autocast(vae.device.type, torch.bfloat16, enabled=low, cache_enabled=False):
            return self._by(vae, x)

    def _by(self, vae: VAE, x: Tensor, *, grad: bool = False) -> Tensor:
        latents = self.patcher.model.process_latent_out(x.float())
        if vae.device.type == "cpu" and latents.ndim == 4:  # convolutions there take two thirds of the time so
            latents = latents.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(False), torch.set_grad_enabled(grad):  # the host may move the network out for it
            images = _with_gradient(vae, latents) if grad else vae.decode(latents)
        images = images.reshape(-1, *images.shape[-3:])  # a video VAE gives one frame
        return within_0_to_1(images[..., :3].float())


def _with_gradient(vae: VAE, latents: Tensor) -> Tensor:
    """As the host's ``VAE.decode``, which writes into a buffer and so keeps no graph."""
    needed = vae.memory_used_decode(latents.shape, vae.vae_dtype)
    comfy.model_management.load_models_gpu([vae.patcher], memory_required=needed)
    with trainable(vae.first_stage_model), weights_asked_again(vae.first_stage_model):
        images = vae.first_stage_model.decode(latents.to(vae.device, vae.vae_dtype)).float()
    return _pictures(vae, images).movedim(1, -1)


def _pictures(vae: VAE, images: Tensor) -> Tensor:
    """The host's ``process_output`` without its cut at 0 and 1 where it is the usual one: that would end gradients."""
    some = torch.tensor([-0.5, 0.0, 0.5])
    usual = torch.equal(vae.process_output(some.clone()), (some + 1) / 2)
    return (images + 1) / 2 if usual else vae.process_output(images.clone())
