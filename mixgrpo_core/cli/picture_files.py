"""Picture files as batches for rewards, read when their turn comes."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..rewards.networks.reference_picture import Picture
from ..rewards.port import Context, RewardBatch
from ..support.pixels import PICTURES

BATCH_BYTES = 64 << 20
"""Most of a batch's pixels, where it holds more than one picture: rewards have batches of their own."""
_PIXEL_BYTES = 3 * 4  # three channels in float32


@dataclass(frozen=True)
class Alike:
    """Pictures of one size and one prompt: a group to rewards that compare."""

    files: tuple[Path, ...]
    size: tuple[int, int]
    prompt: str
    number: int

    def parts(self, whole: bool) -> Iterator[tuple[Path, ...]]:
        """The files batch by batch; all at once where a reward needs the ``whole`` group."""
        few = max(1, BATCH_BYTES // (self.size[0] * self.size[1] * _PIXEL_BYTES))
        step = len(self.files) if whole else few
        return (self.files[start : start + step] for start in range(0, len(self.files), step))


@dataclass(frozen=True)
class Read:
    """Pictures that were read, as a batch (None: not one of them), and what was wrong with the others."""

    files: tuple[Path, ...]
    batch: RewardBatch | None
    faults: tuple[str, ...]


def picture_files(places: Sequence[str]) -> list[Path]:
    """The picture files that ``places`` name. Raises ``ValueError`` for one that is none."""
    files: list[Path] = []
    for place in map(Path, places):
        if place.is_dir():
            inside = sorted(path for path in place.iterdir() if path.suffix.lower() in PICTURES)
            if not inside:
                raise ValueError(f"expected pictures ({', '.join(PICTURES)}) in {place}, found none")
            files += inside
        elif place.is_file():
            files.append(place)
        else:
            raise ValueError(f"expected a picture or a folder at {place}, found nothing: check the path")
    if not files:
        raise ValueError("expected pictures to score: mixgrpo score PICTURE ... --rewards NAME CALL")
    return list(dict.fromkeys(files))


def read_picture(path: Path) -> Tensor:
    """``[H, W, 3]`` in 0..1, as rewards read theirs. Raises ``ValueError`` for a file that is no picture."""
    return Picture(str(path)).image


def grouped(prompts: Mapping[Path, str]) -> list[Alike]:
    """The files that are alike together. Only their headers are read.

    Raises:
        ValueError: one of them is no picture.
    """
    alike: dict[tuple[tuple[int, int], str], list[Path]] = defaultdict(list)
    for file, prompt in prompts.items():
        alike[_size(file), prompt].append(file)
    return [Alike(tuple(files), size, prompt, number) for number, ((size, prompt), files) in enumerate(alike.items())]


def batches(groups: Iterable[Alike], context: Context, *, whole: bool) -> Iterator[Read]:
    """The pictures of all groups; a batch is read when it is asked for, and none is kept."""
    for group in groups:
        for files in group.parts(whole):
            yield _read(files, group, context)


def _read(files: Sequence[Path], group: Alike, context: Context) -> Read:
    images: list[Tensor] = []
    good: list[Path] = []
    faults: list[str] = []
    for file in files:
        try:
            image = read_picture(file)
        except ValueError as error:  # cut off behind its header: it costs its own score
            faults.append(str(error))
            continue
        if tuple(image.shape[:2]) != group.size:
            faults.append(f"{file} says behind its pixels that it is turned: save it anew")
            continue
        images.append(image)
        good.append(file)
    if not images:
        return Read((), None, tuple(faults))
    batch = RewardBatch(
        images=torch.stack(images), prompts=(group.prompt,) * len(images), group=group.number, context=context
    )
    return Read(tuple(good), batch, tuple(faults))


def _size(file: Path) -> tuple[int, int]:
    """Height and width, as the picture is read."""
    try:
        with Image.open(file) as opened:
            width, height = opened.size
            early = opened.format != "PNG" or "exif" in opened.info  # else Pillow reads all pixels to look behind them
            turned = early and opened.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # by a quarter
    except Exception as error:  # each format of Pillow has its own errors
        raise ValueError(f"{file} cannot be read as a picture ({error}): is it whole?") from error
    return (width, height) if turned else (height, width)
