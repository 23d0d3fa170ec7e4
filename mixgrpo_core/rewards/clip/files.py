"""Files of CLIP networks that users bring. Sizes are those of the parameters."""

from ..networks.known_files import KnownFile

HPS_FILES = (
    KnownFile(name="HPS_v2.1_compressed.pt", source="xswu/HPSv2", size=1_972_000_000, licence="Apache-2.0"),
    KnownFile(name="HPS_v2_compressed.pt", source="xswu/HPSv2", size=1_972_000_000, licence="Apache-2.0"),
)
PICKSCORE_FILES = (
    KnownFile(
        name="PickScore_v1.safetensors",
        source="yuvalkirstain/PickScore_v1",
        size=3_944_000_000,
        licence="MIT",
        original="model.safetensors",
    ),
)
CLIP_SCORE_FILES = (
    KnownFile(
        name="CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors",
        source="laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        size=3_944_000_000,
        licence="MIT",
        original="model.safetensors",
    ),
    KnownFile(
        name="clip-vit-large-patch14.safetensors",
        source="openai/clip-vit-large-patch14",
        size=1_711_000_000,
        licence="MIT",
        original="model.safetensors",
    ),
    KnownFile(
        name="DFN5B-CLIP-ViT-H-14-378.bin",
        source="apple/DFN5B-CLIP-ViT-H-14-378",
        size=3_947_000_000,
        licence="Apple's own, for research only: read its terms before other uses",
        original="open_clip_pytorch_model.bin",
    ),
)
