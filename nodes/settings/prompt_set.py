"""The node that reads prompts: typed or from a file, with some of them held out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from ...mixgrpo_core.settings.caption_folders import is_caption_folder
from ...mixgrpo_core.settings.pictures import require_pictures
from ...mixgrpo_core.settings.prompt_files import LONGEST_LINE, SUFFIXES, read_prompt_file
from ...mixgrpo_core.settings.prompts import Prompts, read_prompts
from ...mixgrpo_core.settings.prompts import split as split_off
from ...mixgrpo_core.support.files import BYTE_ORDER_MARK
from ...mixgrpo_core.support.sized import with_option
from ..checks import LARGEST_SEED, defaults_of, require_in_range, verdict
from ..host.texts import PromptSet, described, require_apart
from ..sockets import PromptsSocket
from .wired_pictures import WiredPictures

NO_FILE = "none"
_GATHERED = ("prompts", "file", "held_out_prompts", "held_out_share", "seed")


class PromptSetNode(io.ComfyNode):
    """Prompts for training."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MixGRPO_PromptSet",
            display_name="Prompt Set",
            category="MixGRPO",
            description=(
                "The prompts that the LoRA is trained on, and some that are kept aside: images of those are made with "
                "fixed seeds now and then, and their reward is the honest one. Each prompt is encoded once."
            ),
            search_aliases=["mixgrpo prompts", "prompt list", "training prompts", "prompt file", "held-out"],
            inputs=_inputs(),
            outputs=[
                PromptsSocket.Output(display_name="prompts", tooltip="For the trainer."),
                io.String.Output(display_name="list", tooltip="What was read, one prompt per line."),
            ],
        )

    @classmethod
    def validate_inputs(cls, prompts=None, file=NO_FILE, held_out_prompts=None, held_out_share=0.1, seed=0):
        if isinstance(file, str) and file != NO_FILE and file not in prompt_files():
            return (
                f"file: no prompt file {file!r} in ComfyUI's input folder: put a file ({', '.join(SUFFIXES)}) or a "
                "folder of captions there, press R and choose it again"
            )
        if None in (prompts, file, held_out_prompts, held_out_share, seed):
            return True  # something comes by wire: it is checked when it is there
        values = dict(zip(_GATHERED, (prompts, file, held_out_prompts, held_out_share, seed), strict=True))
        inputs = _inputs()

        def check(these: Mapping[str, Any]) -> None:
            require_in_range(inputs, {"held_out_share": these["held_out_share"], "seed": these["seed"]})
            gather(*(these[name] for name in _GATHERED))

        return verdict(check, values, defaults_of(inputs))

    @classmethod
    def fingerprint_inputs(cls, file=NO_FILE, **_others) -> str:
        """A changed file is read again."""
        if file not in prompt_files():
            return ""
        place = _input_folder() / file
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        return " ".join(f"{path.name} {path.stat().st_mtime_ns} {path.stat().st_size}" for path in files)

    @classmethod
    def execute(
        cls, clip, prompts, file, held_out_prompts, held_out_share, seed, negative, images=None, masks=None
    ) -> io.NodeOutput:
        if clip is None:
            raise ValueError(
                "expected a CLIP, found none: this checkpoint has no text encoder, load one with Load CLIP"
            )
        require_in_range(cls.define_schema().inputs, {"held_out_share": held_out_share, "seed": seed})
        pictures = WiredPictures.of(images, masks)
        found = gather(prompts, file, held_out_prompts, held_out_share, seed, pictures)
        require_pictures(() if pictures else (*found.train, *found.held_out))
        negative = " ".join(negative.split())
        contexts = pictures.contexts if pictures else found.contexts
        texts = PromptSet(train=found.train, held_out=found.held_out, negative=negative, clip=clip, contexts=contexts)
        return io.NodeOutput(texts, described(found, negative))


