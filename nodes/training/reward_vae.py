"""The VAE that decodes what rewards look at, on the nodes that train."""

from comfy_api.latest import io

from ..host.model import HostModel


def reward_vae_input() -> io.Input:
    """The input of these nodes."""
    return io.Vae.Input(
        "reward_vae",
        optional=True,
        tooltip="A tiny VAE of the model's family (Load VAE: taesd, taesdxl, taesd3, taef1) that decodes the images "
        "that rewards look at in training. Held-out images and pictures of the result are decoded by the model's own.",
    )


def tiny_told(policy: HostModel) -> dict[str, str]:
    """What a run has to know of it: runs from before there was one go on."""
    return {"reward vae": policy.tiny} if policy.tiny else {}
