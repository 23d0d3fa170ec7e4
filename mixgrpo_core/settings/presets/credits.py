"""Published algorithms that are a rule of credit, per image, step or place."""

from dataclasses import replace

from ...advantages import (
    BatchNormalised,
    CentredRewards,
    LargestSpread,
    MinNorm,
    NoveltyBonus,
    ParetoCredit,
    PreferenceSlots,
    PromptMask,
    Route,
    RoutedCredit,
    StructureCredit,
    SuperLinear,
    TimeCredit,
    UncertaintyCredit,
    WeightedAdvantages,
)
from ...objectives import DiffusionNFT, PositionalGRPO
from ...sampling.kernels import DanceSDE
from ...sampling.planners import FullPlanner
from ..config import TrainConfig
from ..prompt_sources import PocaCurriculum
from .forward import diffusion_nft
from .listing import ANY_TWO, published
from .sampled import dance_grpo, flow_grpo, mixgrpo

_MIXGRPO = "All else is MixGRPO's."


@published(
    "SLAS",
    likeness="after",
    source="arXiv 2605.10937: three notes that agree on the formula",
    differs=f"gamma is not public: 0.5 is ours. Several rewards are mixed before the shaping. {_MIXGRPO}",
)
def slas() -> TrainConfig:
    """SLAS: large differences of reward count for more than their share."""
    return replace(mixgrpo(), credit=(CentredRewards(), SuperLinear(gamma=0.5)))


@published(
    "GDPO",
    source="github.com/NVlabs/GDPO",
    differs=f"A method of language models. A reward that failed is masked; there it may count as 0. {_MIXGRPO}",
    rewards=ANY_TWO,
)
def gdpo() -> TrainConfig:
    """GDPO: every reward is normalised on its own, and their sum over the iteration."""
    return replace(mixgrpo(), credit=(BatchNormalised(),))


@published(
    "Geo-Align",
    likeness="after",
    source="arXiv 2605.23903: notes on the paper",
    differs=f"A method of video, whose rewards are not here; this is its divisor, with rewards mixed first. {_MIXGRPO}",
)
def geo_align() -> TrainConfig:
    """Geo-Align's normaliser: the largest standard deviation of any group of the iteration."""
    return replace(mixgrpo(), credit=(LargestSpread(),))


@published(
    "OTCA",
    likeness="after",
    source="arXiv 2604.19234: two notes on the paper",
    differs="The share of exploration and the floor of the step weights are ours. All else is DanceGRPO's.",
    rewards=ANY_TWO,
)
def otca() -> TrainConfig:
    """OTCA on FLUX.1-dev at 512 px: 20 steps, rewards mixed by min-norm, credit by what a step brought."""
    return replace(dance_grpo(), steps=20, credit=(MinNorm(), TimeCredit()))


@published(
    "OTCA, time credit",
    likeness="after",
    source="arXiv 2604.19234: two notes on the paper",
    differs="The floor of the step weights is ours. All else is DanceGRPO's.",
)
def otca_time() -> TrainConfig:
    """OTCA's time credit alone, whose published ImageReward is above that of the whole method."""
    return replace(otca(), credit=(WeightedAdvantages(), TimeCredit()))


@published(
    "POCA",
    likeness="after",
    source="arXiv 2604.24171: a detailed note on the paper",
    differs="Difficulty is a running mean over the training's own rollouts, there the pool is scored anew at each "
    "stage. Members on the fronts keep their weighted advantages. AnyText, its model, is no flow model: prompts, "
    "updates and sampling are Flow-GRPO's.",
    rewards=ANY_TWO,
)
def poca() -> TrainConfig:
    """POCA: 50 steps, 16 images of which those on the Pareto fronts teach, easy prompts before hard ones."""
    return replace(
        flow_grpo(),
        steps=50,
        images_per_prompt=16,
        credit=(WeightedAdvantages(), ParetoCredit()),
        prompt_source=PocaCurriculum(),
    )


