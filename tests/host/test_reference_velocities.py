"""Reference pictures in both homes: one network, one picture, one velocity."""

from collections.abc import Callable
from typing import Any

import comfy.model_detection
import diffusers
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2, AutoencoderKLQwenImage
from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit
from mixgrpo_pack.mixgrpo_core.models.diffusers.arguments import Asked
from mixgrpo_pack.mixgrpo_core.models.diffusers.field import PipelineField
from mixgrpo_pack.mixgrpo_core.models.diffusers.interior import Interior
from mixgrpo_pack.mixgrpo_core.models.diffusers.probe import Probe
from mixgrpo_pack.mixgrpo_core.models.diffusers.references import PICTURE, References
from mixgrpo_pack.mixgrpo_core.models.families.qwen import QWEN_EDIT
from mixgrpo_pack.mixgrpo_core.models.families.table import FLUX2, KONTEXT
from mixgrpo_pack.mixgrpo_core.rewards.port import Context
from mixgrpo_pack.nodes.host import references as host_references
from mixgrpo_pack.nodes.host.field import HostField
from mixgrpo_pack.nodes.host.texts import PromptSet
from tiny_models import tiny
from torch import Tensor

WORDS, SIDE = "make it red", 64
TOKENS = 512  # to which the host fills up texts of FLUX.2
CPU = torch.device("cpu")
FLUX = {
    "patch_size": 1,
    "in_channels": 64,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 12,
    "pooled_projection_dim": 10,
    "guidance_embeds": True,
    "axes_dims_rope": (4, 6, 6),
}
QWEN = {
    "in_channels": 64,
    "out_channels": 16,
    "num_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 12,
    "axes_dims_rope": (4, 6, 6),
}
FLUX2_NETWORK = {
    "patch_size": 1,
    "in_channels": 128,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 12,
    "timestep_guidance_channels": 256,
    "axes_dims_rope": (4, 4, 4, 4),
    "guidance_embeds": True,
}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kontext() -> tuple[Any, Any]:
    """The pipeline, and the same network in the host."""
    network = diffusers.FluxTransformer2DModel(**FLUX)
    vae = AutoencoderKL(
        block_out_channels=(4,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=16,
        norm_num_groups=1,
        scaling_factor=0.3611,
        shift_factor=0.1159,
    )
    parts = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    pipe = diffusers.FluxKontextPipeline(transformer=network, vae=vae.eval(), scheduler=Probe(), **parts)
    there = tiny("FLUX.1 dev", in_channels=16, out_channels=16)
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}  # the host swaps in place
    there.model.diffusion_model.load_state_dict(comfy.model_detection.convert_diffusers_mmdit(weights))
    return pipe, there.patcher


def qwen() -> tuple[Any, Any]:
    network = diffusers.QwenImageTransformer2DModel(**QWEN)
    vae = AutoencoderKLQwenImage(
        base_dim=2, z_dim=16, dim_mult=[1] * 4, num_res_blocks=1, temperal_downsample=[False] * 3
    )
    parts = dict.fromkeys(("text_encoder", "tokenizer", "processor"))
    pipe = diffusers.QwenImageEditPipeline(transformer=network, vae=vae.eval(), scheduler=Probe(), **parts)
    there = tiny("Qwen-Image", in_channels=64, out_channels=16)
    there.model.diffusion_model.load_state_dict(network.state_dict())
    return pipe, there.patcher


