"""How an example workflow is told: columns of nodes with a key, from left to right, and wires between them."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Story:
    """One example workflow; ``name`` is its file's. Where nodes stand follows from their columns and real heights."""

    name: str
    columns: list[dict[str, int]] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    wires: list[tuple[str, str, str, str]] = field(default_factory=list)

    def column(self, width: int, top: int = 0, *, gap: int = 60) -> None:
        """Begin the next column, ``gap`` behind the last; its nodes stand one below the other from ``top`` on.

        A wire that passes over a column needs that column to begin below it, and long ones side by side a wide gap.
        """
        self.columns.append({"width": width, "top": top, "gap": gap if self.columns else 0})

    def node(
        self,
        key: str,
        type: str,
        values: dict[str, Any] | None = None,
        *,
        height: int = 0,
        title: str = "",
        mode: int = 0,
        collapsed: bool = False,
        **inputs: str,
    ) -> None:
        """Add a node to the column, no lower than it needs to be; ``inputs`` are wires, ``input="key.output name"``."""
        place = {"column": len(self.columns) - 1, "height": height, "title": title}
        told = {"key": key, "type": type, "values": values or {}, "mode": mode, "collapsed": collapsed}
        self.nodes.append({**told, **place})
        self.wires += [(*source.split(".", 1), key, name) for name, source in inputs.items()]

    def note(self, height: int, text: str) -> None:
        """Words on the canvas, as Markdown."""
        self.node(f"note {len(self.nodes)}", "MarkdownNote", {"": text}, height=height, title="Read me")

    def rewards(self, *keys: str) -> None:
        """Combine Rewards, of the rewards that have these keys."""
        self.node("both", "MixGRPO_CombineRewards")
        self.wires += [(key, "reward", "both", f"rewards.reward{place}") for place, key in enumerate(keys)]

    def plain(self) -> dict[str, Any]:
        return asdict(self)
