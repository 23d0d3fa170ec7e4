"""The nodes of this pack. Only this folder knows ComfyUI."""

from comfy_api.latest import ComfyExtension, io

from .compare import CompareLora
from .demo import DemoModel
from .edit_rewards import DirectionReward, PreservationReward
from .fit_check import FitCheck
from .image_rewards import AestheticReward, ClassifierReward, SimilarityReward
from .judge import JudgeNode
from .live.routes import register_routes
from .lora import ConvertLora, SaveLora
from .network_rewards import ClipReward, ImageRewardNode
from .pixel_rewards import PaletteRewardNode, PixelRewardNode
from .prompts import PromptSetNode
from .reward_changes import RewardGate, RewardTransform
from .reward_files import register_folder
from .rewards import CombineRewardsNode, DemoRewardNode
from .sampler import Sampler
from .score import ScoreImages
from .settings import TrainerSettingsNode
from .text_reward import TextReward
from .trainer import TrainLora
from .votes import HumanVoteNode
from .window import WindowNode
from .window_plan import WindowPlan

NODES: list[type[io.ComfyNode]] = [
    DemoModel,
    PromptSetNode,
    Sampler,
    WindowNode,
    WindowPlan,
    TrainerSettingsNode,
    CombineRewardsNode,
    DemoRewardNode,
    PixelRewardNode,
    PaletteRewardNode,
    ClipReward,
    ImageRewardNode,
    AestheticReward,
    SimilarityReward,
    ClassifierReward,
    TextReward,
    PreservationReward,
    DirectionReward,
    JudgeNode,
    RewardTransform,
    RewardGate,
    ScoreImages,
    HumanVoteNode,
    FitCheck,
    TrainLora,
    CompareLora,
    ConvertLora,
    SaveLora,
]


class MixGRPOExtension(ComfyExtension):
    """All nodes of the pack, in the order of a workflow."""

    async def on_load(self) -> None:
        register_folder()
        register_routes()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
