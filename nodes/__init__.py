"""The nodes of this pack. Only this folder knows ComfyUI."""

from comfy_api.latest import ComfyExtension, io

from .demo import DemoModel
from .host.guests import welcome_guests
from .host.reward_files import register_folder
from .live.routes import register_routes
from .loras.align import AlignOnVotes
from .loras.compare import CompareLora
from .loras.files import ConvertLora, SaveLora
from .loras.merge import MergeLoras
from .loras.teacher import LoraTeacherNode
from .rewards.changes import RewardGate, RewardTransform
from .rewards.combine import CombineRewardsNode, DemoRewardNode
from .rewards.edits import DirectionReward, PreservationReward
from .rewards.images import AestheticReward, ClassifierReward, SimilarityReward
from .rewards.judge import JudgeNode
from .rewards.pixels import PaletteRewardNode, PixelRewardNode
from .rewards.prompted import ClipReward, ImageRewardNode
from .rewards.score import ScoreImages
from .rewards.taste import TasteNode
from .rewards.text import TextReward
from .rewards.votes import HumanVoteNode
from .sampling.sampler import Sampler
from .sampling.window import WindowNode
from .sampling.window_plan import WindowPlan
from .settings.prompt_set import PromptSetNode
from .settings.shown import answer as settings_shown
from .settings.trainer_settings import TrainerSettingsNode
from .training.fit_check import FitCheck
from .training.trainer import TrainLora

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
    TasteNode,
    FitCheck,
    TrainLora,
    AlignOnVotes,
    LoraTeacherNode,
    MergeLoras,
    CompareLora,
    ConvertLora,
    SaveLora,
]


class MixGRPOExtension(ComfyExtension):
    """All nodes of the pack, in the order of a workflow."""

    async def on_load(self) -> None:
        register_folder()
        welcome_guests()
        register_routes({"/mixgrpo/settings": settings_shown})

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
