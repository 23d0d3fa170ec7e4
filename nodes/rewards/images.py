"""Rewards by networks that look at the image alone: beauty, resemblance, what a classifier sees."""

from comfy_api.latest import io

from ...mixgrpo_core.rewards.classifier.reward import NSFW, ImageClassifier
from ...mixgrpo_core.rewards.clip import CLIP_SCORE_FILES
from ...mixgrpo_core.rewards.embedders.aesthetic import LAION, OPENAI_CLIP, VERSION_2_5, AestheticScore
from ...mixgrpo_core.rewards.embedders.dino import DINOV2, DinoV2
from ...mixgrpo_core.rewards.embedders.similarity import ClipImages, ImageSimilarity
from ...mixgrpo_core.rewards.networks.reference_picture import Pixels
from ..checks import require_in_range
from ..host.reward_files import OWN, file_input, file_problem, fingerprint, path_of
from ..host.reward_place import HostPlace
from ..sockets import Rewards, RewardSocket, weight_input

FOLDERS = (OWN, "clip_vision")
HEADS, BACKBONES, ENCODERS = (LAION, VERSION_2_5), (OPENAI_CLIP,), (*DINOV2, *CLIP_SCORE_FILES)
DINO, CLIP = "DINOv2", "CLIP"
PROBABILITY, PENALTY = "likes it", "penalises it"


class AestheticReward(io.ComfyNode):
    """Beauty, whatever the prompt."""

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
                file_input((OWN,), "The predictor: a file of a few MB.", HEADS, name="head", folders=False),
                file_input(FOLDERS, "The network that it stands on; files of models/clip_vision do, too.", BACKBONES),
                weight_input(),
            ],
            outputs=[RewardSocket.Output(display_name="reward", tooltip="For the trainer or Combine Rewards.")],
        )

    @classmethod
    def validate_inputs(cls, head=None, file=None) -> bool | str:
        return file_problem(head, (OWN,), HEADS, input="head") or file_problem(file, FOLDERS, BACKBONES) or True

    @classmethod
    def fingerprint_inputs(cls, head=None, file=None, **_others) -> str:
        """A changed file is read again."""
        return fingerprint(FOLDERS, head, file)

    @classmethod
    def execute(cls, head, file, weight) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"weight": weight})
        head, file = path_of(head, (OWN,), HEADS), path_of(file, FOLDERS, BACKBONES)
        reward = AestheticScore(str(head), str(file), place=HostPlace())
        reward.prepare(())
        return io.NodeOutput(Rewards(rewards={"aesthetic": reward}, weights={"aesthetic": weight}))


class SimilarityReward(io.ComfyNode):
    """Resemblance to a picture."""

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
                file_input(FOLDERS, "A dinov2 folder or file, or a CLIP; files of models/clip_vision do, too.", DINOV2),
                weight_input(),
            ],
            outputs=[RewardSocket.Output(display_name="reward", tooltip="For the trainer or Combine Rewards.")],
        )

    @classmethod
    def validate_inputs(cls, file=None) -> bool | str:
        return file_problem(file, FOLDERS, ENCODERS) or True

    @classmethod
    def fingerprint_inputs(cls, file=None, **_others) -> str:
        """A changed file is read again."""
        return fingerprint(FOLDERS, file)

    @classmethod
    def execute(cls, reference, kind, file, weight) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"kind": kind, "weight": weight})
        path = str(path_of(file, FOLDERS, ENCODERS))
        picture = Pixels(reference[0, ..., :3].clone())  # node outputs are inference tensors
        reward = ImageSimilarity(DinoV2(path) if kind == DINO else ClipImages(path), picture, place=HostPlace())
        reward.prepare(())
        return io.NodeOutput(Rewards(rewards={f"like ({kind})": reward}, weights={f"like ({kind})": weight}))


class ClassifierReward(io.ComfyNode):
    """What an image classifier sees."""

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
                file_input(
                    (OWN,),
                    "The classifier's folder, with its preprocessor_config.json.",
                    (NSFW,),
                    name="folder",
                    suffixes=(),
                ),
                io.String.Input(
                    "label", default="nsfw", tooltip="One of the classifier's labels; a wrong one lists them."
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
            outputs=[RewardSocket.Output(display_name="reward", tooltip="For the trainer or Combine Rewards.")],
        )

    @classmethod
    def validate_inputs(cls, folder=None) -> bool | str:
        return file_problem(folder, (OWN,), (NSFW,), input="folder") or True

    @classmethod
    def fingerprint_inputs(cls, folder=None, **_others) -> str:
        """A changed file is read again."""
        return fingerprint((OWN,), folder)

    @classmethod
    def execute(cls, folder, label, goal, threshold, weight) -> io.NodeOutput:
        require_in_range(cls.define_schema().inputs, {"goal": goal, "threshold": threshold, "weight": weight})
        path = str(path_of(folder, (OWN,), (NSFW,)))
        reward = ImageClassifier(path, label.strip(), threshold if goal == PENALTY else None, place=HostPlace())
        reward.prepare(())
        name = label.strip() if goal == PROBABILITY else f"no {label.strip()}"
        return io.NodeOutput(Rewards(rewards={name: reward}, weights={name: weight}))
