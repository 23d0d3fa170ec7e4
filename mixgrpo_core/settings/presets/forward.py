"""Published algorithms that learn from final images, noised anew. They sample by the ODE, without guidance.

Published for LoRAs of rank 32 and alpha 64 on SD3.5-M at 512 px, with a learning rate of 3e-4.
"""

from dataclasses import replace

from ...objectives import AWM, CRD, DGPO, FPO, RAM, VGRPO, DiffusionNFT
from ...sampling.planners import OdePlanner
from ...sampling.solvers import DPMpp2M
from ..config import TrainConfig
from .listing import BATCH_STD, published


@published(
    "DiffusionNFT",
    source="arXiv 2509.16117, github.com/NVlabs/DiffusionNFT",
    differs="The decay of its EMA for evaluation is ours, 0.9, and so is one update an iteration.",
)
def diffusion_nft() -> TrainConfig:
    """DiffusionNFT on SD3.5-M: 10 steps of second order, every level but the last 1 % noised anew, 512 px.

    For several rewards it takes 25 steps and ``DiffusionNFT(beta=0.1)``.
    """
    return TrainConfig(
        iterations=300,
        steps=10,
        images_per_prompt=24,
        prompts_per_iteration=48,
        shared_noise=False,
        planner=OdePlanner(),
        solver=DPMpp2M(),
        tail_solver=DPMpp2M(),
        objective=DiffusionNFT(),
        credit=BATCH_STD,
        updates=1,
        ema=0.9,
    )


@published(
    "AWM",
    source="arXiv 2509.25050, github.com/scxue/advantage_weighted_matching",
    differs="It samples by SA-Solver, here by DPM-Solver++ 2M. Levels are shared by a group, there by a batch.",
)
def awm() -> TrainConfig:
    """AWM on SD3.5-M: 14 steps, 6 levels noised anew, a pull to its own average, 512 px."""
    return replace(diffusion_nft(), steps=14, images_per_prompt=24, prompts_per_iteration=72, objective=AWM(), ema=None)


@published("DGPO", source="arXiv 2510.08425, github.com/Luo-Yihong/DGPO")
def dgpo() -> TrainConfig:
    """DGPO on SD3.5-M: 10 steps, whole groups under one noise, an update an iteration, 512 px."""
    return replace(diffusion_nft(), prompts_per_iteration=24, objective=DGPO(), ema=None)


@published(
    "V-GRPO",
    likeness="after",
    source="a third party's port with the paper's equation numbers",
    differs="Its own code is not to be had. Its KL, off in this stage, is in units of the image, t^2 times ours.",
)
def v_grpo() -> TrainConfig:
    """V-GRPO, first stage, on SD3.5-M: 40 steps, on policy, 4 levels under one noise for a group, 512 px."""
    return replace(diffusion_nft(), iterations=150, steps=40, objective=VGRPO(), ema=None)


@published(
    "RAM",
    likeness="after",
    source="two third-party ports of its trainer",
    differs="It samples with guidance 2, here without, as no plain field is at hand beside a guided one. Its gradients "
    "are not cut, which AdamW hardly sees.",
)
def ram() -> TrainConfig:
    """RAM on SD3.5-M for GenEval and OCR: 20 Euler steps, a regression to a shifted base model, one update, 512 px."""
    euler = TrainConfig()
    return replace(
        diffusion_nft(),
        steps=20,
        solver=euler.solver,
        tail_solver=euler.tail_solver,
        objective=RAM(),
        beta2=0.99,
        eval_steps=40,
    )


@published(
    "CRD",
    likeness="after",
    source="arXiv 2603.14128, as read in Flow-Factory",
    differs="Gains are centred within each group and level, there over a batch of several prompts. Its base model is "
    "guided with 4.5 where it pulls, here it is plain. Images and prompts are DiffusionNFT's.",
)
def crd() -> TrainConfig:
    """CRD on SD3.5-M: 20 levels, gains on a snapshot matched to rewards, a sampler that lags behind, 512 px."""
    return replace(diffusion_nft(), steps=20, objective=CRD(), ema=None)


@published(
    "FPO",
    likeness="after",
    source="github.com/akanazawa/fpo",
    differs="A method of robotics: it keeps the draws with the samples, here they are fresh in every update, and "
    "advantages are a group's. Images, prompts and sampling are DiffusionNFT's; the 2 updates are ours, as a ratio is "
    "1 at the first.",
)
def fpo() -> TrainConfig:
    """FPO: 8 levels noised anew, a clipped ratio of their mean error, the clip 0.05."""
    return replace(diffusion_nft(), objective=FPO(), updates=2, ema=None)
