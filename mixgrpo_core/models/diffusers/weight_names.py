"""The weight files in a part of a diffusers folder: which of them are there, and what is wrong with them."""

import re
from pathlib import Path

from ...support.file_kinds import what_it_is

_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|model)(?:\.([a-z0-9]+))?(?:-\d+-of-\d+)?(?:\.([a-z0-9]+))?\.safetensors"
)


def variant_of(folder: Path) -> str | None:
    """The variant (``fp16``) of a folder that holds no weights but those; None where it has its plain ones."""
    found = [match for path in folder.glob("*.safetensors") if (match := _WEIGHTS.fullmatch(path.name))]
    names = sorted({match[1] or match[2] or "" for match in found})
    return None if not names or "" in names else names[0]


def why(folder: Path, error: Exception) -> str:
    """Why weights do not load, and how to mend it: by what the files are, where that tells more than ``error``."""
    for file in sorted(folder.glob("*.safetensors")):
        wrong = what_it_is(file)
        if wrong:
            return f"{file.name}: {wrong}"
    if not any(folder.glob("*.safetensors")) and any(folder.glob("*.bin")):
        return "there are only .bin files, pickles, which are not read; get the folder with its .safetensors"
    return f"{error}; get the folder again"