def flux2() -> tuple[Any, Any]:
    """The host has the names of the original, which diffusers' own converter reads."""
    network = diffusers.Flux2Transformer2DModel(**FLUX2_NETWORK)
    vae = AutoencoderKLFlux2(
        block_out_channels=(4,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=32,
        norm_num_groups=1,
    )
    pipe = diffusers.Flux2Pipeline(
        transformer=network, vae=vae.eval(), scheduler=Probe(), text_encoder=None, tokenizer=None
    )
    there = tiny("FLUX.2", in_channels=128, out_channels=128)
    weights = {name: tensor.clone() for name, tensor in there.model.diffusion_model.state_dict().items()}
    network.load_state_dict(convert_flux2_transformer_checkpoint_to_diffusers(weights))
    return pipe, there.patcher


class Vae:
    """The pipeline's autoencoder as the host has it: latents in its own scale."""

    device = CPU

    def __init__(self, inside: Interior, base: Any, frames: bool) -> None:
        self._inside, self._base, self._frames = inside, base, frames

    def encode(self, picture: Tensor) -> Tensor:
        image = picture.movedim(-1, 1) * 2 - 1
        made = self._inside._encode(image=image[:, :, None] if self._frames else image, generator=None)
        return self._base.process_latent_out(made)


class Texts:
    """The embeddings that both homes are told."""

    patcher = None

    def tokenize(self, text: str, images: object = ()) -> dict[str, str]:
        return {"words": text}

    def encode_from_tokens_scheduled(self, tokens: object) -> list[Any]:
        return [[drawn(1, TOKENS, 12, seed=1), {"pooled_output": drawn(1, 10, seed=2)}]]


HOMES: dict[str, tuple[Callable[[], tuple[Any, Any]], Any, dict[str, Any]]] = {
    "kontext": (
        kontext,
        KONTEXT,
        {"pooled_prompt_embeds": drawn(1, 10, seed=2), "guidance_scale": 3.5, **KONTEXT.fixed(SIDE, SIDE)},
    ),
    "flux2": (flux2, FLUX2, {"guidance_scale": 3.5}),
    "qwen": (qwen, QWEN_EDIT, {"prompt_embeds_mask": torch.ones(1, TOKENS, dtype=torch.long), "true_cfg_scale": 1.0}),
}


def packed(pipe: Any, x: Tensor) -> Tensor:
    """Latents of the host as the pipeline has them."""
    if isinstance(pipe, diffusers.Flux2Pipeline):
        return pipe._pack_latents(x)
    return pipe._pack_latents(x, 1, 16, SIDE // 8, SIDE // 8)


@pytest.mark.parametrize("name", HOMES)
def test_the_velocity_with_a_picture_is_the_same_in_both_homes(name: str, monkeypatch) -> None:
    """Pictures of Qwen-Image-Edit are made as large as the images instead of a megapixel: beside a larger picture the
    host gives the text other positions than diffusers does."""
    make, family, told = HOMES[name]
    monkeypatch.setattr(host_references, "_SIDE", SIDE)
    monkeypatch.setattr(pipeline_qwenimage_edit, "calculate_dimensions", lambda area, ratio: (SIDE, SIDE, None))
    torch.manual_seed(0)
    pipe, patcher = make()
    picture = torch.rand(SIDE, SIDE, 3, generator=torch.Generator().manual_seed(3)).mul(255).round() / 255
    references = References(family)
    references.take({WORDS: picture})
    told = {"prompt_embeds": drawn(1, TOKENS, 12, seed=1), PICTURE: references.of(WORDS, SIDE * SIDE), **told}
    inside = Interior(pipe, CPU)
    field = PipelineField(inside, told, Asked(named={"height": SIDE, "width": SIDE}))
    prompts = PromptSet(
        train=(WORDS,), held_out=(), negative="", clip=Texts(), contexts={WORDS: Context(reference=picture)}
    )
    vae = Vae(inside, patcher.model, frames=name == "qwen")
    with HostField(patcher, vae, prompts, width=SIDE, height=SIDE, guidance=3.5) as home, torch.no_grad():
        x, sigma = home.noise(7, 1), torch.tensor(0.6)
        here = home.run([home.encode(WORDS)], lambda velocity: velocity(x, sigma))
        plain = home.run([(Texts().encode_from_tokens_scheduled({}), None)], lambda velocity: velocity(x, sigma))
        there = field.velocity(packed(pipe, x), sigma, told)
    wanted = packed(pipe, here)
    torch.testing.assert_close(there, wanted, rtol=1e-5, atol=1e-5)
    assert (here - plain).abs().max() > 1e-3, "the picture has a say"
