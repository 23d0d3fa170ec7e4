"""Tables in JSON files of others: weights and models come with some."""

import json
from pathlib import Path
from typing import Any

from .files import read_text
from .quoting import cause


def json_table(path: Path, error: type[ValueError], mend: str) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        error: is raised where there is none, with a sentence that names the file.
        mend: ends the sentence: what to do.
    """
    try:
        found = json.loads(read_text(path))
    except FileNotFoundError as missing:
        raise error(f"expected {path.name} in {path.parent}, found none: {mend}") from missing
    except (OSError, ValueError, RecursionError) as fault:
        raise error(f"{path} cannot be read ({cause(fault)}): {mend}") from fault
    if not isinstance(found, dict):
        raise error(f"expected a JSON object in {path}, found a {type(found).__name__}: {mend}")
    return found
