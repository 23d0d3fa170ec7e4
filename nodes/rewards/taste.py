"""The node of a reward that is learnt from one person's votes."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from comfy_api.latest import io

from ...mixgrpo_core.rewards.clip import CLIP_SCORE_FILES
from ...mixgrpo_core.rewards.embedders.dino import DINOV2, DinoV2
from ...mixgrpo_core.rewards.embedders.similarity import ClipImages, ImageEncoder
from ...mixgrpo_core.rewards.people.votes import HumanVote
from ...mixgrpo_core.rewards.siglip.scores import SIGLIP_FILES
from ...mixgrpo_core.rewards.taste import ColoursAndEdges, SiglipImages, TasteReward
from ...mixgrpo_core.rewards.taste.memory import NEWEST
from ...mixgrpo_core.rewards.taste.taste import Taste
from ..checks import require_in_range
from ..host.latents import Latents
from ..host.reward_files import NOTHING, OWN, file_problem, fingerprint, found, path_of
from ..host.reward_place import HostPlacement
from ..live.canvas_run import all_runs, name_of, runs_folder
from ..live.tasting import TASTE
from ..sockets import Rewards, RewardSocket, weight_input
from .votes import SECOND_THOUGHTS, VOTE_SCHEMES

NAME = "taste"
BEGIN = "begin by asking"
_RUN = "run "
PLAIN = "colours and edges"
NO_FILE = "none"
ENCODERS: Mapping[str, type[DinoV2] | type[ClipImages] | type[SiglipImages] | type[Latents]] = MappingProxyType(
    {"DINOv2": DinoV2, "CLIP": ClipImages, "SigLIP": SiglipImages, "VAE latents": Latents}
)
FOLDERS = (OWN, "clip_vision", "vae")
FILES = (*DINOV2, *CLIP_SCORE_FILES, *SIGLIP_FILES)


class TasteNode(io.ComfyNode):
    """A reward that learns what you like, and asks you where it is not sure."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_TasteReward",
            display_name="Taste Reward",
            category="MixGRPO/rewards",
            description=(
                "Learns what you like from your votes: it asks you about the images that it is least sure of, and goes "
                "on alone as soon as it knows. Its taste can be used again by another run."
            ),
            search_aliases=[
                "mixgrpo reward",
                "preference model",
                "reward model",
                "personal",
                "rlhf",
                "active learning",
            ],
            inputs=[*_knows(), *_asks(), weight_input()],
            outputs=[RewardSocket.Output(display_name="reward", tooltip="For the trainer or Combine Rewards.")],
        )

    @classmethod
    def validate_inputs(cls, taste=None, sees=None, file=None) -> bool | str:
        try:
            _file_of(taste)
        except ValueError as error:
            return f"taste: {error}"
        if sees in ENCODERS:
            return _lacking(sees, file)
        if sees not in (None, PLAIN):  # the host leaves these two to us
            return f"sees: expected one of {', '.join(map(repr, (PLAIN, *ENCODERS)))}, found {sees!r}"
        if sees == PLAIN and file not in (None, NO_FILE, NOTHING):
            return f"file: {PLAIN} reads no file, found {file}: choose under sees what reads it, or {NO_FILE} here"
        return True

    @classmethod
    def fingerprint_inputs(cls, taste=None, file=None, **_others) -> str:
        """A changed file is read again."""
        return f"{fingerprint(FOLDERS, file)} {_state(taste)}"

    @classmethod
    def execute(
        cls, taste, sees, file, way, images_asked, confidence, groups_asked, time_limit, weight
    ) -> io.NodeOutput:
        values = {
            "sees": sees,
            "way": way,
            "images_asked": images_asked,
            "confidence": confidence,
            "groups_asked": groups_asked,
            "time_limit": time_limit,
            "weight": weight,
        }
        require_in_range(cls.define_schema().inputs, values)
        encoder: ImageEncoder = (
            ENCODERS[sees](str(path_of(file, FOLDERS, FILES))) if sees in ENCODERS else ColoursAndEdges()
        )
        known = _file_of(taste)
        if known:
            Taste.load(Path(known))  # what is none is said now, not when the training starts
        reward = TasteReward(
            file=known,
            encoder=encoder,
            ask=HumanVote(VOTE_SCHEMES[way], seconds=float(time_limit), second_thoughts=SECOND_THOUGHTS),
            asked=images_asked,
            confidence=confidence,
            most=groups_asked,
            place=HostPlacement(),
        )
        return io.NodeOutput(Rewards(rewards={NAME: reward}, weights={NAME: weight}))


def _lacking(sees: str, file: str | None) -> bool | str:
    """What is wrong with the file of an encoder; True where nothing is."""
    if file == NO_FILE:
        folder = "vae" if ENCODERS[sees] is Latents else "clip_vision"
        return f"file: {sees} needs its weights, a file or a folder of models/{OWN} or models/{folder}"
    return file_problem(file, FOLDERS, () if ENCODERS[sees] is Latents else FILES) or True


def _knows() -> list[io.Input]:
    """What it knows at the start, and what it sees."""
    return [
        io.Combo.Input(
            "taste",
            options=tastes(),
            default=BEGIN,
            tooltip="What it knows at the start: nothing, the newest taste of a run, or a file of mixgrpo "
            "taste train in models/reward_models.",
        ),
        io.Combo.Input(
            "sees",
            options=[PLAIN, *ENCODERS],
            default=PLAIN,
            tooltip="What it sees of images. Colours and edges need no file and know nothing of what is "
            "shown; VAE latents adds what a model's VAE makes of them; with a network it needs fewer votes. A taste "
            "goes with what it was learnt on.",
        ),
        io.Combo.Input(
            "file",
            options=[NO_FILE, *(name for name in found(FOLDERS) if name != NOTHING)],
            default=NO_FILE,
            tooltip="The network's weights, or the VAE; colours and edges need none.",
        ),
    ]


def _asks() -> list[io.Input]:
    """Whom it asks, about what, and how often."""
    return [
        io.Combo.Input(
            "way",
            options=list(VOTE_SCHEMES),
            default="thumbs",
            tooltip="thumbs: up or down for each image. ranking: click the images in order, the best first.",
        ),
        io.Int.Input(
            "images_asked",
            default=4,
            min=2,
            max=64,
            tooltip="How many images you are shown of a group that it is not sure of: those whose votes tell most.",
        ),
        io.Float.Input(
            "confidence",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="How much of the spread within a group its heads must agree on. Higher asks you more "
            "often; 0 asks only until it has enough votes.",
        ),
        io.Int.Input(
            "groups_asked",
            default=16,
            min=0,
            max=10_000,
            tooltip="The most groups that you are asked about in a run; then it goes on alone. 0 is no limit.",
        ),
        io.Int.Input(
            "time_limit",
            default=300,
            min=5,
            max=86_400,
            tooltip="Seconds to vote on a group. Without votes such a group teaches nothing.",
        ),
    ]


def tastes() -> list[str]:
    """What it may begin with: nothing, tastes of runs, files."""
    runs = sorted(_RUN + name_of(run) for run in all_runs() if (run / TASTE / NEWEST).is_file())
    files = [name for name in found((OWN,), suffixes=(".safetensors",), folders=False) if "/" in name or "." in name]
    return [BEGIN, *runs, *files]


def _file_of(taste: str | None) -> str:
    """The file of a choice; empty where it begins by asking, or comes by wire. Raises ``ValueError``."""
    if taste is None or taste == BEGIN:
        return ""
    if taste.startswith(_RUN):
        run = runs_folder() / taste.removeprefix(_RUN)
        if run not in all_runs() or not (run / TASTE / NEWEST).is_file():
            raise ValueError(f"{taste.removeprefix(_RUN)} is no run with a taste: press R and choose another")
        return str(run / TASTE / NEWEST)
    return str(path_of(taste, (OWN,), ()))


def _state(taste: str | None) -> str:
    try:
        file = _file_of(taste)
        return repr(Path(file).stat().st_mtime_ns) if file else ""
    except (ValueError, OSError):
        return "missing"
