"""Vision-language models as judges of images, on the canvas.

A workflow names a judge: an endpoint of the file on this machine, or a folder of models/reward_models. Where an
endpoint is, is written in that file only, so a workflow from elsewhere cannot send pictures anywhere.
"""

from collections.abc import Mapping
from types import MappingProxyType

import comfy.model_management
from comfy_api.latest import io

from ...mixgrpo_core.rewards.judges import (
    Adjectives,
    Chat,
    Endpoint,
    JudgeReward,
    Levels,
    LocalChat,
    PairScores,
    PairwiseReward,
    Rating,
    UnifiedReward2,
    UnifiedRewardScore,
    UnifiedRewardSemantic,
    Verdict,
    YesNo,
)
from ...mixgrpo_core.rewards.judges.endpoint import client_package
from ...mixgrpo_core.rewards.judges.files import JUDGE_FILES
from ...mixgrpo_core.rewards.judges.pairwise import Comparison
from ...mixgrpo_core.rewards.judges.scoring import Mode
from ...mixgrpo_core.rewards.port import Reward
from ..checks import require_in_range
from ..host.reward_files import NOTHING, OWN, fingerprint, found, path_of
from ..host.reward_place import HostPlacement
from ..sockets import one_reward, reward_output, weight_input

FOLDERS = (OWN, "LLM", "VLM")
AT, HERE = "endpoint: ", "in process: "
EACH: Mapping[str, Mode] = MappingProxyType(
    {
        "does it show the prompt? (yes/no)": YesNo(),
        "how well does it show the prompt? (1 to 5)": Levels(),
        "how good is the picture? (excellent to bad)": Adjectives(),
        "a rating with reasons (1 to 10)": Rating(),
        "UnifiedReward 2.0": UnifiedReward2(),
        "UnifiedReward, final score": UnifiedRewardScore(),
        "UnifiedReward, alignment": UnifiedRewardSemantic(),
    }
)
PAIRS: Mapping[str, Comparison] = MappingProxyType(
    {"which of two is better? (win rate)": Verdict(), "UnifiedReward 2.0, pairs (win rate)": PairScores()}
)


class JudgeNode(io.ComfyNode):
    """A vision-language model as a reward."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        judges = offered()
        return io.Schema(
            node_id="MixGRPO_Judge",
            display_name="VLM Judge",
            category="MixGRPO/rewards",
            description=(
                "Asks a vision-language model about every image: one that you serve yourself (vLLM, SGLang, llama.cpp, "
                "Ollama, LM Studio), or one in this process (Qwen-VL, UnifiedReward). Yes/no and levels read the "
                "model's certainty, which gives fine scores; a win rate compares the images of a prompt in pairs."
            ),
            search_aliases=["mixgrpo reward", "unifiedreward", "vlm", "llm judge", "qwen vl", "vqascore", "ollama"],
            inputs=[
                io.Combo.Input(
                    "judge",
                    options=judges,
                    default=judges[0],
                    tooltip="An endpoint of the file of endpoints on this machine, or a folder in "
                    "models/reward_models. Press R after changing them.",
                ),
                io.Combo.Input(
                    "asks",
                    options=[*EACH, *PAIRS],
                    default=next(iter(EACH)),
                    tooltip="What it is asked, and how its answer becomes a number.",
                ),
                io.String.Input(
                    "question",
                    multiline=True,
                    default="",
                    tooltip="Your own words instead of the question's; {prompt} is where the prompt goes. The answer "
                    "has to be of the same form: yes or no, 1 to 5, ... Empty: the built-in question.",
                ),
                io.Int.Input(
                    "opponents",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="For win rates: with how many others each image is compared; 0 is all.",
                ),
                weight_input(),
            ],
            outputs=[reward_output()],
        )

    @classmethod
    def validate_inputs(cls, judge=None) -> bool | str:
        try:
            if judge is not None:
                chat_of(judge)
        except (ValueError, ImportError) as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, judge=None, **_others) -> str:
        """A changed folder is read again, and so is a changed entry of the file of endpoints."""
        kind, _, name = str(judge).partition(": ")
        return f"{_version(name)}" if f"{kind}: " == AT else fingerprint(FOLDERS, name)

    @classmethod
    def execute(cls, judge, asks, question, opponents, weight) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"asks": asks, "opponents": opponents, "weight": weight})
        chat = chat_of(judge)
        reward: Reward = (
            JudgeReward(chat, EACH[asks], question=question.strip())
            if asks in EACH
            else PairwiseReward(chat, PAIRS[asks], opponents=opponents, question=question.strip())
        )
        name = judge.partition(": ")[2]
        return one_reward(name, reward, weight)


def offered() -> list[str]:
    """The judges there are: endpoints first."""
    try:
        names = endpoint_names()
    except (ValueError, ImportError):
        names = []
    folders = [HERE + name for name in found(FOLDERS, suffixes=()) if name != NOTHING]
    return [*(AT + name for name in names), *folders] or [NOTHING]


def endpoint_names() -> list[str]:
    """Raises ValueError or ImportError: there is no client, or no file that it can read."""
    return sorted(client_package().read_endpoints())


def chat_of(judge: str) -> Chat:
    """Whom a choice of ``offered`` names.

    Raises:
        ValueError, ImportError: nobody; says what is missing.
    """
    kind, separator, name = str(judge).partition(": ")
    if kind + separator == AT:
        names = endpoint_names()
        if name not in names:
            raise ValueError(f"there is no endpoint {name!r} on this machine; known are {', '.join(names) or 'none'}")
        return Endpoint(name, cancelled=comfy.model_management.throw_exception_if_processing_interrupted)
    if kind + separator == HERE:
        return LocalChat(str(path_of(name, FOLDERS, JUDGE_FILES)), place=HostPlacement())
    raise ValueError(
        "no judge was found. Serve one and name it in the file of endpoints (pip install the judge folder of the "
        f"MixGRPO repository; its README shows the file), or put a folder of Qwen-VL or UnifiedReward into models/{OWN}"
    )


_versions: dict[str, tuple[object, int]] = {}


def _version(name: str) -> int:
    """A number that changes with an endpoint's entry in the file and tells nothing of it: it stands in the history."""
    try:
        entry = client_package().read_endpoints().get(name)
    except (ValueError, ImportError):
        entry = None
    before, number = _versions.get(name, (None, 0))
    if entry != before:
        number += 1
    _versions[name] = (entry, number)
    return number
