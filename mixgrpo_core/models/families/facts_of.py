"""What is known of the model in a diffusers folder, before anything of it is loaded."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..diffusers.loading import INDEX, read_json, require_folder
from ..facts import FEW, OTHER, Facts, is_fast
from .table import family_of


def facts_of(folder: str | Path, loras: Iterable[str | Path] = ()) -> Facts:
    """The facts of its family; those of few steps where the folder says so, or is called so, or a LoRA on it is.

    Raises:
        ModelFilesError: it is no folder of a pipeline.
    """
    folder = Path(folder)
    require_folder(folder, (INDEX,))
    index = read_json(folder / INDEX)
    family = family_of(str(index.get("_class_name")))
    part = ("unet" if (folder / "unet").is_dir() else "transformer") if family is None else family.network
    require_folder(folder, (part,))
    network = read_json(folder / part / "config.json")
    distilled = family is not None and "guidance_embeds" in network and family.distilled(index, network)
    if distilled or bool(index.get("is_distilled")) or any(map(is_fast, (folder.name, *(Path(o).stem for o in loras)))):
        return FEW
    return replace(OTHER, cfg=1.0) if family is None else family.facts  # what guidance is called there is not known
