"""Tiny random models of the host's flow families, made of the host's own classes: one block of each kind or two.

A model is made as the host makes it (a config of ``supported_models`` gives the ``BaseModel``), then its weights are
drawn: the host leaves them unset.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import comfy.model_patcher
import comfy.ops
import comfy.supported_models as host
import tiny_unets
import torch
from tiny_unets import SD1, SDXL
from torch import Tensor

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class HostFamily:
    """A tiny model of one family.

    Attributes:
        config: the host's class for its settings.
        unet: the settings.
        latent: shape of one latent.
        inputs: what is passed besides latents and time: shapes of random tensors, or other values.
        unused: layers without an influence on the velocity, by name: what the last block does with its text.
    """

    config: type
    unet: Mapping[str, object]
    latent: tuple[int, ...]
    inputs: Mapping[str, object]
    unused: tuple[str, ...] = ()


SD3 = {
    "in_channels": 16,
    "patch_size": 2,
    "out_channels": 16,
    "depth": 2,
    "input_size": None,
    "adm_in_channels": 20,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 24, "out_features": 128}},
    "num_patches": 64,
    "pos_embed_max_size": 8,
    "pos_embed_scaling_factor": None,
}
SD3_INPUTS = {"c_crossattn": (7, 24), "y": (20,)}
SD3_UNUSED = ("transformer_blocks.1.attn.add_q_proj",)

FLUX = {
    "image_model": "flux",
    "axes_dim": [4, 6, 6],
    "num_heads": 2,
    "mlp_ratio": 4.0,
    "theta": 10000,
    "out_channels": 4,
    "qkv_bias": True,
    "txt_ids_dims": [],
    "in_channels": 4,
    "hidden_size": 32,
    "context_in_dim": 12,
    "patch_size": 2,
    "vec_in_dim": 10,
    "depth": 2,
    "depth_single_blocks": 2,
    "guidance_embed": True,
    "yak_mlp": False,
    "txt_norm": False,
}
FLUX_INPUTS = {"c_crossattn": (5, 12), "y": (10,), "guidance": torch.tensor([3.5])}

FLUX2 = FLUX | {
    "image_model": "flux2",
    "axes_dim": [4, 4, 4, 4],
    "mlp_ratio": 3.0,
    "theta": 2000,
    "out_channels": 8,
    "in_channels": 8,
    "patch_size": 1,
    "global_modulation": True,
    "mlp_silu_act": True,
    "qkv_bias": False,
    "ops_bias": False,
    "default_ref_method": "index",
    "ref_index_scale": 10.0,
    "txt_ids_dims": [3],
    "vec_in_dim": None,
}

CHROMA = {name: FLUX[name] for name in FLUX if name not in ("guidance_embed", "yak_mlp", "txt_norm")} | {
    "image_model": "chroma",
    "in_channels": 16,
    "out_channels": 16,
    "in_dim": 64,
    "out_dim": 32,
    "hidden_dim": 16,
    "n_layers": 1,
    "vec_in_dim": None,
}

ZIMAGE = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 4,
    "dim": 256,  # the width of its modulation
    "cap_feat_dim": 12,
    "n_layers": 1,
    "n_refiner_layers": 1,
    "qk_norm": True,
    "n_heads": 2,
    "n_kv_heads": 2,
    "axes_dims": [32, 48, 48],
    "axes_lens": [64, 64, 64],
    "multiple_of": 2,
    "rope_theta": 256.0,
    "ffn_dim_multiplier": 8 / 3,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 4,
}
LUMINA = ZIMAGE | {
    "dim": 32,
    "n_layers": 2,
    "axes_dims": [4, 6, 6],
    "n_kv_heads": 1,
    "rope_theta": 10000.0,
    "z_image_modulation": False,
    "time_scale": 1.0,
    "pad_tokens_multiple": None,
}
LUMINA_INPUTS = {"c_crossattn": (5, 12), "num_tokens": 5}

QWEN = {
    "image_model": "qwen_image",
    "in_channels": 16,
    "out_channels": 4,
    "num_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 12,
    "axes_dims_rope": (4, 6, 6),
}
HIDREAM = {
    "image_model": "hidream",
    "attention_head_dim": 16,
    "axes_dims_rope": [8, 4, 4],
    "caption_channels": [12, 12],
    "max_resolution": [16, 16],
    "in_channels": 4,
    "llama_layers": [0, 1],
    "num_attention_heads": 2,
    "num_routed_experts": 2,
    "num_activated_experts": 2,
    "num_layers": 1,
    "num_single_layers": 1,
    "out_channels": 4,
    "patch_size": 2,
    "text_emb_dim": 10,
}
AURAFLOW = {
    "in_channels": 4,
    "dim": 32,
    "n_layers": 3,
    "n_double_layers": 2,
    "n_heads": 2,
    "global_conddim": 32,
    "cond_seq_dim": 12,
    "max_seq": 16,
}
KREA2 = {
    "image_model": "krea2",
    "features": 32,
    "channels": 4,
    "patch": 2,
    "layers": 2,
    "heads": 2,
    "kvheads": 1,
    "txtlayers": 3,
    "txtdim": 16,
    "txtheads": 2,
    "txtkvheads": 2,
    "tdim": 16,
}
ERNIE = {
    "image_model": "ernie",
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_layers": 2,
    "ffn_hidden_size": 24,
    "in_channels": 8,
    "out_channels": 8,
    "text_in_dim": 12,
    "rope_axes_dim": (4, 6, 6),
}

FAMILIES: Mapping[str, HostFamily] = {
    "SD3": HostFamily(config=host.SD3, unet=SD3, latent=(16, 8, 8), inputs=SD3_INPUTS, unused=SD3_UNUSED),
    "SD3.5 medium": HostFamily(
        config=host.SD3,
        unet=SD3 | {"qk_norm": "rms", "x_block_self_attn_layers": [0]},
        latent=(16, 8, 8),
        inputs=SD3_INPUTS,
        unused=SD3_UNUSED,
    ),
    "FLUX.1 dev": HostFamily(config=host.Flux, unet=FLUX, latent=(4, 8, 8), inputs=FLUX_INPUTS),
    "FLUX.1 schnell": HostFamily(
        config=host.FluxSchnell, unet=FLUX | {"guidance_embed": False}, latent=(4, 8, 8), inputs=FLUX_INPUTS
    ),
    "FLUX.2": HostFamily(config=host.Flux2, unet=FLUX2, latent=(8, 4, 4), inputs={"c_crossattn": (5, 12)}),
    "Chroma": HostFamily(config=host.Chroma, unet=CHROMA, latent=(4, 8, 8), inputs=FLUX_INPUTS),
    "Z-Image": HostFamily(config=host.ZImage, unet=ZIMAGE, latent=(4, 8, 8), inputs=LUMINA_INPUTS),
    "Lumina 2": HostFamily(config=host.Lumina2, unet=LUMINA, latent=(4, 8, 8), inputs=LUMINA_INPUTS),
    "Qwen-Image": HostFamily(
        config=host.QwenImage,
        unet=QWEN,
        latent=(4, 1, 8, 8),
        inputs={"c_crossattn": (5, 12)},
        unused=tuple(
            f"transformer_blocks.1.{layer}"
            for layer in ("attn.add_q_proj", "attn.to_add_out", "txt_mlp.net.0.proj", "txt_mlp.net.2")
        ),
    ),
    "HiDream": HostFamily(
        config=host.HiDream,
        unet=HIDREAM,
        latent=(4, 8, 8),
        inputs={"c_crossattn": (5, 12), "y": (10,), "encoder_hidden_states_llama3": (2, 5, 12)},
    ),
    "AuraFlow": HostFamily(config=host.AuraFlow, unet=AURAFLOW, latent=(4, 8, 8), inputs={"c_crossattn": (5, 12)}),
    "Krea 2": HostFamily(config=host.Krea2, unet=KREA2, latent=(4, 1, 8, 8), inputs={"c_crossattn": (5, 48)}),
    "SDXL": HostFamily(
        config=host.SDXL, unet=tiny_unets.of_host(SDXL), latent=(4, 8, 8), inputs={"c_crossattn": (5, 32), "y": (1552,)}
    ),
    "SD 1.5": HostFamily(
        config=host.SD15, unet=tiny_unets.of_host(SD1), latent=(4, 8, 8), inputs={"c_crossattn": (5, 16)}
    ),
    "Ernie-Image": HostFamily(config=host.ErnieImage, unet=ERNIE, latent=(8, 4, 4), inputs={"c_crossattn": (5, 12)}),
}


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """A tiny model with one latent and one conditioning for it."""

    patcher: comfy.model_patcher.ModelPatcher
    family: HostFamily
    x: Tensor
    inputs: Mapping[str, object]
    seen: list[Tensor] = field(default_factory=list)

    @property
    def model(self):
        return self.patcher.model

    def velocity(self, sigma: float = 0.7) -> Tensor:
        """What the network itself gives, in its own dtype: the host rounds to float32 afterwards."""
        hook = self.model.diffusion_model.register_forward_hook(lambda _, __, output: self.seen.append(output))
        try:
            options = self.patcher.model_options["transformer_options"]
            time = torch.full((len(self.x),), sigma, device=self.x.device)
            self.model.apply_model(self.x, time, transformer_options=options, **self.inputs)
        finally:
            hook.remove()
        return self.seen.pop()


def tiny(
    name: str,
    dtype: torch.dtype = torch.float32,
    change: Callable[[object], None] = lambda config: None,
    **unet: object,
) -> Tiny:
    """A tiny model of a family; ``change`` sets up the host's config before the model is made."""
    family = FAMILIES[name]
    config = family.config({**family.unet, **unet})
    config.set_inference_dtype(dtype, None)
    change(config)
    draw = torch.Generator().manual_seed(1)
    model = config.get_model({}, "", device=CPU)
    model.eval()
    draw_weights(model.diffusion_model, draw)
    inputs = {key: _input(value, draw, dtype) for key, value in family.inputs.items()}
    x = torch.randn((2, *family.latent), generator=draw).to(dtype)
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU)
    return Tiny(patcher=patcher, family=family, x=x, inputs=inputs)


def _input(value: object, draw: torch.Generator, dtype: torch.dtype) -> object:
    if isinstance(value, tuple):
        return torch.randn((2, *value), generator=draw).to(dtype)
    return value.expand(2).to(dtype) if isinstance(value, Tensor) else value


def draw_weights(network: torch.nn.Module, draw: torch.Generator) -> None:
    """Random weights with which every layer has a say: matrices keep the size of what they are given, scales near 1."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if not tensor.is_floating_point():
                continue
            drawn = torch.randn(tensor.shape, generator=draw)
            if tensor.ndim > 1:
                drawn = drawn / math.sqrt(math.prod(tensor.shape[1:]))
            elif "norm" in name or "ln_" in name or name.endswith(("scale", ".weight")):
                drawn = 1 + 0.1 * drawn
            else:
                drawn = 0.2 * drawn
            tensor.copy_(drawn.to(tensor.dtype))
