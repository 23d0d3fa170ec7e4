"""Tiny random pipelines of the families, in the very folder format of the real ones."""

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    AutoencoderKLWan,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from tiny_sd3 import LETTERS, clip_tokenizer
from tiny_sd3 import make_folder as sd3_folder
from tokenizers.processors import TemplateProcessing

from mixgrpo_core.models import load_pipeline
from mixgrpo_core.models.diffusers.model import PipelineModel

SIDE = 32  # of the images, in pixels
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{{ m['content'][0]['text'] }}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DYNAMIC = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15, "shift": 3.0}


def vae(channels: int, *, quant: bool = False, blocks: int = 1, **numbers: float) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        latent_channels=channels,
        norm_num_groups=1,
        use_quant_conv=quant,
        use_post_quant_conv=quant,
        **{"scaling_factor": 0.3611, "shift_factor": 0.1159, **numbers},
    )


def vocabulary(*more: str) -> dict[str, int]:
    return {word: number for number, word in enumerate((*more, *string.ascii_letters, *".,:;'-_<>|!?/"))}


def t5(kind: str = "T5") -> dict[str, Any]:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), *((letter, -2.0) for letter in LETTERS)]
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=30, d_model=32, d_ff=16, d_kv=8, num_heads=2, num_layers=1
    )
    encoder = getattr(transformers, f"{kind}EncoderModel")(config).eval()
    return {"encoder": encoder, "tokenizer": transformers.T5TokenizerFast(vocab=pieces, extra_ids=0)}


def qwen_tokenizer() -> transformers.Qwen2Tokenizer:
    words = vocabulary("<|endoftext|>", "<|im_start|>", "<|im_end|>", "Ġ", "Ċ")
    made = transformers.Qwen2Tokenizer(vocab=words, merges=[], model_max_length=512)
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.chat_template = CHAT
    return made


def gemma_tokenizer() -> transformers.GemmaTokenizer:
    return transformers.GemmaTokenizer(vocab=vocabulary("<pad>", "<eos>", "<bos>", "<unk>", "▁", "\n"), merges=[])


def language(kind: str, tokenizer: Any, *, width: int = 16, layers: int = 2, **more: object) -> Any:
    """A language model by the name of its class."""
    name = kind.removesuffix("ForCausalLM").removesuffix("Model")
    sizes = {
        "hidden_size": width,
        "intermediate_size": 16,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }
    config = getattr(transformers, f"{name}Config")(vocab_size=len(tokenizer), **sizes, **more)
    return getattr(transformers, kind)(config).eval()


def network(kind: str, **sizes: object) -> Any:
    return getattr(diffusers, kind)(**sizes).eval()


def long_clip(width: int) -> dict[str, Any]:
    """HiDream's: CLIP that reads more than 77 tokens."""
    sizes = {"vocab_size": 54, "hidden_size": width, "intermediate_size": 16, "projection_dim": width}
    config = transformers.CLIPTextConfig(
        **sizes,
        num_hidden_layers=2,
        num_attention_heads=2,
        hidden_act="gelu",
        bos_token_id=52,
        eos_token_id=53,
        max_position_embeddings=248,
    )
    tokenizer = clip_tokenizer()
    tokenizer.model_max_length = 248
    return {"encoder": transformers.CLIPTextModelWithProjection(config).eval(), "tokenizer": tokenizer}


def flux_parts() -> dict[str, Any]:
    second, clip = t5(), clip_tokenizer()
    sizes = {"vocab_size": 54, "hidden_size": 32, "intermediate_size": 16, "bos_token_id": 52, "eos_token_id": 53}
    config = transformers.CLIPTextConfig(**sizes, num_hidden_layers=2, num_attention_heads=2, hidden_act="gelu")
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(**DYNAMIC),
        "vae": vae(4, blocks=2),
        "text_encoder": transformers.CLIPTextModel(config).eval(),
        "tokenizer": clip,
        "text_encoder_2": second["encoder"],
        "tokenizer_2": second["tokenizer"],
        "transformer": flux_network(guidance_embeds=True),
    }


def flux_network(**changes: object) -> Any:
    return network(
        "FluxTransformer2DModel",
        **{
            "patch_size": 1,
            "in_channels": 16,
            "num_layers": 2,
            "num_single_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "pooled_projection_dim": 32,
            "axes_dims_rope": (4, 4, 8),
            **changes,
        },
    )


def schnell_parts() -> dict[str, Any]:
    shift = FlowMatchEulerDiscreteScheduler(shift=1.0)
    return {**flux_parts(), "transformer": flux_network(), "scheduler": shift}


def flux2_network(joint: int, **changes: object) -> Any:
    return network(
        "Flux2Transformer2DModel",
        patch_size=1,
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=joint,
        timestep_guidance_channels=256,
        axes_dims_rope=(4, 4, 4, 4),
        **changes,
    )


def flux2_vae() -> AutoencoderKLFlux2:
    return AutoencoderKLFlux2(
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=1,
    )


