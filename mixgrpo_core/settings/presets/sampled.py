"""Published algorithms that learn from sampled steps: a window, or all of them.

What all share: a LoRA learning rate of 3e-4 (published for LoRAs by MixGRPO, Flow-GRPO and DanceGRPO; the full
fine-tuning rate is 1e-5), and a clip range that is 1e-4 at FLUX's 720 px latents and follows from the latent size
elsewhere (``default_clip``).
"""

from dataclasses import replace

from ...objectives import GCPO, GRPO, FlowDPPO, GuardGRPO
from ...sampling.kernels import DanceSDE, FlowCPS, FlowSDE, PreciseDanceSDE, PreciseSDE
from ...sampling.planners import FullPlanner, WindowPlanner
from ...sampling.solvers import DPMpp2M
from ...sampling.windows import FrozenWindow, RandomWindow, SlidingWindow
from ..config import TrainConfig
from .listing import BATCH_STD, published

MIXGRPO = "arXiv 2507.21802 and its scripts"


@published("MixGRPO", source=MIXGRPO)
def mixgrpo() -> TrainConfig:
    """MixGRPO on FLUX.1-dev: 25 steps, window of 4 that slides by 1 every 25 iterations (table 1)."""
    return TrainConfig(
        iterations=300,
        steps=25,
        images_per_prompt=12,
        prompts_per_iteration=32,
        planner=WindowPlanner(window=SlidingWindow(size=4, stride=1, hold=25)),
        kernel=FlowSDE(eta=0.7),
        updates=4,
    )


@published(
    "MixGRPO on SD3.5",
    source=MIXGRPO,
    differs="The decay of its EMA is not told: 0.99 here. The published runs make an update of 96 prompts on 24 GPUs.",
)
def mixgrpo_sd35() -> TrainConfig:
    """MixGRPO on Stable Diffusion 3.5 Medium: 10 steps, window of 4 that moves every 150 iterations, 512 px.

    Guidance 4.5 is a setting of the model, ``load_sd3(guidance=4.5)``.
    """
    return replace(
        mixgrpo(),
        iterations=600,
        steps=10,
        images_per_prompt=24,
        prompts_per_iteration=96,
        planner=WindowPlanner(window=SlidingWindow(size=4, stride=1, hold=150)),
        objective=GRPO(kl=1e-3),
        updates=1,
        ema=0.99,
    )


@published("MixGRPO-Flash", source=MIXGRPO)
def mixgrpo_flash() -> TrainConfig:
    """MixGRPO-Flash: the tail after the window by DPM-Solver++ 2M in 0.4 of its steps; the window moves every 20."""
    return replace(
        mixgrpo(),
        planner=WindowPlanner(window=SlidingWindow(size=4, stride=1, hold=20), tail_ratio=0.4),
        tail_solver=DPMpp2M(),
    )


@published("MixGRPO-Flash*", source=MIXGRPO)
def mixgrpo_flash_star() -> TrainConfig:
    """MixGRPO-Flash*: the window stays at the start and the tail keeps 0.2 of its steps."""
    return replace(mixgrpo_flash(), planner=WindowPlanner(window=FrozenWindow(size=4, start=0), tail_ratio=0.2))


@published(
    "Flow-GRPO",
    source="arXiv 2505.05470 and its code",
    differs="Its KL is in latent space (beta 0.04); here it is in velocity space, where public practice is 1e-3. It "
    "divides advantages by the standard deviation of the whole batch, here by the group's; its EMA of 0.9 moves every "
    "8 updates, here every one.",
)
def flow_grpo() -> TrainConfig:
    """Flow-GRPO on SD3.5-M: 10 steps, SDE on and training of all but the last, independent noise within a group.

    Its guidance of 4.5 is a setting of the model.
    """
    return TrainConfig(
        iterations=300,
        steps=10,
        images_per_prompt=24,
        prompts_per_iteration=48,
        shared_noise=False,
        planner=FullPlanner(),
        kernel=FlowSDE(eta=0.7),
        objective=GRPO(kl=1e-3),
        updates=2,
        ema=0.9,
    )


