"""Rewards by networks that read the prompt: CLIP's descendants and ImageReward."""

from collections.abc import Mapping
from types import MappingProxyType

from comfy_api.latest import io

from ...mixgrpo_core.rewards.clip import CLIPScore, HPSv2, PickScore
from ...mixgrpo_core.rewards.image_reward import IMAGE_REWARD, ImageReward
from ...mixgrpo_core.rewards.siglip.scores import SigLIPScore
from ..checks import require_in_range
from ..host.reward_files import OWN, file_input, file_problem, fingerprint, path_of
from ..host.reward_place import HostPlace
from ..sockets import Rewards, RewardSocket, weight_input

FOLDERS = (OWN, "clip_vision", "text_encoders")
KINDS: Mapping[str, type[HPSv2] | type[PickScore] | type[CLIPScore] | type[SigLIPScore]] = MappingProxyType(
    {"HPSv2": HPSv2, "PickScore": PickScore, "CLIPScore": CLIPScore, "SigLIP": SigLIPScore}
)


class ClipReward(io.ComfyNode):
    """A reward by a network that compares the image with the prompt."""

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
                file_input(
                    FOLDERS, "The weights: a file, or a folder of the hub, in models/reward_models.", HPSv2.known
                ),
                weight_input(),
            ],
            outputs=[RewardSocket.Output(display_name="reward", tooltip="For the trainer or Combine Rewards.")],
        )

    @classmethod
    def validate_inputs(cls, kind=None, file=None) -> bool | str:
        if kind is not None and kind not in KINDS:
            return f"kind: expected one of {', '.join(KINDS)}, found {kind!r}"
        return file_problem(file, FOLDERS, KINDS[kind].known if kind else ()) or True

    @classmethod
    def fingerprint_inputs(cls, file=None, **_others) -> str:
        """A changed file is read again."""
        return fingerprint(FOLDERS, file)

    @classmethod
    def execute(cls, kind, file, weight) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"weight": weight})
        make = KINDS[kind]
        reward = make(str(path_of(file, FOLDERS, make.known)), place=HostPlace())
        reward.prepare(())  # the file is looked into now, not when the training starts
        return io.NodeOutput(Rewards(rewards={kind: reward}, weights={kind: weight}))


class ImageRewardNode(io.ComfyNode):
    """ImageReward."""

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
                file_input(
                    (OWN,), "ImageReward.pt, with vocab.txt in the same folder.", (IMAGE_REWARD,), folders=False
                ),
                weight_input(),
            ],
            outputs=[RewardSocket.Output(display_name="reward", tooltip="For the trainer or Combine Rewards.")],
        )

    @classmethod
    def validate_inputs(cls, file=None) -> bool | str:
        return file_problem(file, (OWN,), (IMAGE_REWARD,)) or True

    @classmethod
    def fingerprint_inputs(cls, file=None, **_others) -> str:
        """A changed file is read again."""
        return fingerprint((OWN,), file)

    @classmethod
    def execute(cls, file, weight) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"weight": weight})
        reward = ImageReward(str(path_of(file, (OWN,), (IMAGE_REWARD,))), place=HostPlace())
        reward.prepare(())
        return io.NodeOutput(Rewards(rewards={"ImageReward": reward}, weights={"ImageReward": weight}))