def mistral_tokenizer() -> Any:
    words = vocabulary("<unk>", "<s>", "</s>", "<pad>", "▁", "\n")
    made = transformers.LlamaTokenizer(vocab=words, merges=[], pad_token="<pad>", padding_side="left")
    made.chat_template = CHAT
    return made


def flux2_like(kind: str, tokenizer: Any, *, layers: int, guidance: bool) -> dict[str, Any]:
    """FLUX.2 with a text encoder of so many layers, of which it reads three."""
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(**DYNAMIC),
        "vae": flux2_vae(),
        "text_encoder": language(kind, tokenizer, width=8, layers=layers),
        "tokenizer": tokenizer,
        "transformer": flux2_network(24, guidance_embeds=guidance),
    }


def flux2_parts() -> dict[str, Any]:
    return flux2_like("MistralForCausalLM", mistral_tokenizer(), layers=31, guidance=True)


def klein_parts() -> dict[str, Any]:
    return flux2_like("Qwen3ForCausalLM", qwen_tokenizer(), layers=28, guidance=False)


def seeing_text(tokenizer: Any, layers: int) -> dict[str, Any]:
    """Settings of Qwen2.5-VL's language model."""
    return {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": len(tokenizer),
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
    }


def qwen_vl(layers: int = 2) -> dict[str, Any]:
    tokenizer = qwen_tokenizer()
    seen = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    config = transformers.Qwen2_5_VLConfig(text_config=seeing_text(tokenizer, layers), vision_config=seen)
    encoder = transformers.Qwen2_5_VLForConditionalGeneration(config).eval()
    return {"text_encoder": encoder, "tokenizer": tokenizer}


def qwen_parts() -> dict[str, Any]:
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
        ),
        "vae": AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[0.1] * 4,
            latents_std=[0.8] * 4,
        ),
        **qwen_vl(),
        "transformer": network(
            "QwenImageTransformer2DModel",
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=3,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
        ),
    }


def z_image_parts() -> dict[str, Any]:
    tokenizer = qwen_tokenizer()
    made = network(
        "ZImageTransformer2DModel",
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=16,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[512, 32, 32],
    )
    with torch.no_grad():  # they start as whatever the memory holds
        made.x_pad_token.fill_(1)
        made.cap_pad_token.fill_(1)
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=6.0),
        "vae": vae(16, blocks=2),
        "text_encoder": language("Qwen3Model", tokenizer),
        "tokenizer": tokenizer,
        "transformer": made,
    }


def lumina2_parts() -> dict[str, Any]:
    tokenizer = gemma_tokenizer()
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=6.0),
        "vae": vae(4, blocks=4),
        "text_encoder": language("Gemma2Model", tokenizer, width=8, sliding_window=2),
        "tokenizer": tokenizer,
        "transformer": network(
            "Lumina2Transformer2DModel",
            sample_size=8,
            patch_size=2,
            in_channels=4,
            hidden_size=16,
            num_layers=2,
            num_refiner_layers=1,
            num_attention_heads=2,
            num_kv_heads=1,
            multiple_of=16,
            axes_dim_rope=(4, 2, 2),
            axes_lens=(300, 32, 32),
            cap_feat_dim=8,
        ),
    }


def sana_parts() -> dict[str, Any]:
    tokenizer = gemma_tokenizer()
    types = ("ResBlock", "EfficientViTBlock")
    return {
        "scheduler": DPMSolverMultistepScheduler(
            use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction"
        ),
        "vae": AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=types,
            decoder_block_types=types,
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            scaling_factor=0.41407,
        ),
        "text_encoder": language("Gemma2Model", tokenizer, width=8),
        "tokenizer": tokenizer,
        "transformer": network(
            "SanaTransformer2DModel",
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=8,
            sample_size=32,
        ),
    }


def chroma_parts() -> dict[str, Any]:
    text = t5()
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(),
        "vae": vae(4, blocks=2),
        "text_encoder": text["encoder"],
        "tokenizer": text["tokenizer"],
        "transformer": network(
            "ChromaTransformer2DModel",
            patch_size=1,
            in_channels=16,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            axes_dims_rope=(4, 4, 8),
            approximator_hidden_dim=32,
            approximator_layers=1,
            approximator_num_channels=16,
        ),
    }


def hidream_parts() -> dict[str, Any]:
    text, llama = t5(), mistral_tokenizer()
    first, second = long_clip(12), long_clip(8)
    return {
        "scheduler": UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        "vae": vae(4, blocks=2),
        "text_encoder": first["encoder"],
        "tokenizer": first["tokenizer"],
        "text_encoder_2": second["encoder"],
        "tokenizer_2": second["tokenizer"],
        "text_encoder_3": text["encoder"],
        "tokenizer_3": text["tokenizer"],
        "text_encoder_4": language("LlamaForCausalLM", llama),
        "tokenizer_4": llama,
        "transformer": network(
            "HiDreamImageTransformer2DModel",
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_channels=[32, 16],
            text_emb_dim=20,
            num_routed_experts=4,
            num_activated_experts=2,
            axes_dims_rope=(4, 2, 2),
            max_resolution=(32, 32),
            llama_layers=(0, 1),
        ),
    }


