"""The nodes of this pack. Only this folder knows ComfyUI."""

from comfy_api.latest import ComfyExtension, io

from .compare import CompareLora
from .demo import DemoModel
from .fit_check import FitCheck
from .host.reward_files import register_folder
from .live.routes import register_routes
from .lora import ConvertLora, SaveLora
from .prompts import PromptSetNode
from .rewards.changes import RewardGate, RewardTransform
from .rewards.combine import CombineRewardsNode, DemoRewardNode
from .rewards.edits import DirectionReward, PreservationReward
from .rewards.images import AestheticReward, ClassifierReward, SimilarityReward
from .rewards.judge import JudgeNode
from .rewards.pixels import PaletteRewardNode, PixelRewardNode
from .rewards.prompted import ClipReward, ImageRewardNode
from .rewards.score import ScoreImages
from .rewards.text import TextReward
from .rewards.votes import HumanVoteNode
from .sampler import Sampler
from .settings import TrainerSettingsNode
from .trainer import TrainLora
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
