"""How an example workflow is told: nodes with a key, wires between them, groups around them."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Story:
    """One example workflow; ``name`` is its file's."""

    name: str
    nodes: list[dict[str, Any]] = field(default_factory=list)
    wires: list[tuple[str, str, str, str]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)

    def node(
        self,
        key: str,
        type: str,
        at: tuple[int, int],
        values: dict[str, Any] | None = None,
        *,
        size: tuple[int, int] | None = None,
        title: str = "",
        **inputs: str,
    ) -> None:
        """Add a node; ``inputs`` are wires, ``input="key.output name"``."""
        self.nodes.append({"key": key, "type": type, "at": at, "values": values or {}, "size": size, "title": title})
        self.wires += [(*source.split(".", 1), key, name) for name, source in inputs.items()]

    def note(self, at: tuple[int, int], size: tuple[int, int], text: str) -> None:
        """Words on the canvas, as Markdown."""
        self.node(f"note {len(self.nodes)}", "MarkdownNote", at, {"": text}, size=size, title="Read me")

    def group(self, title: str, bounds: tuple[int, int, int, int], color: str = "#3f789e") -> None:
        self.groups.append({"title": title, "bounds": bounds, "color": color})

    def plain(self) -> dict[str, Any]:
        return asdict(self)