def wan_parts() -> dict[str, Any]:
    text = t5("UMT5")
    return {
        "scheduler": UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        "vae": AutoencoderKLWan(
            base_dim=4,
            z_dim=16,
            dim_mult=[1, 1],
            num_res_blocks=1,
            temperal_downsample=[True],
            scale_factor_spatial=2,
            scale_factor_temporal=2,
        ),
        "text_encoder": text["encoder"],
        "tokenizer": text["tokenizer"],
        "transformer": network(
            "WanTransformer3DModel",
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=16,
            out_channels=16,
            text_dim=32,
            freq_dim=256,
            ffn_dim=32,
            num_layers=2,
            cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
            rope_max_seq_len=32,
        ),
    }


def aura_flow_parts() -> dict[str, Any]:
    text = t5("UMT5")
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=1.73),
        "vae": vae(4, blocks=2),
        "text_encoder": text["encoder"],
        "tokenizer": text["tokenizer"],
        "transformer": network(
            "AuraFlowTransformer2DModel",
            sample_size=16,
            patch_size=2,
            in_channels=4,
            num_mmdit_layers=2,
            num_single_dit_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=32,
            out_channels=4,
            pos_embed_max_size=256,
        ),
    }


def cogview4_parts() -> dict[str, Any]:
    tokenizer = mistral_tokenizer()
    tokenizer._tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(
            base_shift=0.25, max_shift=0.75, use_dynamic_shifting=True, time_shift_type="linear"
        ),
        "vae": vae(4, blocks=4),
        "text_encoder": language("GlmModel", tokenizer, pad_token_id=3),
        "tokenizer": tokenizer,
        "transformer": network(
            "CogView4Transformer2DModel",
            patch_size=2,
            in_channels=4,
            num_layers=2,
            attention_head_dim=4,
            num_attention_heads=4,
            out_channels=4,
            text_embed_dim=16,
            time_embed_dim=8,
            condition_dim=4,
        ),
    }


def krea2_parts() -> dict[str, Any]:
    tokenizer = qwen_tokenizer()
    text = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": len(tokenizer),
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
    }
    seen = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    seen["deepstack_visual_indexes"] = [0]
    config = transformers.Qwen3VLConfig(text_config=text, vision_config=seen)
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, max_image_seq_len=6400),
        "vae": qwen_parts()["vae"],
        "text_encoder": transformers.Qwen3VLModel(config).eval(),
        "tokenizer": tokenizer,
        "text_encoder_select_layers": (0, 1, 2),
        "transformer": network(
            "Krea2Transformer2DModel",
            in_channels=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=32,
            timestep_embed_dim=8,
            text_hidden_dim=16,
            num_text_layers=3,
            text_num_attention_heads=2,
            text_num_key_value_heads=1,
            text_intermediate_size=16,
            num_layerwise_text_blocks=1,
            num_refiner_text_blocks=1,
            axes_dims_rope=(4, 2, 2),
            rope_theta=1000.0,
        ),
    }


PIPELINES: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "flux-dev": ("FluxPipeline", flux_parts),
    "flux-schnell": ("FluxPipeline", schnell_parts),
    "flux-kontext": ("FluxKontextPipeline", flux_parts),
    "flux2-dev": ("Flux2Pipeline", flux2_parts),
    "flux2-klein": ("Flux2KleinPipeline", klein_parts),
    "qwen-image": ("QwenImagePipeline", qwen_parts),
    "z-image": ("ZImagePipeline", z_image_parts),
    "lumina2": ("Lumina2Pipeline", lumina2_parts),
    "sana": ("SanaPipeline", sana_parts),
    "chroma": ("ChromaPipeline", chroma_parts),
    "hidream": ("HiDreamImagePipeline", hidream_parts),
    "wan": ("WanPipeline", wan_parts),
}
OTHERS: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "auraflow": ("AuraFlowPipeline", aura_flow_parts),
    "cogview4": ("CogView4Pipeline", cogview4_parts),
    "krea2": ("Krea2Pipeline", krea2_parts),
}


def make_folder(name: str, path: Path) -> Path:
    """Write a family's pipeline to ``path``."""
    return sd3_folder(path) if name == "sd3" else written(*{**PIPELINES, **OTHERS}[name], path)


def written(pipeline: str, parts: Callable[[], dict[str, Any]], path: Path) -> Path:
    """Write a pipeline of these parts to ``path``."""
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        getattr(diffusers, pipeline)(**parts()).save_pretrained(path)
    return path


def opened(folder: Path, **changes: object) -> PipelineModel:
    """A folder behind the port; nothing of it is proven."""
    common = {"rank": 2, "dtype": torch.float32, "resolution": (SIDE, SIDE), "prove": False}
    return load_pipeline(folder, **{**common, **changes})