def _inputs() -> list[io.Input]:
    return [
        io.Clip.Input("clip", tooltip="The text encoder of the model that is trained."),
        io.String.Input(
            "prompts",
            multiline=True,
            default="",
            placeholder="one prompt per line",
            tooltip="Prompts to train on, one per line. Empty lines and lines that start with # are skipped. A line "
            "may end in a size of its own, width x height: a lighthouse at dusk --size 832x1216. Others have the size "
            "of the settings.",
        ),
        io.Combo.Input(
            "file",
            options=[NO_FILE, *prompt_files()],
            default=NO_FILE,
            tooltip="More prompts from ComfyUI's input folder: a .txt file with one prompt per line, a .json, .jsonl, "
            ".csv or .tsv file with a prompt, caption or text per entry (and perhaps image, mask, width, height), or a "
            "folder of pictures with caption files. "
            "Press R after adding one.",
        ),
        io.String.Input(
            "held_out_prompts",
            multiline=True,
            default="",
            placeholder="held-out prompts, one per line (optional)",
            tooltip="Prompts that are never trained on, one per line. They show whether the LoRA learned your taste "
            "or only these prompts. When empty, a share of the prompts above is held out.",
        ),
        io.Float.Input(
            "held_out_share",
            default=0.1,
            min=0.0,
            max=0.5,
            step=0.05,
            tooltip="Share of the prompts that is held out when none are given above; at least one, unless this is "
            "0. 0 trains on all and shows no held-out reward.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=LARGEST_SEED,
            control_after_generate=False,  # the frontend would give a "seed" a new value after every run
            advanced=True,
            tooltip="Which prompts the share picks: another number picks others.",
        ),
        io.String.Input(
            "negative",
            multiline=True,
            default="",
            advanced=True,
            placeholder="negative prompt",
            tooltip="What the images should not show; used only where CFG is above 1.",
        ),
        io.Image.Input(
            "images",
            optional=True,
            tooltip="For models that edit (FLUX.1 Kontext, FLUX.2, Qwen-Image-Edit), and for rewards that compare with "
            "a picture: one per typed prompt, in the order of training and held-out prompts, or one for all. With one "
            "prompt, it is about each of the pictures.",
        ),
        io.Mask.Input(
            "masks",
            optional=True,
            tooltip="Where an edit may change the pictures: one per picture, or one for all. Rewards of what was kept "
            "look outside of it.",
        ),
    ]


def prompt_files() -> list[str]:
    """Names of the prompt files in the host's input folder, and of the folders in it that hold captions."""
    folder = _input_folder()
    if not folder.is_dir():
        return []
    seen = [path for path in folder.iterdir() if not path.name.startswith(".")]
    files = (path.name for path in seen if path.suffix.lower() in SUFFIXES and path.is_file())
    folders = (f"{path.name}/" for path in seen if path.is_dir() and is_caption_folder(path))
    return [*sorted(files), *sorted(folders)]


def gather(
    typed: str, file: str, held_out_typed: str, share: float, seed: int, pictures: WiredPictures | None = None
) -> Prompts:
    """Typed prompts and those of ``file``, split into trained and held-out.

    Args:
        typed, held_out_typed: a prompt per line.
        file: a name out of ``prompt_files``, or ``NO_FILE``.
        share: 0..0.5, of what is held out where ``held_out_typed`` is empty.
        pictures: of the typed prompts; a file names its own.

    Raises:
        ValueError: no prompts, a prompt in both lists, or a file that cannot be read.
    """
    if not 0 <= share <= 0.5:
        raise ValueError(f"held_out_share lies in 0..0.5, found {share}")
    train, given = lines(typed), lines(held_out_typed)
    if pictures is not None:
        if file != NO_FILE:
            raise ValueError("images are of typed prompts, and a file names its own: take the file off, or the images")
        train, given = pictures.paired(train, given)
    if file != NO_FILE:
        if file not in prompt_files():
            raise ValueError(f"no prompt file {file!r} in ComfyUI's input folder")
        train += read_prompt_file(_input_folder() / file)
    if not train:
        raise ValueError("expected prompts to train on, found none: write one per line, or choose a file")
    if not given:
        return split(train, share, seed)
    found = read_prompts(train, given)
    require_apart(found.train, found.held_out)
    return found


def lines(text: str) -> list[str]:
    """A prompt per line, which may end in its size; empty lines and comments left out."""
    found = [line.strip() for line in text.replace(BYTE_ORDER_MARK, "").split("\n")]
    found = [line for line in found if line and not line.startswith("#")]
    longest = max(map(len, found), default=0)
    if longest > LONGEST_LINE:
        raise ValueError(f"expected prompts of at most {LONGEST_LINE} characters, found {longest}: split it")
    return [with_option(line) for line in found]


def split(prompts: list[str], share: float, seed: int) -> Prompts:
    """Hold out ``share`` of the prompts, at least one of two unless it is 0; seed 0 is the split of the core."""
    by_core = read_prompts(prompts, held_out_share=share)
    if not seed:
        return by_core
    return split_off(tuple(dict.fromkeys(prompts)), len(by_core.held_out), seed)


def _input_folder() -> Path:
    return Path(folder_paths.get_input_directory())
