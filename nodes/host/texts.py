"""Prompts with the text encoder that reads them: what the trainer takes for its texts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import comfy.model_management
import torch
from comfy.sd import CLIP
from torch import Tensor

from ...mixgrpo_core.settings.prompts import Prompts

Conditioning = list
"""What ComfyUI calls CONDITIONING: a list of ``[tokens, {"pooled_output": ...}]``."""


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """Prompts to train on, prompts that are only looked at, and their encoder.

    ComfyUI keeps a node's output until its inputs change, and the texts encoded so far with it: a second run with
    the same prompts encodes nothing.

    Attributes:
        train, held_out: no prompt is in both, none is in one twice.
        negative: the negative prompt, used where the guidance scale is above 1.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    negative: str
    clip: CLIP
    _encoded: dict[str, Conditioning] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_apart(self.train, self.held_out)

    def encode(self, text: str) -> Conditioning:
        """The conditioning of ``text``, on the CPU, in ordinary tensors; each text is encoded once.

        The list is the caller's own, its tensors are shared: do not write into them.
        """
        if text not in self._encoded:
            # As a node of the host encodes, whatever mode the caller is in: no graph of the text encoder is kept.
            with torch.inference_mode():
                found = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))
            # Inference tensors cannot be saved for a backward pass; their clones outside of that mode can.
            with torch.inference_mode(False):
                self._encoded[text] = _on_cpu(found)
        return [[tokens, dict(values)] for tokens, values in self._encoded[text]]

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
    both = sorted(set(train) & set(held_out))
    if both:
        raise ValueError(
            f"held-out prompts must never be trained on, but {len(both)} are in both lists (such as {both[0]!r}): "
            "take them out of one"
        )


def described(prompts: Prompts, negative: str) -> str:
    """What was read, for a text preview."""
    parts = [f"{len(prompts.train)} prompts to train on", *(f"  {text}" for text in prompts.train)]
    parts += ["", f"{len(prompts.held_out)} held-out prompts (never trained on)"]
    parts += [f"  {text}" for text in prompts.held_out]
    return "\n".join([*parts, "", f"negative prompt: {negative}"] if negative else parts)


def _on_cpu(value: Any) -> Any:
    """``value`` with every tensor in it cloned to the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _on_cpu(item) for key, item in value.items()}
    return type(value)(map(_on_cpu, value)) if isinstance(value, list | tuple) else value