@published(
    "ParetoSlider (advantages)",
    likeness="after",
    source="github.com/Shelley-Golan/ParetoSlider",
    differs="The model is not told the preference, so there is no slider: the LoRA learns a compromise. Images and "
    "prompts are DiffusionNFT's.",
    rewards=ANY_TWO,
)
def pareto_slider() -> TrainConfig:
    """ParetoSlider's advantages: three preferences between rewards for each prompt, over DiffusionNFT with beta 0.1."""
    return replace(diffusion_nft(), steps=25, objective=DiffusionNFT(beta=0.1), credit=(PreferenceSlots(),))


@published(
    "PEC",
    likeness="inspired by",
    source="an abstract",
    differs=f"Its estimator of perceptual entropy is not public: this is a nearest neighbour's. {_MIXGRPO}",
)
def perceptual_entropy() -> TrainConfig:
    """A bonus for images that are unlike the others of their group."""
    return replace(mixgrpo(), credit=(WeightedAdvantages(), NoveltyBonus()))


@published(
    "ViPO",
    likeness="after",
    source="arXiv 2511.18719, github.com/ziqi-nox/ViPO",
    differs="A ratio for each position, as in its code for video; that for images broadcasts one. Maps are of colour "
    'and detail; the published ones are ``StructureCredit(DinoPatches("dinov2-large"))``. The clip follows the number '
    "of channels: the published 1e-4 would stop nearly every position. It trains all weights, here a LoRA.",
)
def vipo() -> TrainConfig:
    """ViPO on FLUX.1-dev at 512 px: 8 steps of the Dance kernel, 60 % trained, credit where an image has structure."""
    return replace(
        mixgrpo(),
        steps=8,
        planner=FullPlanner(trained_share=0.6),
        kernel=DanceSDE(eta=0.3),
        objective=PositionalGRPO(),
        credit=(WeightedAdvantages(), StructureCredit()),
        learning_rate=1e-5,
    )


@published(
    "MAR-GRPO",
    likeness="inspired by",
    source="github.com/AMAP-ML/mar-grpo",
    differs="There tokens whose diffusion heads disagree are averaged over seeds; here places at which images of a "
    f"group differ have more credit. {_MIXGRPO}",
)
def mar_grpo() -> TrainConfig:
    """Credit at the 30 % of places where images of one start came out most differently."""
    return replace(mixgrpo(), objective=PositionalGRPO(), credit=(WeightedAdvantages(), UncertaintyCredit()))


@published(
    "OmniNFT (routing)",
    likeness="after",
    source="github.com/zghhui/OmniNFT",
    differs="Its regions are audio and video tokens, here a subject and its background; its loss is DiffusionNFT's, "
    "here a ratio for each position. A place without a reward gets 0. The surgery on gradients is left out. "
    f"{_MIXGRPO}",
    rewards=("subject", "background"),
    masks=True,
)
def omninft_routing() -> TrainConfig:
    """Each of two rewards teaches its own part of the picture, which the prompt's mask tells."""
    routes = (Route("subject", PromptMask()), Route("background", PromptMask(), outside=True))
    return replace(mixgrpo(), objective=PositionalGRPO(), credit=(WeightedAdvantages(), RoutedCredit(routes)))


@published(
    "Edit-GRPO",
    likeness="inspired by",
    source="an abstract",
    differs=f"Its formula is not public: this is the routing of OmniNFT with a soft mask. {_MIXGRPO}",
    rewards=("edit", "keep"),
    masks=True,
)
def edit_grpo() -> TrainConfig:
    """What an edit should do is taught inside of the prompt's mask, what it should keep outside."""
    routes = (Route("edit", PromptMask()), Route("keep", PromptMask(), outside=True))
    return replace(mixgrpo(), objective=PositionalGRPO(), credit=(WeightedAdvantages(), RoutedCredit(routes)))
