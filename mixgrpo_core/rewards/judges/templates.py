"""Questions as text files that users may edit; ``{prompt}`` is where the prompt goes, as quoted data.

A prompt comes from anywhere, and a judge is a language model: text in a prompt must not end its quotation, or look like
the frame of the conversation. Text that is drawn in a picture cannot be kept from the judge; the templates say that it
is no instruction, and rewards that nobody trains on show who cheats.
"""

import re
from pathlib import Path

from ...support.files import TextFileError, read_text
from ...support.paths import user_path

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "judges"
SLOT = "{prompt}"

# Of the chat formats in use: <|im_end|>, <start_of_turn>, <s>, [INST], <<SYS>>, <think>, <image>, <tool_call>, ...
_CONTROL = re.compile(
    r"(?:<\|[^<>|]{1,60}\|>|<\uff5c[^<>\uff5c]{1,60}\uff5c>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|IMG\w{0,60})\]|<</?SYS>>"
    r"|</?(?:s|bos|eos|pad|unk|image\w{0,60}|img|video\w{0,60}|think|thinking|tool_\w{1,60}|start_of_\w{1,60}"
    r"|end_of_\w{1,60}|turn)>)\Z",
    re.IGNORECASE,
)
_LONGEST = 80
"""Characters of a token, at least."""
_LAST = ">]"
_CLOSING = {'"': "'", "[": "(", "]": ")", "\N{RIGHT DOUBLE QUOTATION MARK}": "'"}


class TemplateError(ValueError):
    """A template that is not there, or cannot be used."""


def read_template(name: str) -> str:
    """The text of a template: a file's path, or the name of one that comes along (``ASSETS``).

    Raises:
        TemplateError: no such file, no text, or empty.
    """
    places = (user_path(name), ASSETS / Path(name).name)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        known = ", ".join(sorted(file.name for file in ASSETS.glob("*.txt")))
        raise TemplateError(f"expected a template file at {name!r}, found none; those that come along are: {known}")
    try:
        text = read_text(found).strip()
    except (OSError, TextFileError) as error:
        raise TemplateError(f"the template {found} cannot be read as text: {error}") from error
    if not text:
        raise TemplateError(f"the template {found} is empty: write the question that the judge is asked")
    return text


def fill(template: str, prompt: str) -> str:
    """The template with ``prompt`` in it, in which nothing ends the quotation marks or brackets around it."""
    before, slot, after = template.partition(SLOT)
    if not slot:
        return template
    text = without_control(prompt)
    for mark in {before[-1:], after[:1]} & _CLOSING.keys():
        text = text.replace(mark, _CLOSING[mark])
    return before + text + after.replace(SLOT, text)


def without_control(text: str) -> str:
    """``text`` on one line, without tokens that frame conversations and without control characters."""
    kept: list[str] = []
    for character in text:
        kept.append(character)
        if character in _LAST:  # what is left when a token goes may be the beginning of another one
            found = _CONTROL.search("".join(kept[-_LONGEST:]))
            if found:
                del kept[len(kept) - len(found[0]) :]
    return " ".join("".join(c if c.isprintable() else " " for c in kept).split())
