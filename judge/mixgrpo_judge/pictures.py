"""Pictures as they are sent: JPEG files, not larger than the endpoint wants them."""

import io
from typing import Any

import numpy as np
from PIL import Image


def jpeg(image: Any, longest_side: int, quality: int) -> bytes:
    """The file of ``image [H, W, 3]`` in 0..1: an array, or a tensor on the CPU.

    Raises:
        ValueError: another shape, or pixels that are no numbers.
    """
    pixels = np.asarray(image, dtype=np.float32)
    if pixels.ndim != 3 or pixels.shape[-1] != 3 or not pixels.size:
        raise ValueError(f"expected an image [H, W, 3], found {list(pixels.shape)}")
    if not np.isfinite(pixels).all():
        raise ValueError("the image holds NaN or infinity")
    picture = Image.fromarray(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8))
    factor = longest_side / max(picture.size) if longest_side else 1.0
    if factor < 1:
        width, height = (max(1, round(side * factor)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()
