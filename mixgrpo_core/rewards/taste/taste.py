"""A taste: a head, what it was learnt from, what it is put on, and how much it knows. Its file can run no code."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from ...support.quoting import cause
from ...support.spelling import spell
from ...support.tensor_files import read_tensors, write_tensors
from .agreement import Agreement, agreement
from .head import Head, fitted
from .looks import Look
from .opinions import Opinions

FORMAT = 1
LEAST = 8
"""Images with votes that a taste is learnt from at least."""
_HEADER = "mixgrpo_taste"
_ALIKE = 0.995  # cosine of what two embedders see in the probe; the same network in another precision has .9999


class TasteFileError(ValueError):
    """A file that holds no taste, or one that does not fit."""


@dataclass(frozen=True, kw_only=True)
class Taste:
    """What was learnt of one person.

    Attributes:
        head: the ensemble.
        opinions: what it was learnt from.
        agreement: how it does on votes that it did not see.
        conditioned: the prompts' words matter to it.
        encoder: the call of what it is put on, and ``probe [D]``, what that sees in a picture that never changes.
        sources: words that tell where the votes are from.
    """

    head: Head
    opinions: Opinions
    agreement: Agreement
    conditioned: bool
    encoder: str
    probe: Tensor
    sources: tuple[str, ...]

    @classmethod
    def learnt(cls, opinions: Opinions, look: Look, *, conditioned: bool, sources: Sequence[str]) -> "Taste":
        """Raises ``ValueError`` where the opinions tell nothing."""
        opinions.require_enough(LEAST)
        return cls(
            head=fitted(opinions, conditioned=conditioned),
            opinions=opinions,
            agreement=agreement(opinions, conditioned=conditioned),
            conditioned=conditioned,
            encoder=spell(look.encoder),
            probe=look.probe.clone(),
            sources=tuple(sources),
        )

    def refreshed(self, more: Opinions) -> "Taste":
        """Learnt anew, with more opinions."""
        opinions = Opinions.joined([self.opinions, more])
        return replace(
            self,
            opinions=opinions,
            head=fitted(opinions, conditioned=self.conditioned),
            agreement=agreement(opinions, conditioned=self.conditioned),
        )

    def require(self, look: Look) -> None:
        """Raise `TasteFileError` where ``look`` sees other things than what the head was learnt on."""
        probe = look.probe
        same = probe.shape == self.probe.shape and torch.cosine_similarity(probe, self.probe, dim=0) > _ALIKE
        if not same:
            raise TasteFileError(
                f"this taste was learnt on {self.encoder} ({len(self.probe)} numbers an image), and "
                f"{spell(look.encoder)} ({len(probe)} numbers) sees other things: give it that encoder, or learn the "
                "taste anew"
            )

    def logits(self, features: Tensor, prompts: Sequence[str]) -> Tensor:
        """``[E, n]``, each member's."""
        return self.head.logits(features, prompts)

    def to_values(self) -> dict[str, Any]:
        """As tensors and JSON values."""
        return {
            "head": self.head.to_values(),
            "opinions": self.opinions.to_values(),
            "agreement": self.agreement.to_json(),
            "conditioned": self.conditioned,
            "encoder": self.encoder,
            "probe": self.probe,
            "sources": list(self.sources),
        }

    @classmethod
    def from_values(cls, found: Mapping[str, Any]) -> "Taste":
        """That which ``to_values`` gave."""
        return cls(
            head=Head.from_values(found["head"]),
            opinions=Opinions.from_values(found["opinions"]),
            agreement=Agreement.from_json(found["agreement"]),
            conditioned=found["conditioned"],
            encoder=found["encoder"],
            probe=found["probe"],
            sources=tuple(found["sources"]),
        )

    def save(self, path: Path) -> None:
        """Write it whole. Raises ``OSError``."""
        tensors: dict[str, Tensor] = {}
        values = _apart(self.to_values(), "", tensors)
        write_tensors(path, tensors, {_HEADER: json.dumps({"format": FORMAT, **values})})

    @classmethod
    def load(cls, path: Path) -> "Taste":
        """Raises `TasteFileError` with one sentence for what is no taste."""
        try:
            tensors, header = read_tensors(path)
            values = json.loads(header[_HEADER])
            found = values["format"]
            taste = cls.from_values(_together(values, "", tensors)) if found == FORMAT else None
        except FileNotFoundError as error:
            raise TasteFileError(f"expected a taste at {path}, found nothing: mixgrpo taste train makes one") from error
        except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError, AttributeError) as error:
            words = cause(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            raise TasteFileError(f"{path} is no taste ({words}): mixgrpo taste train makes one") from error
        if taste is None:
            raise TasteFileError(f"{path} is a taste of format {found!r}, this version reads {FORMAT}")
        return taste


def _apart(values: Mapping[str, Any], path: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The JSON values; tensors go into ``tensors`` by their path."""
    plain: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Tensor):
            tensors[path + name] = value.detach().cpu().contiguous().clone()
        else:
            plain[name] = _apart(value, f"{path}{name}.", tensors) if isinstance(value, Mapping) else value
    return plain


def _together(values: Mapping[str, Any], path: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The reverse of ``_apart``."""
    found = {
        name: _together(value, f"{path}{name}.", tensors) if isinstance(value, Mapping) else value
        for name, value in values.items()
    }
    own = (name.removeprefix(path) for name in tensors if name.startswith(path))
    return found | {name: tensors[path + name] for name in own if "." not in name}
