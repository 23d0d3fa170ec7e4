"""What a person gave, as a sentence can quote it: a whole file pasted into a setting makes no sentence."""

from collections.abc import Iterable

LONGEST, LONGEST_CAUSE = 160, 400
"""Characters of a quotation, and of what another library said."""


def shown(value: object) -> str:
    """``repr`` of a value, its middle left out where it is long."""
    return brief(repr(value))


def brief(text: str, longest: int = LONGEST) -> str:
    """A text, its middle left out where it is long."""
    return text if len(text) <= longest else f"{text[: longest - 40]} ... {text[-30:]}"


def cause(error: BaseException) -> str:
    """What an error of another library says: some quote the whole file that they could not read."""
    return brief(str(error), LONGEST_CAUSE)


def listed(names: Iterable[str]) -> str:
    """Up to three names and how many more there are, for a message."""
    names = list(names)
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest
