"""Numbers as pictures, and pictures of every mode of Pillow as numbers."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Suffixes of the files that are taken for pictures in a folder."""
LEAST = 64
"""Pixels of a side of a picture that a model is to read."""
_UNIT = 32
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


def to_image(pixels: Tensor) -> Image.Image:
    """``[H, W, 3]`` in 0..1 as a picture."""
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().byte().cpu().numpy())


def shrunk(image: Image.Image, area: int) -> Image.Image:
    """Of about ``area`` pixels at most, but with no side shorter than models take of a reference picture."""
    share = max(math.sqrt(area / (image.width * image.height)), LEAST / min(image.size))
    if share >= 1:
        return image
    width, height = (round(length * share) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def of_area(image: Image.Image, side: int) -> Image.Image:
    """Of about ``side * side`` pixels, as Qwen-Image-Edit takes pictures: sides are multiples of 32."""
    width = math.sqrt(side * side * image.width / image.height)
    height = width * image.height / image.width
    size = (round(width / _UNIT) * _UNIT, round(height / _UNIT) * _UNIT)
    return image.resize(size, Image.Resampling.LANCZOS)


def rgb_of(picture: Image.Image) -> NDArray[np.float32]:
    """A picture as ``[H, W, 3]``, float32 in 0..1: turned as its camera says, without its transparency.

    8 and 16 bits are parts of their whole range. Whole numbers of 32 bits, as older Pillows open grey pictures of 16,
    are parts of 65535; floats are 0..1.

    Raises:
        ValueError: numbers outside of these ranges, or none: what they mean is not known.
    """
    turned = ImageOps.exif_transpose(picture)
    grey = _grey(turned)
    if grey is None:
        return np.asarray(turned.convert("RGB"), dtype=np.float32) / np.float32(255)
    return np.repeat(grey[..., None], 3, axis=2)


def _grey(picture: Image.Image) -> NDArray[np.float32] | None:
    """The one channel of modes that Pillow cuts off at 255 when it makes them RGB, in 0..1; None for all others."""
    if picture.mode in _SIXTEEN_BITS:
        return np.asarray(picture).astype(np.float32) / np.float32(65535)
    if picture.mode == "I":
        return _checked(picture, "0..65535, some of them above 255,", 65535, above=255) / np.float32(65535)
    if picture.mode == "F":
        return _checked(picture, "0..1", 1)
    return None


def _checked(picture: Image.Image, expected: str, most: int, above: int = 0) -> NDArray[np.float32]:
    numbers = np.asarray(picture).astype(np.float32)
    low, high = (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 0.0)
    if not 0 <= low <= high <= most or 0 < high <= above:  # the former also where one is nan
        raise ValueError(
            f"expected numbers in {expected} in a picture of Pillow's mode {picture.mode}, found {low:g} to {high:g}: "
            "scale it to that range, or save it with 8 or 16 bits"
        )
    return numbers
