"""The published algorithms, and a quick look of our own, as settings.

Each is a small function; change it with ``dataclasses.replace``.
"""

from .listing import ANY_TWO, BATCH_STD, METHODS, PRESETS, Likeness, Method, Preset, our_own, published

# The order is that of the lists.
# isort: off
from .sampled import (
    mixgrpo,
    mixgrpo_sd35,
    mixgrpo_flash,
    mixgrpo_flash_star,
    flow_grpo,
    flow_grpo_fast,
    dance_grpo,
    precise,
    precise_dance,
    flow_dppo,
    gcpo,
)
from .steps import e_grpo, flash_grpo, grpo_guard, lambda_grpo, pcpo, rsm, tempflow_grpo
from .trees import branch_grpo, dynamic_tree_rpo, tmpo, tree_grpo
from .forward import awm, crd, dgpo, diffusion_nft, fpo, ram, v_grpo
from .credits import (
    edit_grpo,
    gdpo,
    geo_align,
    mar_grpo,
    omninft_routing,
    otca,
    otca_time,
    pareto_slider,
    perceptual_entropy,
    poca,
    slas,
    vipo,
)
from .looks import quick_look

# isort: on

__all__ = [
    "ANY_TWO",
    "BATCH_STD",
    "METHODS",
    "PRESETS",
    "Likeness",
    "Method",
    "Preset",
    "awm",
    "branch_grpo",
    "crd",
    "dance_grpo",
    "dgpo",
    "diffusion_nft",
    "dynamic_tree_rpo",
    "e_grpo",
    "edit_grpo",
    "flash_grpo",
    "flow_dppo",
    "flow_grpo",
    "flow_grpo_fast",
    "fpo",
    "gcpo",
    "gdpo",
    "geo_align",
    "grpo_guard",
    "lambda_grpo",
    "mar_grpo",
    "mixgrpo",
    "mixgrpo_flash",
    "mixgrpo_flash_star",
    "mixgrpo_sd35",
    "omninft_routing",
    "otca",
    "otca_time",
    "our_own",
    "pareto_slider",
    "pcpo",
    "perceptual_entropy",
    "poca",
    "precise",
    "precise_dance",
    "published",
    "quick_look",
    "ram",
    "rsm",
    "slas",
    "tempflow_grpo",
    "tmpo",
    "tree_grpo",
    "v_grpo",
    "vipo",
]
