"""The host's models of noise and v-prediction (SDXL, Illustrious, Pony, Stable Diffusion 1.x and 2.x) as flows.

The host asks its network at a noise ``k`` for latents ``x0 + k eps``, and always gets the image behind them. So with
``sigma = k / (1 + k)`` and ``x = (x0 + k eps) / (1 + k)`` the velocity is ``(x - x0) / sigma``, as for its flow models.
"""

from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from comfy.model_base import BaseModel, SDXLRefiner
from comfy.model_sampling import EPS, V_PREDICTION, ModelSamplingDiscrete
from torch import Tensor, nn

from ...mixgrpo_core.models.diffusion_flow import noise_of

_IMAGES = (EPS.calculate_denoised, V_PREDICTION.calculate_denoised)


def noises_of(sampling: object) -> Tensor | None:
    """The table of a diffusion model's noise levels ``[T]``, ascending, by the host's object for its sampling; None for
    models of other kinds, consistency models too, whose steps are no flow's."""
    known = getattr(type(sampling), "calculate_denoised", None) in _IMAGES
    if not known or not isinstance(sampling, ModelSamplingDiscrete) or sampling.sigma_data != 1:
        return None
    of_the_table = type(sampling).timestep is ModelSamplingDiscrete.timestep
    levels = sampling.sigmas
    return levels.detach().cpu() if of_the_table and isinstance(levels, Tensor) else None


def require_images_from_noise(base: BaseModel, sampling: object, name: str) -> None:
    """Raise ``ValueError`` for a diffusion model that is no flow as it is, in one sentence."""
    network = base.diffusion_model
    if type(network) is not UNetModel:
        raise ValueError(
            f"MixGRPO trains models that predict noise where they are UNets (SDXL, Illustrious, Pony, Stable Diffusion "
            f"1.5), found {name}, which is none: load one of them, or a flow model"
        )
    if base.concat_keys or network.in_channels != network.out_channels:
        raise ValueError(
            f"expected a model that makes images from noise alone, found {name}, which takes {network.in_channels} "
            f"channels for the {network.out_channels} of an image (inpainting or instructions): load the base model "
            "that it was made of"
        )
    if isinstance(base, SDXLRefiner):
        raise ValueError("expected a model that makes images from noise, found SDXL's refiner: load the base model")
    if getattr(sampling, "zsnr", False) and not isinstance(sampling, V_PREDICTION):
        raise ValueError(
            f"expected v_prediction of a model that is sampled from pure noise (zsnr), found {name} with noise "
            "prediction, which says nothing there: take zsnr off in ModelSamplingDiscrete, or set v_prediction there"
        )


def in_its_own_scale(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """A flow's latents and level as the host's diffusion models have them: ``x0 + k eps`` and ``k``."""
    return x / (1 - sigma), noise_of(sigma)


def parts_of_a_unet(network: nn.Module) -> list[nn.Module]:
    """The parts of a UNet's blocks that hold what a backward pass needs; empty for other networks.

    The host calls these, and not the lists that they stand in.
    """
    if not isinstance(network, UNetModel):
        return []
    return [module for module in network.modules() if isinstance(module, ResBlock | SpatialTransformer)]
