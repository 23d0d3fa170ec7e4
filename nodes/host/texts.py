"""Prompts with the text encoder that reads them: what the trainer takes for its texts."""

import json
import shutil
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import comfy.model_management
import folder_paths
import torch
from comfy.sd import CLIP
from torch import Tensor

from ...mixgrpo_core.rewards.port import Context
from ...mixgrpo_core.runs.packing import Packer, unpack
from ...mixgrpo_core.settings.prompts import Prompts
from ...mixgrpo_core.support.digests import picture_digest
from ...mixgrpo_core.support.pictured import Pictured
from ...mixgrpo_core.support.seeds import derive_seed
from ...mixgrpo_core.support.sized import resized, size_of
from ...mixgrpo_core.support.text_files import TextFiles

_MADE = "made"
Conditioning = list
"""What ComfyUI calls CONDITIONING: a list of ``[tokens, {"pooled_output": ...}]``."""


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """Prompts to train on, prompts that are only looked at, and their encoder.

    ComfyUI keeps a node's output until its inputs change, and the texts encoded so far with it: a second run with
    the same prompts encodes nothing. They lie in files of the host's temporary folder, which go with the node's output.

    Attributes:
        train, held_out: no prompt is in both, none is in one twice.
        negative: the negative prompt, used where the guidance scale is above 1.
        contexts: reference pictures and masks, by prompt.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    negative: str
    clip: CLIP
    contexts: Mapping[str, Context] = field(default_factory=dict, repr=False, compare=False)
    _encoded: TextFiles = field(default_factory=lambda: TextFiles(""), repr=False, compare=False)

    def __post_init__(self) -> None:
        require_apart(self.train, self.held_out)
        folder = Path(folder_paths.get_temp_directory()) / "mixgrpo_texts" / uuid4().hex
        self._encoded.keep_in(folder)
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    @property
    def digest(self) -> str:
        """What must be the same for a run to go on: words, in their order, pictures and sizes."""
        pictured = [(context.reference, context.mask) for context in self.contexts.values()]
        pictures = [picture for pair in pictured for picture in pair if picture is not None]
        asked = [size_of(prompt) for prompt in (*self.train, *self.held_out)]
        sizes = map(str, asked) if any(asked) else ()
        return f"{derive_seed(*self.train, 'held out', *self.held_out, *map(picture_digest, pictures), *sizes):x}"

    def encode(self, text: str, picture: Tensor | None = None) -> Conditioning:
        """The conditioning of ``text``, on the CPU, in ordinary tensors; each text is encoded once.

        It is the caller's own. ``picture`` ``[1, H, W, 3]`` is for text encoders that see.
        """
        key = text if picture is None else f"{text}\0{picture_digest(picture)}"
        with torch.inference_mode(False):  # its tensors could not be saved for a backward pass
            kept = self._encoded.get(key)
            if kept is not None:
                return unpack(json.loads(kept[1][_MADE]), kept[0], False)
        # As a node of the host encodes, whatever mode the caller is in: no graph of the text encoder is kept.
        with torch.inference_mode():
            seen = {} if picture is None else {"images": [picture]}
            found = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text, **seen))
        with torch.inference_mode(False):
            packer = Packer()
            made = packer.pack("made", found)
            self._encoded.put(key, packer.tensors, {_MADE: json.dumps(made)})
            return unpack(made, packer.tensors, False)

    def by_encoder(self, text: str) -> dict[str, Tensor | str]:
        """What tells ``text`` from others: the tokens of each text encoder, and what they made of it together.

        A pooled embedding of zeros stands for an encoder that is not loaded, and is left out.
        """
        tokens = self.clip.tokenize(text)
        named = tokens if isinstance(tokens, Mapping) else {"": tokens}
        said: dict[str, Tensor | str] = {f"the tokenizer {name}": repr(found) for name, found in named.items()}
        for embeddings, values in self.encode(text):
            pooled = values.get("pooled_output")
            said["the text encoder"] = embeddings
            if isinstance(pooled, Tensor) and bool(pooled.any()):
                said["the text encoder's pooled output"] = pooled
        return said

    def release(self) -> None:
        """Let the text encoder leave the GPU: ComfyUI moves its weights to where it keeps idle ones.

        The next text that is not encoded yet brings it back. Other models stay where they are.
        """
        comfy.model_management.unload_model_and_clones(self.clip.patcher, all_devices=True)


def require_apart(train: Iterable[str], held_out: Iterable[str]) -> None:
    """Raise ``ValueError`` when a prompt is both trained on and held out."""
    both = sorted({resized(prompt, None) for prompt in train} & {resized(prompt, None) for prompt in held_out})
    if both:
        raise ValueError(
            f"held-out prompts must never be trained on, but {len(both)} are in both lists (such as {both[0]!r}): "
            "take them out of one"
        )


def described(prompts: Prompts, negative: str) -> str:
    """What was read, for a text preview."""
    parts = [f"{len(prompts.train)} prompts to train on", *(f"  {_line(text)}" for text in prompts.train)]
    parts += ["", f"{len(prompts.held_out)} held-out prompts (never trained on)"]
    parts += [f"  {_line(text)}" for text in prompts.held_out]
    many = sum(isinstance(text, Pictured) for text in (*prompts.train, *prompts.held_out))
    parts += ["", f"{many} of them come with a picture"] if many else []
    return "\n".join([*parts, "", f"negative prompt: {negative}"] if negative else parts)


def _line(prompt: str) -> str:
    """The prompt with its own size, width before height."""
    size = size_of(prompt)
    return prompt if size is None else f"{prompt} ({size[1]} x {size[0]})"
