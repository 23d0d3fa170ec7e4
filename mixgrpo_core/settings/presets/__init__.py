"""The published algorithms as settings. Each is a small function; change it with ``dataclasses.replace``."""

from .listing import BATCH_STD, LABELS, PRESETS, Preset, published
from .sampled import (
    dance_grpo,
    flow_dppo,
    flow_grpo,
    flow_grpo_fast,
    gcpo,
    mixgrpo,
    mixgrpo_flash,
    mixgrpo_flash_star,
    mixgrpo_sd35,
    precise,
)

from .forward import awm, crd, dgpo, diffusion_nft, ram, v_grpo  # isort: skip (listed behind those of sampled steps)

__all__ = [
    "BATCH_STD",
    "LABELS",
    "PRESETS",
    "Preset",
    "awm",
    "crd",
    "dance_grpo",
    "dgpo",
    "diffusion_nft",
    "flow_dppo",
    "flow_grpo",
    "flow_grpo_fast",
    "gcpo",
    "mixgrpo",
    "mixgrpo_flash",
    "mixgrpo_flash_star",
    "mixgrpo_sd35",
    "precise",
    "published",
    "ram",
    "v_grpo",
]
