"""Tiny random pipelines of families that few people train, or that cost much to try."""

from collections.abc import Callable
from typing import Any

import diffusers
import torch
import transformers
from diffusers import (
    AutoencoderKLHunyuanImage,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
)
from tiny_pipelines import language, network, qwen_tokenizer, qwen_vl, seeing_text, t5, vae, wan_parts
from tiny_sd3 import clip_tokenizer


def letters() -> dict[str, Any]:
    """What reads the letters that are to be written."""
    tokenizer = transformers.ByT5Tokenizer()
    config = transformers.T5Config(vocab_size=len(tokenizer), d_model=32, d_ff=16, d_kv=8, num_heads=2, num_layers=1)
    return {"text_encoder_2": transformers.T5EncoderModel(config).eval(), "tokenizer_2": tokenizer}


def ltx_parts() -> dict[str, Any]:
    text = t5()
    text["tokenizer"].model_max_length = 64
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, shift_terminal=0.1
        ),
        "vae": AutoencoderKLLTXVideo(
            latent_channels=8,
            block_out_channels=(8, 8),
            down_block_types=("LTXVideoDownBlock3D",) * 2,
            decoder_block_out_channels=(8, 8),
            layers_per_block=(1, 1, 1),
            decoder_layers_per_block=(1, 1, 1),
            spatio_temporal_scaling=(True, False),
            decoder_spatio_temporal_scaling=(True, False),
            decoder_inject_noise=(False, False, False),
            downsample_type=("conv", "conv"),
            upsample_residual=(False, False),
            upsample_factor=(1, 1),
            patch_size=2,
            patch_size_t=1,
        ),
        "text_encoder": text["encoder"],
        "tokenizer": text["tokenizer"],
        "transformer": network(
            "LTXVideoTransformer3DModel",
            in_channels=8,
            out_channels=8,
            num_attention_heads=4,
            attention_head_dim=8,
            cross_attention_dim=32,
            num_layers=2,
            caption_channels=32,
        ),
    }


def hunyuan_video_parts() -> dict[str, Any]:
    tokenizer = qwen_tokenizer()
    config = transformers.models.qwen2_5_vl.Qwen2_5_VLTextConfig(**seeing_text(tokenizer, 4))
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=5.0),
        "vae": AutoencoderKLHunyuanVideo15(
            latent_channels=4,
            block_out_channels=(8, 8, 8),
            layers_per_block=1,
            spatial_compression_ratio=4,
            temporal_compression_ratio=4,
        ),
        "text_encoder": transformers.Qwen2_5_VLTextModel(config).eval(),
        "tokenizer": tokenizer,
        **letters(),
        "guider": diffusers.ClassifierFreeGuidance(guidance_scale=3.0),
        "transformer": network(
            "HunyuanVideo15Transformer3DModel",
            in_channels=9,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=2,
            num_refiner_layers=1,
            mlp_ratio=2.0,
            text_embed_dim=16,
            text_embed_2_dim=32,
            image_embed_dim=12,
            rope_axes_dim=(2, 2, 4),
            target_size=16,
            task_type="t2v",
        ),
    }


def hunyuan_image_parts() -> dict[str, Any]:
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=4.0),
        "vae": AutoencoderKLHunyuanImage(
            in_channels=3,
            out_channels=3,
            latent_channels=4,
            block_out_channels=(32, 64, 64),
            layers_per_block=1,
            spatial_compression_ratio=4,
            sample_size=32,
            scaling_factor=0.75,
        ),
        **qwen_vl(layers=4),
        **letters(),
        "guider": None,
        "ocr_guider": None,
        "transformer": network(
            "HunyuanImageTransformer2DModel",
            in_channels=4,
            out_channels=4,
            num_attention_heads=4,
            attention_head_dim=8,
            num_layers=2,
            num_single_layers=2,
            num_refiner_layers=1,
            text_embed_dim=16,
            text_embed_2_dim=32,
            rope_axes_dim=(4, 4),
        ),
    }


def ovis_parts() -> dict[str, Any]:
    tokenizer = qwen_tokenizer()
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        "vae": vae(4, blocks=2),
        "text_encoder": language("Qwen3Model", tokenizer),
        "tokenizer": tokenizer,
        "transformer": network(
            "OvisImageTransformer2DModel",
            in_channels=16,
            out_channels=16,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(4, 4, 8),
        ),
    }


def bria_parts() -> dict[str, Any]:
    text = t5()
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256
        ),
        "vae": vae(4, blocks=2, shift_factor=0.0),
        "text_encoder": text["encoder"],
        "tokenizer": text["tokenizer"],
        "transformer": network(
            "BriaTransformer2DModel",
            in_channels=16,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=32,
            axes_dims_rope=[0, 4, 4],
        ),
    }


def kandinsky_parts() -> dict[str, Any]:
    sizes = {"vocab_size": 54, "hidden_size": 16, "intermediate_size": 16, "bos_token_id": 52, "eos_token_id": 53}
    made = network(
        "Kandinsky5Transformer3DModel",
        in_visual_dim=4,
        in_text_dim=16,
        in_text_dim2=16,
        time_dim=8,
        out_visual_dim=4,
        patch_size=(1, 2, 2),
        model_dim=16,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=2,
        axes_dims=(2, 2, 4),
    )
    with torch.no_grad():  # its gates start closed
        for weight in made.parameters():
            if not weight.any():
                weight.normal_(std=0.1)
    clip = transformers.CLIPTextConfig(**sizes, num_hidden_layers=1, num_attention_heads=2, hidden_act="gelu")
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
        "vae": vae(4, blocks=4),
        **qwen_vl(layers=4),
        "text_encoder_2": transformers.CLIPTextModel(clip).eval(),
        "tokenizer_2": clip_tokenizer(),
        "transformer": made,
    }


def wan_5b_parts() -> dict[str, Any]:
    """Wan 2.2 of 5B parameters: a time for each token."""
    return {
        **wan_parts(),
        "vae": AutoencoderKLWan(
            base_dim=4,
            z_dim=16,
            dim_mult=[1, 1],
            num_res_blocks=1,
            temperal_downsample=[True],
            scale_factor_spatial=2,
            scale_factor_temporal=2,
        ),
        "expand_timesteps": True,
    }


MORE: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "ltx": ("LTXPipeline", ltx_parts),
    "ovis": ("OvisImagePipeline", ovis_parts),
    "bria": ("BriaPipeline", bria_parts),
    "wan-5b": ("WanPipeline", wan_5b_parts),
}
COSTLY: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "hunyuan-video": ("HunyuanVideo15Pipeline", hunyuan_video_parts),
    "hunyuan-image": ("HunyuanImagePipeline", hunyuan_image_parts),
    "kandinsky5": ("Kandinsky5T2IPipeline", kandinsky_parts),  # draws one megapixel only
}
