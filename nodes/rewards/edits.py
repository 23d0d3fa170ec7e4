"""Rewards for edits of a picture: what is to stay stays, and what changes changes as the words do."""

from collections.abc import Mapping
from types import MappingProxyType

from comfy_api.latest import io

from ...mixgrpo_core.rewards.clip import CLIP_SCORE_FILES
from ...mixgrpo_core.rewards.edits.direction import DirectionalCLIP
from ...mixgrpo_core.rewards.edits.preservation import PSNR, SSIM, Closeness, EditPreservation
from ...mixgrpo_core.rewards.networks.reference_picture import Pixels
from ..checks import require_in_range
from ..host.reward_place import HostPlacement
from ..sockets import one_reward, reward_output, weight_input
from .network import FileChoice, NetworkRewardNode

MEASURES: Mapping[str, Closeness] = MappingProxyType({"SSIM": SSIM(), "PSNR": PSNR()})


class PreservationReward(io.ComfyNode):
    """What lies outside of a mask stays as it is."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_PreservationReward",
            display_name="Edit Preservation Reward",
            category="MixGRPO/rewards",
            description=(
                "How well an image keeps a source picture outside of a mask. A copy is perfect: combine it with a "
                "reward for the edit."
            ),
            search_aliases=["mixgrpo reward", "edit", "inpaint", "psnr", "ssim", "preserve background"],
            inputs=[
                io.Image.Input("source", tooltip="The picture that is edited; the first of a batch."),
                io.Combo.Input(
                    "measure",
                    options=list(MEASURES),
                    default="SSIM",
                    tooltip="SSIM: structure, 1 for a copy. PSNR: pixels, in decibels.",
                ),
                weight_input(),
                io.Mask.Input("mask", optional=True, tooltip="White where the edit may change it; none: nowhere."),
            ],
            outputs=[reward_output()],
        )

    @classmethod
    def execute(cls, source, measure, weight, mask=None) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"measure": measure, "weight": weight})
        allowed = None if mask is None else Pixels(mask[0, ..., None].expand(-1, -1, 3).clone())
        reward = EditPreservation(MEASURES[measure], _picture(source), allowed)
        return one_reward("preserved", reward, weight)


class DirectionReward(NetworkRewardNode):
    """The picture changes as the words do."""

    FILES = (FileChoice(tooltip="A whole CLIP: laion's H/14, OpenAI's L/14, ...", known=CLIP_SCORE_FILES),)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_DirectionReward",
            display_name="Edit Direction Reward",
            category="MixGRPO/rewards",
            description=(
                "Whether an image differs from a source picture as the prompt differs from the source's description "
                "(directional CLIP). It does not mind what else changes: combine it with Edit Preservation."
            ),
            search_aliases=["mixgrpo reward", "directional clip", "edit", "clip direction"],
            inputs=[
                io.Image.Input("source", tooltip="The picture that is edited; the first of a batch."),
                io.String.Input("description", multiline=True, default="", tooltip="What the source shows, in words."),
                cls.FILES[0].input(),
                weight_input(),
            ],
            outputs=[reward_output()],
        )

    @classmethod
    def validate_inputs(cls, file=None, description=None) -> bool | str:
        if description is not None and not str(description).strip():
            return "description: expected what the source shows, found nothing"
        return cls.file_problem(file=file) or True

    @classmethod
    def execute(cls, source, description, file, weight) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"weight": weight})
        reward = DirectionalCLIP(cls.FILES[0].path(file), description, _picture(source), place=HostPlacement())
        return cls.made("direction", reward, weight)


def _picture(source) -> Pixels:
    return Pixels(source[0, ..., :3].clone())  # node outputs are inference tensors
