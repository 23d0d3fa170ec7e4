"""A judge in this process: a Qwen-VL network (Qwen2-VL, 2.5, 3, and UnifiedReward, which is one) by ``transformers``.

Answers are greedy. The first token's alternatives come from the forward pass that reads the question, so a question
with ``max_tokens=1`` takes one forward pass. Batches are padded on the left; images keep their own sizes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...support.micro_batches import MicroBatches
from ...support.setting import require_finite
from ..networks.places import Placement, Precision, Resident
from ..networks.tower import Tower, Whole, memory_of
from ..networks.weight_files import Weights, WeightsError
from .chat import Answer, Question
from .files import licence_of
from .qwen_vl import FAMILY, Read, Reader, load_network


@dataclass(frozen=True)
class LocalChat:
    """The network of a folder as hubs have it: ``config.json``, weights, tokenizer, ``preprocessor_config.json``.

    2B parameters take 4.3 GB in bfloat16, 8B 17.5 GB.

    Attributes:
        folder: where it is.
        longest_side: pixels to which larger images are shrunk; 0 leaves them. 28 x 28 pixels and more are a token.
        precision: ``auto`` is the folder's own on a GPU (these networks overflow in float16), float32 elsewhere.
        place, batch: see `mixgrpo_core.rewards.networks.places`; ``batch`` is questions per pass.
    """

    folder: str
    longest_side: int = 768
    precision: Precision = "auto"
    place: Placement = field(default=Resident(), repr=False)
    batch: int = field(default=8, repr=False)

    def __post_init__(self) -> None:
        require_finite(self)

    @property
    def identity(self) -> str:
        return f"{Path(self.folder).name} in this process"

    @property
    def memory(self) -> int:
        """Bytes of its weights where it computes; 0 where there are none."""
        return memory_of(lambda: self._tower.memory)

    @property
    def licence(self) -> str:
        """Of its weights, where the folder's name says which they are."""
        return licence_of(self.folder)

    def check(self) -> None:
        """Read everything, the network too.

        Raises:
            WeightsError: another kind of network, or a file is missing or truncated.
        """
        kind = self._weights.config.get("model_type")
        if kind not in FAMILY:
            raise WeightsError(
                f"expected a model of {', '.join(FAMILY)} in {self.folder}, found {kind!r} in its config.json: serve "
                "other judges by vLLM, llama.cpp or the like, and name them as an endpoint"
            )
        self._reader  # noqa: B018 - reads tokenizer and image settings
        self._tower.check()

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        found: dict[int, Answer] = {}
        read: dict[int, Read] = {}
        for place, question in enumerate(questions):
            try:
                read[place] = self._reader.read(question, self.longest_side)
            except (ValueError, TypeError) as error:  # an image of 1 x 300 pixels, for one
                found[place] = Answer("", problem=f"the question cannot be read: {error}")
        with self._tower.at_place() as network:
            for amount, places in _alike(questions, read).items():

                def answer(rows: Tensor, amount: tuple[int, int] = amount) -> Tensor:
                    chosen = rows.tolist()
                    answers = self._answers(network, [read[place] for place in chosen], *amount)
                    found.update(zip(chosen, answers, strict=True))
                    return rows

                self._batches.map(answer, torch.tensor(places))
        return [found[place] for place in range(len(questions))]

    @cached_property
    def _weights(self) -> Weights:
        return Weights(self.folder)

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.folder, self._weights.config)

    @cached_property
    def _batches(self) -> MicroBatches:
        return MicroBatches(self.batch)

    @cached_property
    def _tower(self) -> Tower[nn.Module]:
        contents = Whole(self._weights, partial(load_network, self.folder))
        return Tower("vision-language", contents, precision=self._precision, place=self.place)

    @property
    def _precision(self) -> Precision:
        own = self._weights.config.get("dtype") or self._weights.config.get("torch_dtype")
        own_there = self.precision == "auto" and self.place.device.type != "cpu"
        return own if own_there and own in ("float16", "bfloat16", "float32") else self.precision

    def _answers(self, network: Any, read: Sequence[Read], max_tokens: int, alternatives: int) -> list[Answer]:
        inputs = self._reader.padded(read)
        inputs["pixel_values"] = inputs["pixel_values"].to(network.dtype)
        inputs = {name: tensor.to(self.place.device) for name, tensor in inputs.items()}
        with torch.no_grad():
            made = network.generate(
                **inputs,
                max_new_tokens=max_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self._reader.padding,
                return_dict_in_generate=True,
                output_logits=True,
            )
        texts = self._reader.words(made.sequences[:, inputs["input_ids"].shape[1] :])
        log_probs = made.logits[0].float().log_softmax(-1)
        likely = log_probs.topk(min(alternatives, log_probs.shape[-1])) if alternatives else None
        return [
            Answer(text, self._reader.alternatives(likely.values[row], likely.indices[row]) if likely else {})
            for row, text in enumerate(texts)
        ]


def _alike(questions: Sequence[Question], places: Mapping[int, object]) -> dict[tuple[int, int], list[int]]:
    """Places of questions by what they ask for, so that those of a batch end alike."""
    found: dict[tuple[int, int], list[int]] = {}
    for place in places:
        found.setdefault((questions[place].max_tokens, questions[place].alternatives), []).append(place)
    return found
