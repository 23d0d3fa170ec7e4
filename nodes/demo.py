"""The shipped demo model on the canvas, through ComfyUI's own loaders: MODEL, CLIP and VAE of 7 MB, for a CPU."""

from functools import lru_cache
from pathlib import Path

import comfy.model_management
import comfy.sd
import comfy.utils
import torch
from comfy_api.latest import io

from ..mixgrpo_core.models.families.caption_encoder import CaptionEncoder

ASSETS = Path(__file__).resolve().parent.parent / "mixgrpo_core" / "assets" / "demo"


class DemoModel(io.ComfyNode):
    """Loads the demo model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_DemoModel",
            display_name="Demo Model",
            category="MixGRPO",
            description=(
                "A tiny model that draws shapes on 64 x 64 pixels, shipped with this pack: nothing to download, and a "
                "CPU is enough. Its captions name a size, a colour, a shape and a place: 'a small red circle on the "
                "left'. It follows them only about half the time; a LoRA teaches it to."
            ),
            search_aliases=["mixgrpo demo", "tiny model", "shapes"],
            inputs=[],
            outputs=[
                io.Model.Output(display_name="model"),
                io.Clip.Output(display_name="clip"),
                io.Vae.Output(display_name="vae"),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(load_model(), load_clip(), load_vae())


def load_model():
    """The transformer as a MODEL of ComfyUI; the file is the one that diffusers reads."""
    return comfy.sd.load_diffusion_model(str(ASSETS / "transformer" / "diffusion_pytorch_model.safetensors"))


def load_vae() -> comfy.sd.VAE:
    """The autoencoder (diffusers' ``AutoencoderTiny``) under the names by which ComfyUI knows the same network."""
    state = comfy.utils.load_torch_file(str(ASSETS / "vae" / "diffusion_pytorch_model.safetensors"))
    renamed = {}
    for name, tensor in state.items():
        part, _, place, rest = name.split(".", 3)
        shifted = int(place) + (part == "decoder")  # ComfyUI's decoder starts with a layer of its own (a clamp)
        renamed[f"taesd_{part}.{shifted}.{rest}"] = tensor
    # What lies between the network's latents and those of Stable Diffusion 3, which the demo model makes.
    renamed["vae_scale"], renamed["vae_shift"] = torch.tensor(1.5305), torch.tensor(0.0609)
    return comfy.sd.VAE(sd=renamed)


def load_clip() -> comfy.sd.CLIP:
    """The caption encoder as a CLIP of ComfyUI, so that CLIPTextEncode and every LoRA loader take it."""

    class Target:
        params: dict = {}  # noqa: RUF012 (ComfyUI copies it)
        clip = CaptionModel
        tokenizer = CaptionTokenizer

    return comfy.sd.CLIP(Target)


@lru_cache(maxsize=1)
def _encoder() -> CaptionEncoder:
    return CaptionEncoder.load(ASSETS / "caption_encoder.safetensors")


class CaptionTokenizer:
    """Captions pass as text: the encoder knows its words, and says so where it meets another."""

    def __init__(self, embedding_directory=None, tokenizer_data=None) -> None:
        del embedding_directory, tokenizer_data

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_options) -> dict[str, list[str]]:
        return {"caption": [" ".join(text.split())]}

    def state_dict(self) -> dict:
        return {}


class CaptionModel(torch.nn.Module):
    """The caption encoder with the members that ComfyUI's CLIP asks of a text model."""

    def __init__(self, device=None, dtype=None, model_options=None) -> None:
        super().__init__()
        self.encoder = _encoder()
        self.dtypes = {torch.float32}

    def reset_clip_options(self) -> None:
        """There are none."""

    def set_clip_options(self, options: dict) -> None:
        """There are none: the encoder has one layer and no projection."""

    def encode_token_weights(self, tokens: dict[str, list[str]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens ``[n, 8, width]`` and pooled ``[n, width]`` on the device where ComfyUI keeps conditionings."""
        found = self.encoder(tokens["caption"])
        device = comfy.model_management.intermediate_device()
        return found[0].to(device), found[1].to(device)
