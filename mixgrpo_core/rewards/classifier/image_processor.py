"""How a folder of the hub wants its images: ``preprocessor_config.json``, carried out on tensors.

resize -> cut out the middle -> scale -> normalise         each where the file asks for it
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ...support.quoting import cause, shown
from ..networks.preprocessing import normalised, pixels_of, resized
from ..networks.weight_files import WeightsError, read_json

FILE = "preprocessor_config.json"
_MODES = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
# Old files say one number. These processors' shorter edge gets it, the others' both edges.
_BY_SHORTEST = ("CLIP", "ConvNext", "Bit", "LeViT", "Levit", "MobileNet", "PoolFormer")
_FULL_CONVNEXT = 384  # from which on ConvNext takes the whole image and cuts nothing off
_FLAGS_OF_OTHERS = ("rescale_offset", "include_top", "do_pad", "do_flip_channel_order")


@dataclass(frozen=True, kw_only=True)
class ImageProcessor:
    """Images to normalised pixels.

    Attributes:
        size: ``(height, width)`` whatever the aspect, or one number for the shorter edge; None leaves images as large
            as they are.
        crop: ``(height, width)`` of the middle that is kept; None keeps all.
        mode: of the resizing.
        scale: of pixels in 0..1, before they are normalised.
        mean, std: per channel; None normalises nothing.
    """

    size: tuple[int, int] | int | None
    crop: tuple[int, int] | None
    mode: str
    scale: float
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    @classmethod
    def of(cls, folder: Path) -> "ImageProcessor":
        """What ``folder`` asks for.

        Raises:
            WeightsError: the file is missing or broken, or asks for something that is not known here.
        """
        path = folder / FILE
        if not path.is_file():
            raise WeightsError(f"expected {FILE} in {folder}, found none: get the whole folder again")
        config = read_json(path)
        try:
            return _parsed(config)
        except (KeyError, TypeError, ValueError, OverflowError, ArithmeticError) as error:
            raise WeightsError(
                f"{path} asks for something unknown ({cause(error)}): take another classifier"
            ) from error

    def __call__(self, images: Tensor) -> Tensor:
        """``[B, H, W, 3]`` in 0..1 to ``[B, 3, height, width]``, with the gradient."""
        pixels = pixels_of(images)
        if self.size is not None:
            pixels = resized(pixels, *_resized_to(self.size, *pixels.shape[-2:]), mode=self.mode)
        if self.crop is not None:
            top, left = ((edge - kept) // 2 for edge, kept in zip(pixels.shape[-2:], self.crop, strict=True))
            pixels = pixels[..., top : top + self.crop[0], left : left + self.crop[1]]
        pixels = self.scale * pixels
        return pixels if self.mean is None or self.std is None else normalised(pixels, self.mean, self.std)


def _resized_to(size: tuple[int, int] | int, height: int, width: int) -> tuple[int, int]:
    if isinstance(size, tuple):
        return size
    longer = int(size * max(height, width) / min(height, width))
    return (size, longer) if height <= width else (longer, size)


def _parsed(config: Mapping[str, Any]) -> ImageProcessor:
    unknown = [flag for flag in _FLAGS_OF_OTHERS if config.get(flag)]
    if unknown:
        raise ValueError(", ".join(unknown))
    size, crop = None, None
    if config.get("do_resize", True):
        size = _size(config["size"], config)
    if config.get("do_center_crop", False):
        found = config.get("crop_size", config.get("size"))
        crop = (int(found), int(found)) if not isinstance(found, Mapping) else _sides(found)
    if "crop_pct" in config and isinstance(size, int):  # ConvNext: one number says both
        size, crop = _with_margin(size, config["crop_pct"])
    if (
        crop is not None
        and size is not None
        and any(kept > edge for kept, edge in zip(crop, _least(size), strict=True))
    ):
        raise ValueError(f"the middle {crop} of images of {size}")
    mean = std = None
    if config.get("do_normalize", True):
        mean, std = (_per_channel(name, config[name]) for name in ("image_mean", "image_std"))
    scale = 255 * float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 255.0
    mode = config.get("resample", 2)
    if mode not in _MODES:
        raise ValueError(f"resample {mode}")
    return ImageProcessor(size=size, crop=crop, mode=_MODES[mode], scale=scale, mean=mean, std=std)


def _size(size: int | Mapping[str, int], config: Mapping[str, Any]) -> tuple[int, int] | int:
    if isinstance(size, Mapping):
        return int(size["shortest_edge"]) if "shortest_edge" in size else _sides(size)
    processor = str(config.get("image_processor_type", config.get("feature_extractor_type", "")))
    return int(size) if processor.startswith(_BY_SHORTEST) else (int(size), int(size))


def _sides(size: Mapping[str, int]) -> tuple[int, int]:
    return int(size["height"]), int(size["width"])


def _per_channel(name: str, values: Sequence[float]) -> tuple[float, ...]:
    if not isinstance(values, list) or len(values) != 3:
        raise ValueError(f"{name} of three numbers expected, found {shown(values)}")
    return tuple(map(float, values))


def _with_margin(side: int, share: float | None) -> tuple[tuple[int, int] | int, tuple[int, int] | None]:
    if side >= _FULL_CONVNEXT or share is None:
        return (side, side), None
    return int(side / share), (side, side)


def _least(size: tuple[int, int] | int) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)
