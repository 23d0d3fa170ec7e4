"""Published algorithms that weigh sampled steps, or choose few of them."""

from dataclasses import replace

from ...advantages import BranchAdvantages
from ...objectives import GRPO, PCPO, RSM, FlatGradient, GuardGRPO, LambdaGRPO, NoiseLevel
from ...sampling import BranchStepPlanner, IsoTemporalPlanner, MergedStepPlanner
from ...sampling.kernels import FlowSDE
from ..config import TrainConfig
from .listing import BATCH_STD, published
from .sampled import flow_grpo, mixgrpo

_RSM = "github.com/jaylee2000/rsm"
_FLOW_GRPO = "The settings are Flow-GRPO's, without its KL."


def _without_kl() -> TrainConfig:
    return replace(flow_grpo(), objective=GRPO())


@published(
    "GRPO-Guard",
    source="arXiv 2510.22319, read in flow_grpo, verl-omni and TeleBoost",
    differs=f"{_FLOW_GRPO} The step weight is 1 / kappa for any kernel, the published 1 / h for Flow-SDE.",
)
def grpo_guard() -> TrainConfig:
    """GRPO-Guard: a ratio freed of its drift, and every trained step counting alike."""
    return replace(flow_grpo(), objective=GuardGRPO())


@published(
    "Flash-GRPO",
    likeness="after",
    source="github.com/Shredded-Pork/Flash-GRPO",
    differs="Its kernel has noise proportional to sigma, here it is Flow-SDE; weights have mean 1 over the steps that "
    "may be drawn, there over what a batch holds. The decay of its EMA, images and prompts are Flow-GRPO's; its "
    "guidance of 4.5 is a setting of the model.",
)
def flash_grpo() -> TrainConfig:
    """Flash-GRPO on Wan 2.1: 20 steps, one of the noisier half by the SDE, weights that level the gradients."""
    return replace(
        flow_grpo(),
        steps=20,
        shared_noise=True,
        planner=IsoTemporalPlanner(share=0.5),
        objective=GRPO(clip=1e-3, step_weight=FlatGradient()),
        credit=BATCH_STD,
        learning_rate=1e-4,
    )


@published(
    "TempFlow-GRPO",
    likeness="after",
    source="arXiv 2508.04324: notes on the paper, weights and sampler in jaylee2000/rsm",
    differs="A prompt branches at one step an iteration, there at every step at once. Weights have mean 1 over the "
    f"steps that may be drawn. {_FLOW_GRPO}",
)
def tempflow_grpo() -> TrainConfig:
    """TempFlow-GRPO: 10 steps, 4 starts that branch into 6 at one step, which counts by its noise."""
    return replace(
        flow_grpo(),
        planner=BranchStepPlanner(children=6),
        objective=GRPO(step_weight=NoiseLevel()),
        credit=(BranchAdvantages(),),
    )


@published(
    "PCPO",
    likeness="after",
    source=f"notes on the paper, {_RSM}",
    differs=f"Its own code is not to be had; zeta is computed from the plan. {_FLOW_GRPO}",
)
def pcpo() -> TrainConfig:
    """PCPO: a hinge on the log-ratio, and steps that count by their length."""
    return replace(flow_grpo(), objective=PCPO())


@published(
    "RSM",
    source=_RSM,
    differs="Its sampler takes 6, 6, 8 and 10 images from the four noisiest steps of each start at once, and 6 at the "
    "end; here a prompt branches into 6 at one of the four an iteration. Images, prompts and updates are Flow-GRPO's. "
    "Guidance 4.5 is a setting of the model.",
)
def rsm() -> TrainConfig:
    """Reward Score Matching, order zero, on SD3.5-M: 10 steps, "fair clip 2", branches at the four noisiest steps."""
    return replace(
        flow_grpo(),
        planner=BranchStepPlanner(children=6, share=0.4),
        objective=RSM(),
        credit=(BranchAdvantages(),),
        ema=None,
    )


@published(
    "lambda-controlled GRPO",
    likeness="inspired by",
    source="two notes that tell its structure",
    differs="Its constants and its calibration by the clip range are not public: the damping is our own rule. "
    f"{_FLOW_GRPO}",
)
def lambda_grpo() -> TrainConfig:
    """GRPO whose steps are damped where too few samples of the rollout still count."""
    return replace(flow_grpo(), objective=LambdaGRPO())


@published(
    "E-GRPO",
    likeness="after",
    source="arXiv 2601.00423, github.com/shengjun-zhang/VisualGRPO",
    differs="A prompt draws one step an iteration, there one path is left at each of a list, and rewards of several "
    "tails are added. Its shipped settings merge nothing; merging 2 and the noisier half are ours. It trains all "
    "weights, here a LoRA. Prompts and updates are MixGRPO's.",
)
def e_grpo() -> TrainConfig:
    """E-GRPO on FLUX.1-dev: 16 steps, of which one SDE step spans two."""
    return replace(mixgrpo(), steps=16, planner=MergedStepPlanner(merge=2), kernel=FlowSDE(eta=0.7), learning_rate=1e-5)
