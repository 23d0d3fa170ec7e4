"""Prompts that come with a picture: an instruction, and what it is about."""

import json


class Pictured(str):
    """A prompt with a reference picture, and perhaps a mask.

    Two with the same words and other pictures are two prompts, wherever prompts are told apart; as text they are words.

    Attributes:
        picture: the path of the reference, or what else tells it from others.
        mask: the same of the mask; empty without one.
    """

    picture: str
    mask: str

    def __new__(cls, words: str, picture: str, mask: str = "") -> "Pictured":
        made = super().__new__(cls, words)
        made.picture, made.mask = picture, mask
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pictured) and self._key == other._key

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> tuple[type["Pictured"], tuple[str, str, str]]:
        return Pictured, self._key

    @property
    def _key(self) -> tuple[str, str, str]:
        return str(self), self.picture, self.mask


def spelled(prompt: str) -> str:
    """A prompt as one text that ``unspelled`` reads: with its pictures, as a line of a .jsonl file has them."""
    if not isinstance(prompt, Pictured):
        return prompt
    pictures = {name: path for name, path in (("image", prompt.picture), ("mask", prompt.mask)) if path}
    return json.dumps({"prompt": str(prompt), **pictures}, ensure_ascii=False)


def unspelled(text: str) -> str:
    """What ``spelled`` wrote; any other text is a prompt as it stands."""
    if isinstance(text, Pictured) or not text.lstrip().startswith("{"):
        return text
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(found, dict) or not {"prompt", "image"} <= found.keys() <= {"prompt", "image", "mask"}:
        return text
    return Pictured(*(str(found.get(name, "")) for name in ("prompt", "image", "mask")))
