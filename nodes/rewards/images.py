"""Rewards by networks that look at the image alone: beauty, resemblance, what a classifier sees."""

from comfy_api.latest import io

from ...mixgrpo_core.rewards.classifier.reward import NSFW, ImageClassifier
from ...mixgrpo_core.rewards.clip import CLIP_SCORE_FILES
from ...mixgrpo_core.rewards.embedders.aesthetic import LAION, OPENAI_CLIP, VERSION_2_5, AestheticScore
from ...mixgrpo_core.rewards.embedders.dino import DINOV2, DinoV2
from ...mixgrpo_core.rewards.embedders.similarity import ClipImages, ImageSimilarity
from ...mixgrpo_core.rewards.networks.reference_picture import Pixels
from ..checks import require_in_range
from ..host.reward_files import OWN
from ..host.reward_place import HostPlacement
from ..sockets import reward_output, weight_input
from .network import FileChoice, NetworkRewardNode

FOLDERS = (OWN, "clip_vision")
DINO, CLIP = "DINOv2", "CLIP"
PROBABILITY, PENALTY = "likes it", "penalises it"


class AestheticReward(NetworkRewardNode):
    """Beauty, whatever the prompt."""

    FILES = (
        FileChoice(
            tooltip="The predictor: a file of a few MB.", known=(LAION, VERSION_2_5), name="head", folders=False
        ),
        FileChoice(
            tooltip="The network that the predictor needs; files of models/clip_vision work, too.",
            known=(OPENAI_CLIP,),
            kinds=FOLDERS,
        ),
    )

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_AestheticReward",
            display_name="Aesthetic Reward",
            category="MixGRPO/rewards",
            description=(
                "How beautiful people found images like this, whatever the prompt: LAION's aesthetic predictor v2 on "
                "OpenAI's CLIP L/14, or v2.5 on SigLIP. 5 is ordinary, 6 good."
            ),
            search_aliases=["mixgrpo reward", "aesthetic score", "laion aesthetic", "beauty"],
            inputs=[
                *(choice.input() for choice in cls.FILES),
                weight_input(),
            ],
            outputs=[reward_output()],
        )

    @classmethod
    def validate_inputs(cls, head=None, file=None) -> bool | str:
        return cls.file_problem(head=head, file=file) or True

    @classmethod
    def execute(cls, head, file, weight) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"weight": weight})
        predictor, network = cls.FILES
        reward = AestheticScore(predictor.path(head), network.path(file), place=HostPlacement())
        return cls.made("aesthetic", reward, weight)


class SimilarityReward(NetworkRewardNode):
    """Resemblance to a picture."""

    FILES = (
        FileChoice(
            tooltip="A dinov2 folder or file, or a CLIP; files of models/clip_vision work, too.",
            known=(*DINOV2, *CLIP_SCORE_FILES),
            first=DINOV2,
            kinds=FOLDERS,
        ),
    )

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_SimilarityReward",
            display_name="Image Similarity Reward",
            category="MixGRPO/rewards",
            description=(
                "How much an image resembles a picture of yours: DINOv2 looks at what is shown and how it is arranged, "
                "CLIP at what it is about. It rewards copies: combine it with a reward for the prompt."
            ),
            search_aliases=["mixgrpo reward", "dino", "clip-i", "style reference", "subject", "likeness"],
            inputs=[
                io.Image.Input("reference", tooltip="The picture to resemble; the first of a batch."),
                io.Combo.Input("kind", options=[DINO, CLIP], default=DINO, tooltip="What the file is."),
                cls.FILES[0].input(),
                weight_input(),
            ],
            outputs=[reward_output()],
        )

    @classmethod
    def execute(cls, reference, kind, file, weight) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"kind": kind, "weight": weight})
        path = cls.FILES[0].path(file)
        picture = Pixels(reference[0, ..., :3].clone())  # node outputs are inference tensors
        reward = ImageSimilarity(DinoV2(path) if kind == DINO else ClipImages(path), picture, place=HostPlacement())
        return cls.made(f"like ({kind})", reward, weight)


class ClassifierReward(NetworkRewardNode):
    """What an image classifier sees."""

    FILES = (
        FileChoice(
            tooltip="The classifier's folder, with its preprocessor_config.json.",
            known=(NSFW,),
            name="folder",
            suffixes=(),
        ),
    )

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_ClassifierReward",
            display_name="Image Classifier Reward",
            category="MixGRPO/rewards",
            description=(
                "What an image classifier of transformers sees: likes a label (drawn, photo, anime, ...), or penalises "
                "it (nudity, watermark, ...) above a threshold. With Reward Gate it is a gate."
            ),
            search_aliases=["mixgrpo reward", "nsfw", "watermark", "classifier", "anime", "real"],
            inputs=[
                cls.FILES[0].input(),
                io.String.Input(
                    "label", default="nsfw", tooltip="One of the classifier's labels; a wrong one is answered with all."
                ),
                io.Combo.Input(
                    "goal",
                    options=[PROBABILITY, PENALTY],
                    default=PENALTY,
                    tooltip="Reward the label's probability, or punish what is above the threshold.",
                ),
                io.Float.Input(
                    "threshold", default=0.2, min=0.0, max=0.99, step=0.01, tooltip="Below it a penalty is 0."
                ),
                weight_input(),
            ],
            outputs=[reward_output()],
        )

    @classmethod
    def validate_inputs(cls, folder=None) -> bool | str:
        return cls.file_problem(folder=folder) or True

    @classmethod
    def execute(cls, folder, label, goal, threshold, weight) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"goal": goal, "threshold": threshold, "weight": weight})
        path = cls.FILES[0].path(folder)
        reward = ImageClassifier(path, label.strip(), threshold if goal == PENALTY else None, place=HostPlacement())
        name = label.strip() if goal == PROBABILITY else f"no {label.strip()}"
        return cls.made(name, reward, weight)
