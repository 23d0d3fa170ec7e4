"""What a person gave, as a sentence can quote it: a whole file pasted into a setting makes no sentence."""

LONGEST = 160
"""Characters of a quotation."""


def shown(value: object) -> str:
    """``repr`` of a value, its middle left out where it is long."""
    return brief(repr(value))


def brief(text: str) -> str:
    """A text, its middle left out where it is long."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 40]} ... {text[-30:]}"
