"""A reward for words that are drawn as the prompt quotes them."""

from comfy_api.latest import io

from ...mixgrpo_core.rewards.ocr.accuracy import TextAccuracy
from ..checks import require_in_range
from ..sockets import one_reward, reward_output, weight_input


class TextReward(io.ComfyNode):
    """The quoted words of the prompt can be read in the image."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_TextReward",
            display_name="Text Accuracy Reward",
            category="MixGRPO/rewards",
            description=(
                "Whether an image shows the words that its prompt puts in quotes, read by OCR (RapidOCR, on the CPU). "
                "Plastering an image with the words satisfies it, too: combine it with a reward for the picture."
            ),
            search_aliases=["mixgrpo reward", "ocr", "text rendering", "spelling", "typography"],
            inputs=[weight_input()],
            outputs=[reward_output()],
        )

    @classmethod
    def execute(cls, weight) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"weight": weight})
        reward = TextAccuracy()
        reward.prepare(())  # what is not installed is said now
        return one_reward("text", reward, weight)
