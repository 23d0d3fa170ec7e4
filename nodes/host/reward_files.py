"""Files of reward models where ComfyUI keeps models: ``models/reward_models``, and folders of other loaders.

A file, or a folder with ``config.json`` and weights (a hub repository), is named by its place below its folder; one of
another loader carries the kind: ``clip_vision/CLIP-ViT-L.safetensors``. ``extra_model_paths.yaml`` is heeded.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ...mixgrpo_core.rewards.networks.known_files import KnownFile
from ...mixgrpo_core.rewards.networks.weight_files import SUFFIXES
from ...mixgrpo_core.rewards.told_apart import files_of

OWN = "reward_models"
NOTHING = "no file found"
_DEEPEST = 4  # folders below a models folder that are looked into


def register_folder() -> None:
    """Make ``models/reward_models`` known to the host."""
    folder_paths.add_model_folder_path(OWN, os.path.join(folder_paths.models_dir, OWN), is_default=True)


def found(kinds: Sequence[str] = (OWN,), *, suffixes: Sequence[str] = SUFFIXES, folders: bool = True) -> list[str]:
    """Names of files and model folders of ``kinds``, sorted; where there are none, the word that says so."""
    names = {
        name if kind == OWN else f"{kind}/{name}"
        for kind in kinds
        for root in _roots(kind)
        for name in _below(root, root, suffixes, folders, _DEEPEST)
    }
    return sorted(names, key=str.lower) or [NOTHING]


def path_of(name: str, kinds: Sequence[str], known: Sequence[KnownFile]) -> Path:
    """Where a file of ``found`` is.

    Raises:
        ValueError: it is not there; says what would be, where it comes from, and where it belongs.
    """
    if not isinstance(name, str):
        raise ValueError(f"expected the name of a file, found {name!r}")
    kind, _, rest = name.partition("/")
    kind, rest = (kind, rest) if kind in kinds and kind != OWN else (OWN, name)
    for root in _roots(kind):
        path = Path(os.path.abspath(root / rest))
        if name != NOTHING and path.is_relative_to(os.path.abspath(root)) and path.exists() and path != Path(root):
            return path
    raise ValueError(missing(name, known))


def file_input(
    kinds: Sequence[str],
    tooltip: str,
    known: Sequence[KnownFile],
    *,
    name: str = "file",
    folders: bool = True,
    suffixes: Sequence[str] = SUFFIXES,
) -> io.Input:
    """The list of files that a loader offers; a ``known`` one is chosen at first."""
    options = found(kinds, suffixes=suffixes, folders=folders)
    names = {word.lower() for file in known for word in (file.name, file.original) if word}
    chosen = next((option for option in options if Path(option).name.lower() in names), options[0])
    return io.Combo.Input(name, options=options, default=chosen, tooltip=tooltip)


def file_problem(name: str | None, kinds: Sequence[str], known: Sequence[KnownFile], *, input: str = "file") -> str:
    """What is wrong with a choice of ``file_input``, for ``validate_inputs``; nothing where it comes by wire."""
    try:
        if name is not None:
            path_of(name, kinds, known)
    except ValueError as error:
        return f"{input}: {error}"
    return ""


def fingerprint(kinds: Sequence[str], *names: str | None) -> str:
    """What the chosen files are now, for ``fingerprint_inputs``: another file under an old name is read again. None is
    a name that comes by wire."""
    states = []
    for name in names:
        try:
            stats = [] if name is None else [file.stat() for file in files_of(path_of(name, kinds, ()))]
        except (ValueError, OSError):  # missing
            stats = []
        states.append([(stat.st_size, stat.st_mtime_ns) for stat in stats])
    return repr(states)


def missing(name: str, known: Sequence[KnownFile]) -> str:
    """The sentence for a file that is not there."""
    wanted = Path(name).name.lower()
    same = [file for file in known if wanted in (file.name.lower(), file.original.lower())]
    words = "; or ".join(file.words() for file in same or known)
    lost = "no file was found" if name == NOTHING else f"there is no {name}"
    return f"{lost} in models/{OWN}. Get {words}. Then press R and choose it" if words else f"{lost}: choose another"


def _roots(kind: str) -> list[Path]:
    if kind not in folder_paths.folder_names_and_paths:
        return []
    return [Path(root) for root in folder_paths.get_folder_paths(kind) if os.path.isdir(root)]


def _below(root: Path, folder: Path, suffixes: Sequence[str], folders: bool, depth: int) -> Iterator[str]:
    """Names below ``root``, of what is in ``folder``; a model folder counts as one and is not looked into."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if (path / "config.json").is_file():
                if folders:
                    yield path.relative_to(root).as_posix()
            elif depth:
                yield from _below(root, path, suffixes, folders, depth - 1)
        elif path.suffix.lower() in suffixes:
            yield path.relative_to(root).as_posix()
