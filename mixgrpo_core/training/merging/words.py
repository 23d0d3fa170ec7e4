"""What is said of LoRAs that become one."""

from collections.abc import Mapping

from ...models.lora_file import LoraFile
from .loop import MergeReport


def progress(report: MergeReport) -> str:
    """An update in one line, with the distance to each teacher."""
    return f"update {report.update}: loss {report.loss:.4g}; {left_words(report.distances)}"


def left_words(distances: Mapping[str, float]) -> str:
    """How far it is from each teacher, by how far the base model is."""
    return "left of the way to " + ", ".join(f"{name} {distance:.0%}" for name, distance in distances.items())


_OF_THE_MODEL = ("modelspec.sai", "modelspec.arch", "modelspec.impl", "modelspec.resol", "modelspec.pred", "ss_base")


def described(files: Mapping[str, LoraFile], rank: int, title: str) -> dict[str, str]:
    """For the header of the exact sum: what the first file says of its model, with this one's rank."""
    first = next(iter(files.values())).metadata
    kept = {key: word for key, word in first.items() if key.startswith(_OF_THE_MODEL)}
    words = f"the sum of the LoRAs {', '.join(files)}"
    about = {"modelspec.title": title, "ss_output_name": title, "ss_training_comment": words}
    return {**kept, **about, "ss_network_dim": str(rank), "ss_network_alpha": str(rank)}
