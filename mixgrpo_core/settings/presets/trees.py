"""Published algorithms whose images are the leaves of a tree."""

from dataclasses import replace

from ...advantages import BackedUp, DepthCredit, WeightedAdvantages
from ...objectives import GRPO, TMPO
from ...sampling import BranchPlanner, TreePlanner, WanderingTreePlanner
from ...sampling.kernels import DanceSDE, FlowCPS
from ...sampling.windows import SlidingWindow
from ..config import TrainConfig
from .listing import published
from .sampled import mixgrpo


@published(
    "BranchGRPO",
    source="arXiv 2509.06040, github.com/Fredreic1849/BranchGRPO",
    differs="It draws the noise of a split four times as wide and scores it as if it were not; images are scored at "
    "the final state, there at the last prediction. It trains all weights, here a LoRA. Prompts and updates are "
    "MixGRPO's.",
)
def branch_grpo() -> TrainConfig:
    """BranchGRPO on FLUX.1-dev: 20 steps of the Dance kernel, splits at 0, 3, 6, 9 into 16 images, credit per step."""
    return replace(
        mixgrpo(),
        steps=20,
        images_per_prompt=16,
        planner=BranchPlanner(),
        kernel=DanceSDE(eta=0.3),
        objective=GRPO(clip=1e-3),
        credit=(WeightedAdvantages(), DepthCredit()),
        learning_rate=1e-5,
    )


@published(
    "TreeGRPO",
    likeness="after",
    source="arXiv 2512.08153: a note on the paper and one on its code, which disagree",
    differs="The settings are those of its code; the paper's note has 3 children, a depth of 3 and a window drawn "
    "anew. The update is a mean over images, there a sum over edges. Prompts and updates are MixGRPO's.",
)
def tree_grpo() -> TrainConfig:
    """TreeGRPO on SD3.5-M: 10 steps, a binary tree inside a window of 4 that moves every 50 iterations.

    Guidance 4.5 is a setting of the model. Its credit is that of plain GRPO; `BackedUp` shows how much of it is left
    at the root.
    """
    return replace(
        mixgrpo(),
        iterations=250,
        steps=10,
        images_per_prompt=16,
        planner=TreePlanner(window=SlidingWindow(size=4, stride=1, hold=50)),
        objective=GRPO(clip=1e-4),
        credit=(WeightedAdvantages(), BackedUp()),
        learning_rate=1e-5,
    )


@published(
    "Dynamic-TreeRPO",
    likeness="inspired by",
    source="arXiv 2509.23352: public reviews",
    differs="Only the noise that grows with depth is public, and its growth is ours. The clip by reward and the "
    "regression to the best path are left out. All else is TreeGRPO's.",
)
def dynamic_tree_rpo() -> TrainConfig:
    """A binary tree inside a window, whose noise grows from the root to the leaves."""
    return replace(
        tree_grpo(),
        planner=TreePlanner(window=SlidingWindow(size=4, stride=1, hold=50), growth=1.0),
    )


@published(
    "TMPO",
    likeness="after",
    source="arXiv 2605.10983, github.com/MAIR-Lab-HUST/TMPO",
    differs="The balance is centred, log-probs are full densities, a first split at step 1 is a step like others, and "
    "splits keep their number; weight and reference term are left out. Prompts are MixGRPO's; its EMA of 0.9 moves "
    "every 8 updates, here every one.",
)
def tmpo() -> TrainConfig:
    """TMPO on FLUX.1-dev: 6 steps of Flow-CPS, 3 splits into 27 images, paths as likely as their rewards say."""
    return replace(
        mixgrpo(),
        iterations=500,
        steps=6,
        images_per_prompt=27,
        planner=WanderingTreePlanner(),
        kernel=FlowCPS(eta=0.7),
        objective=TMPO(),
        learning_rate=3e-5,
        updates=1,
        ema=0.9,
    )
