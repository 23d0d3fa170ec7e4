"""The files of the pack as it is published: what git tracks, without what .comfyignore names."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _git(*arguments):
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", *arguments]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return {name for name in output.split("\0") if name}


def published_files(more_patterns=()):
    """Paths relative to the repository, with /; a file that git tracks and that is deleted is not among them."""
    ignored = _git("--cached", "--ignored", "--exclude-from=.comfyignore", *(f"--exclude={p}" for p in more_patterns))
    return sorted(name for name in _git("--cached") - ignored if (ROOT / name).is_file())


def export(folder):
    """Copy the published files into ``folder``, as an archive unpacks them; returns it."""
    for name in published_files():
        place = Path(folder) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((ROOT / name).read_bytes())
    return Path(folder)