@published(
    "Flow-GRPO-Fast",
    source="arXiv 2505.05470, 2509.05952 and their code",
    differs="Its public clip of 1e-5 belongs to a log-prob without 1 / (2 std^2); here it is the full density's.",
)
def flow_grpo_fast() -> TrainConfig:
    """Flow-GRPO-Fast: 10 steps, a random window of 3 within the first 5, Flow-CPS with 0.8, no KL."""
    return replace(
        flow_grpo(),
        shared_noise=True,
        planner=WindowPlanner(window=RandomWindow(size=3, last=2)),
        kernel=FlowCPS(eta=0.8),
        objective=GRPO(),
    )


@published(
    "DanceGRPO",
    source="arXiv 2505.07818 and its code",
    differs="The last step is deterministic, which equals decoding its prediction of the clean image, as published.",
)
def dance_grpo() -> TrainConfig:
    """DanceGRPO on FLUX.1-dev: SDE everywhere, constant noise 0.3, a random 60 % of the steps trained (14 of 25)."""
    return replace(mixgrpo(), planner=FullPlanner(trained_share=0.6), kernel=DanceSDE(eta=0.3))


PRECISE = "arXiv 2605.23522, github.com/Tencent-Hunyuan/Precise"
_ITS_EMA = "The decay of its EMA is told nowhere in its settings: 0.9 here, as in Flow-GRPO."


@published("Precise", source=PRECISE, differs=_ITS_EMA)
def precise() -> TrainConfig:
    """Precise on FLUX.2-klein-base-4B: 20 steps of its exact SDE with noise 1.5, all but the last trained, 512 px.

    GRPO-Guard's ratio with a clip of 4e-6, which belongs to latents of 131072 elements: ``GuardGRPO()`` follows the
    size. No guidance, no KL.
    """
    return TrainConfig(
        iterations=300,
        steps=20,
        images_per_prompt=8,
        prompts_per_iteration=32,
        shared_noise=False,
        planner=FullPlanner(),
        kernel=PreciseSDE(eta=1.5),
        objective=GuardGRPO(clip=4e-6),
        updates=2,
        learning_rate=8e-5,
        ema=0.9,
    )


@published("Precise, DanceGRPO's noise", source=PRECISE, differs=_ITS_EMA)
def precise_dance() -> TrainConfig:
    """Precise with the exact solution of DanceGRPO's SDE, noise 0.3; all else as in ``precise``."""
    return replace(precise(), kernel=PreciseDanceSDE(eta=0.3))


@published(
    "Flow-DPPO",
    source="UniRL and verl-omni, two readings of its code that agree",
    differs="Its 3 steps are drawn one by one, here they are consecutive. Advantages are divided by the spread of all "
    "differences of the batch, not of all rewards.",
)
def flow_dppo() -> TrainConfig:
    """Flow-DPPO on SD3.5-M: 10 steps, a window of 3 within the noisier half, no clip but a divergence of 1e-5, 512 px.

    No guidance; advantages by the batch's spread.
    """
    return TrainConfig(
        iterations=300,
        steps=10,
        images_per_prompt=16,
        prompts_per_iteration=48,
        shared_noise=False,
        planner=WindowPlanner(window=RandomWindow(size=3, last=2)),
        kernel=FlowSDE(eta=0.7),
        objective=FlowDPPO(),
        credit=BATCH_STD,
        updates=2,
    )


@published(
    "GCPO",
    source="arXiv 2510.21583, github.com/xingzhejun/GCPO",
    differs="It draws half of the chunks for each image, here all are trained, and it trains all weights, here a LoRA. "
    "The prompts and updates of an iteration are MixGRPO's.",
)
def gcpo() -> TrainConfig:
    """GCPO on FLUX.1-dev: 17 steps, chunks of 2, 3, 4 and 7 with a ratio each, gradients cut to a norm of 0.01."""
    return replace(
        mixgrpo(),
        iterations=151,
        steps=17,
        planner=FullPlanner(),
        objective=GCPO(chunks=(2, 3, 4, 7)),
        learning_rate=1e-5,
        max_grad_norm=0.01,
    )
