"""Text that is to be read in the image."""

from .accuracy import Reader, TextAccuracy
from .rapid_ocr import RapidOCRReader

__all__ = ["RapidOCRReader", "Reader", "TextAccuracy"]
