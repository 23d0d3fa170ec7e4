"""Works around MixGRPO that are no preset here: what is no part of a GRPO trainer, and what is not built yet."""

from dataclasses import dataclass
from typing import Literal

State = Literal["built in otherwise", "not built", "does not belong"]


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """A work without a preset.

    Attributes:
        name: the publication's.
        state: why there is no preset.
        reason: what it is, or what it would need.
        instead: what a user can do here.
    """

    name: str
    state: State
    reason: str
    instead: str


def _built(name: str, reason: str, instead: str) -> Elsewhere:
    return Elsewhere(name=name, state="built in otherwise", reason=reason, instead=instead)


def _not_built(name: str, reason: str, instead: str) -> Elsewhere:
    return Elsewhere(name=name, state="not built", reason=reason, instead=instead)


def _foreign(name: str, reason: str, instead: str) -> Elsewhere:
    return Elsewhere(name=name, state="does not belong", reason=reason, instead=instead)


_GRADIENT = "a gradient of the reward through the decoder, at latents that the rollout keeps"
_SCORES = "any preset: it learns from the same reward's scores alone"
_PAIRS = "pairs of images as training data, and latents that are kept beside the votes"
_VOTES = "HumanVote while a run goes on"
_FROM_LORA = "a run that starts from one LoRA (--model.lora)"
_START = "starts other than shared or independent noise"

ELSEWHERE: tuple[Elsewhere, ...] = (
    _built("Pref-GRPO", "a reward: win rates within a group", "PairwiseReward with any preset"),
    _built(
        "Systematic post-training (2604.25427)",
        "a single step of one level for a prompt, as in Flash-GRPO",
        "flash_grpo, or its planner IsoTemporalPlanner with other settings",
    ),
    _built(
        "MixGRPO on HunyuanVideo 1.5",
        "settings for a model that is not loaded here",
        "mixgrpo with images_per_prompt=8, shift=5, kernel=FlowSDE(eta=0.5) and a SlidingWindow(size=6, hold=100)",
    ),
    _built(
        "Lens",
        "several yes/no questions for each class of prompts, and prompts by class",
        "JudgeReward with a rubric, and a prompt set of its classes",
    ),
    _built("RealBeauty", "identity, makeup and background as rewards", "ImageSimilarity and EditPreservation"),
    _not_built("Neighbor GRPO", f"{_START}, and groups trained along the ODE", "mixgrpo, whose window is noisy"),
    _not_built("RC-GRPO-Editing", f"{_START}: noise that differs inside of a mask only", "edit_grpo: credit by a mask"),
    _not_built("LC-GRPO", "a kernel of two evaluations a step, whose formula is not public", "FlowCPS and PreciseSDE"),
    _not_built("OP-GRPO", "stored trajectories that are trained again", "epochs above 1, within one iteration"),
    _not_built("Sol-RL", "two stages: many drafts, and the best and worst made anew", "mixgrpo_flash for cheap tails"),
    _not_built("E2PO", "several wordings of one prompt within a group", "the wordings as prompts of their own"),
    _not_built(
        "Flow-OPD",
        "teachers: other LoRAs that one is drawn to",
        f"{_FROM_LORA} with the other's reward",
    ),
    _not_built("RATS", "a second rollout with more steps by a teacher", "any preset with few steps"),
    _not_built("ReFL", _GRADIENT, _SCORES),
    _not_built("DRaFT-1 and DRaFT-LV", _GRADIENT, _SCORES),
    _not_built("DRTune", _GRADIENT, _SCORES),
    _not_built("LeapAlign", _GRADIENT, _SCORES),
    _not_built("FlowBP", _GRADIENT, _SCORES),
    _not_built("SRPO", f"{_GRADIENT}, for two wordings", "DirectionalCLIP: a change of the picture by two wordings"),
    _not_built("Adjoint matching", f"{_GRADIENT}, and the base model's by its input", "ram, which needs scores alone"),
    _not_built("Diffusion-DPO", _PAIRS, _VOTES),
    _not_built("PNAPO", f"{_PAIRS}, each with its start noise", _VOTES),
    _not_built("RealAlign", f"{_PAIRS}, some of them photographs", _VOTES),
    _not_built("Diffusion-APO", f"{_PAIRS}; its formula is not public", _VOTES),
    _not_built("CreFlow", "monitors of videos, and a mask for each image", "mar_grpo or vipo: credit by place"),
    _not_built("GeoFlow", "rewards of videos with a target trajectory per prompt", "geo_align: its sibling's divisor"),
    _foreign("UDM-GRPO", "tokens with logits instead of a velocity", "fpo and v_grpo: the same idea for flows"),
    _foreign("HunyuanImage 3.0", "a model of tokens", f"its order of stages: {_FROM_LORA}"),
    _foreign("GDMD", "a second network that is trained beside the first", "any preset with few steps"),
    _foreign("CellFlux and CellFluxRL", "a flow that starts from an image, not from noise", "diffusion_nft: its loss"),
    _foreign("YingMusic", "audio: rewards and decoders here are of pictures", "nothing"),
    _foreign("NVFP4 rollouts (Sol-RL)", "kernels of low precision are the host's", "quantised models of ComfyUI"),
)
"""One row for each work, apart from those of `presets.METHODS`."""
