"""Reading with RapidOCR, an optional library that carries its small networks with it and computes on the CPU.

It would fetch networks that it lacks; it is always given files that are there, so that it never does.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...support.paths import user_path

INSTALL = "pip install rapidocr onnxruntime"


@dataclass(frozen=True)
class RapidOCRReader:
    """Lines of text found in a picture; Chinese and English with the networks of the library.

    Attributes:
        detector: an ONNX file of PaddleOCR's that finds lines; the library's own when empty.
        recogniser: an ONNX file that reads a line; the library's own when empty.
        characters: the list of the recogniser's characters, where its file does not hold it.
    """

    detector: str = ""
    recogniser: str = ""
    characters: str = ""

    def prepare(self) -> None:
        """Reads a word, for which the library reads its networks. Raises ValueError where it or a file is missing, or
        is not what it should be."""
        try:
            self.read(_word())
        except ValueError:
            raise
        except Exception as error:  # each network file has its own way to be wrong
            files = ", ".join(filter(None, (self.detector, self.recogniser, self.characters))) or "its own files"
            raise ValueError(
                f"RapidOCR cannot read with {files} ({error}): are they whole, and the right ones?"
            ) from error

    def read(self, image: np.ndarray) -> list[str]:
        """``[H, W, 3]`` uint8, red first, to its lines, from top to bottom."""
        found = self._engine(np.ascontiguousarray(image[..., ::-1]))  # blue first, as OpenCV has it
        return list(found.txts or ())

    @cached_property
    def _engine(self) -> Any:
        try:
            import onnxruntime
            import rapidocr
        except ImportError as error:
            raise ValueError(f"reading text needs RapidOCR ({error}): {INSTALL}") from error
        carried = Path(rapidocr.__file__).parent / "models"
        recogniser = _network(self.recogniser, carried, "rec")
        params = {
            "Det.model_path": str(_network(self.detector, carried, "det")),
            "Rec.model_path": str(recogniser),
            "Global.use_cls": False,  # text that stands on its head is not what a prompt asks for
            "Global.log_level": "critical",
        }
        if self.characters:
            params["Rec.rec_keys_path"] = str(_existing(self.characters))
        elif self.recogniser:
            session = onnxruntime.InferenceSession(recogniser, providers=["CPUExecutionProvider"])
            if "character" not in session.get_modelmeta().custom_metadata_map:
                raise ValueError(
                    f"{recogniser} does not hold the list of its characters: name its file as `characters`"
                )
        return rapidocr.RapidOCR(params=params)


def _word() -> np.ndarray:
    """``[H, W, 3]`` uint8, a word in black on white."""
    from PIL import ImageDraw  # which loads fonts

    picture = Image.new("RGB", (60, 24), "white")
    ImageDraw.Draw(picture).text((12, 6), "Word", fill="black")
    return np.asarray(picture.resize((240, 96)))


def _network(given: str, carried: Path, kind: str) -> Path:
    """The file given, or the library's own."""
    if given:
        return _existing(given)
    found = sorted(carried.glob(f"*_{kind}_*.onnx"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        role = {"det": "detector", "rec": "recogniser"}[kind]
        raise ValueError(
            f"expected one {role} (*_{kind}_*.onnx) in {carried}, found {names}: install RapidOCR again, or name the "
            f"file to read with as `{role}`"
        )
    return found[0]


def _existing(path: str) -> Path:
    file = user_path(path)
    if not file.is_file():
        raise ValueError(f"expected a file at {file}, found nothing: check the path")
    return file
