"""Rewards by networks that read the prompt: CLIP's descendants and ImageReward."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from comfy_api.latest import io

from ...mixgrpo_core.rewards.clip import CLIPScore, HPSv2, PickScore
from ...mixgrpo_core.rewards.image_reward import IMAGE_REWARD, ImageReward
from ...mixgrpo_core.rewards.siglip.scores import SigLIPScore
from ..checks import require_in_range
from ..host.reward_place import HostPlacement
from ..sockets import reward_output, weight_input
from .network import FileChoice, NetworkRewardNode

KINDS: Mapping[str, type[HPSv2] | type[PickScore] | type[CLIPScore] | type[SigLIPScore]] = MappingProxyType(
    {"HPSv2": HPSv2, "PickScore": PickScore, "CLIPScore": CLIPScore, "SigLIP": SigLIPScore}
)


class ClipReward(NetworkRewardNode):
    """A reward by a network that compares the image with the prompt."""

    FILES = (
        FileChoice(
            tooltip="The weights: a file, or a folder of the hub, in models/reward_models.",
            known=HPSv2.known,
            kinds=("reward_models", "clip_vision", "text_encoders"),
        ),
    )

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_ClipReward",
            display_name="CLIP Reward",
            category="MixGRPO/rewards",
            description=(
                "How well an image fits its prompt, and how much people like it: HPSv2 and HPSv2.1, PickScore, "
                "CLIPScore, SigLIP. Takes the files of the original authors; nothing is downloaded."
            ),
            search_aliases=["mixgrpo reward", "hpsv2", "hps v2.1", "pickscore", "clip score", "siglip", "preference"],
            inputs=[
                io.Combo.Input(
                    "kind",
                    options=list(KINDS),
                    default="HPSv2",
                    tooltip="What the file is: HPSv2 (2.0 and 2.1) and PickScore know what people prefer; CLIPScore "
                    "and SigLIP know what fits the prompt.",
                ),
                cls.FILES[0].input(),
                weight_input(),
            ],
            outputs=[reward_output()],
        )

    @classmethod
    def validate_inputs(cls, kind=None, file=None) -> bool | str:
        if kind is not None and kind not in KINDS:
            return f"kind: expected one of {', '.join(KINDS)}, found {kind!r}"
        return _choice(kind).problem(file) or True

    @classmethod
    def execute(cls, kind, file, weight) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"weight": weight})
        return cls.made(kind, KINDS[kind](_choice(kind).path(file), place=HostPlacement()), weight)


def _choice(kind: str | None) -> FileChoice:
    """The file of a kind; of one that comes by wire nothing is known."""
    return replace(ClipReward.FILES[0], known=KINDS[kind].known if kind else ())


class ImageRewardNode(NetworkRewardNode):
    """ImageReward."""

    FILES = (
        FileChoice(tooltip="ImageReward.pt, with vocab.txt in the same folder.", known=(IMAGE_REWARD,), folders=False),
    )

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_ImageReward",
            display_name="ImageReward",
            category="MixGRPO/rewards",
            description=(
                "ImageReward v1.0: how much people like an image for its prompt, 0 for an ordinary one, 2 at best. "
                "Needs ImageReward.pt and BERT's vocab.txt beside it."
            ),
            search_aliases=["mixgrpo reward", "image reward", "human preference", "blip"],
            inputs=[
                cls.FILES[0].input(),
                weight_input(),
            ],
            outputs=[reward_output()],
        )

    @classmethod
    def execute(cls, file, weight) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"weight": weight})
        return cls.made("ImageReward", ImageReward(cls.FILES[0].path(file), place=HostPlacement()), weight)
