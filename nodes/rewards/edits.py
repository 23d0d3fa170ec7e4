"""Rewards for edits of a picture: what is to stay stays, and what changes changes as the words do."""

from collections.abc import Mapping
from types import MappingProxyType

from comfy_api.latest import io

from ...mixgrpo_core.rewards.clip import CLIP_SCORE_FILES
from ...mixgrpo_core.rewards.edits.direction import DirectionalCLIP
from ...mixgrpo_core.rewards.edits.preservation import PSNR, SSIM, Closeness, EditPreservation
from ...mixgrpo_core.rewards.networks.reference_picture import Pixels
from ..checks import require_in_range
from ..host.reward_files import OWN, file_input, file_problem, fingerprint, path_of
from ..host.reward_place import HostPlace
from ..sockets import Rewards, RewardSocket, weight_input

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
            outputs=[RewardSocket.Output(display_name="reward", tooltip="For the trainer or Combine Rewards.")],
        )

    @classmethod
    def execute(cls, source, measure, weight, mask=None) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"measure": measure, "weight": weight})
        allowed = None if mask is None else Pixels(mask[0, ..., None].expand(-1, -1, 3).clone())
        reward = EditPreservation(MEASURES[measure], _picture(source), allowed)
        return io.NodeOutput(Rewards(rewards={"preserved": reward}, weights={"preserved": weight}))


class DirectionReward(io.ComfyNode):
    """The picture changes as the words do."""

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
                file_input((OWN,), "A whole CLIP: laion's H/14, OpenAI's L/14, ...", CLIP_SCORE_FILES),
                weight_input(),
            ],
            outputs=[RewardSocket.Output(display_name="reward", tooltip="For the trainer or Combine Rewards.")],
        )

    @classmethod
    def validate_inputs(cls, file=None, description=None) -> bool | str:
        if description is not None and not str(description).strip():
            return "description: expected what the source shows, found nothing"
        return file_problem(file, (OWN,), CLIP_SCORE_FILES) or True

    @classmethod
    def fingerprint_inputs(cls, file=None, **_others) -> str:
        """A changed file is read again."""
        return fingerprint((OWN,), file)

    @classmethod
    def execute(cls, source, description, file, weight) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"weight": weight})
        path = str(path_of(file, (OWN,), CLIP_SCORE_FILES))
        reward = DirectionalCLIP(path, description, _picture(source), place=HostPlace())
        reward.prepare(())
        return io.NodeOutput(Rewards(rewards={"direction": reward}, weights={"direction": weight}))


def _picture(source) -> Pixels:
    return Pixels(source[0, ..., :3].clone())  # node outputs are inference tensors
