"""Makes ``locales/en``: the texts of the nodes under the keys by which ComfyUI's frontend looks for a translation.

    .host/venv/bin/python scripts/make_locales.py                # with the ComfyUI of `make host`
    .host/venv/bin/python scripts/make_locales.py PATH           # with a ComfyUI of yours, and its Python

``nodeDefs.json`` has an entry per node: ``inputs`` by id and ``outputs`` by place, each with ``name`` and ``tooltip``.
An input inside a dynamic one is ``outer_inner``: the frontend names it ``outer.inner``, and a dot would start a level
of its own. ``main.json`` names the menu's categories. A translator copies the folder and changes the texts.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from comfyui_host.in_process import ROOT, load_pack

ENGLISH = ROOT / "locales" / "en"
_SYNTAX = re.compile(r"[@{}|]")  # links, parameters and plurals in messages of the page; tooltips have none


def main(comfyui: str = str(ROOT / ".host" / "ComfyUI-0.30.0")) -> None:
    load_pack(comfyui)
    ENGLISH.mkdir(parents=True, exist_ok=True)
    for name, content in files(import_module("mixgrpo_pack.nodes").NODES).items():
        (ENGLISH / name).write_text(content, encoding="utf-8")


def files(nodes: list[Any]) -> dict[str, str]:
    """What the files of ``locales/en`` contain, by their names."""
    infos = [node.GET_NODE_INFO_V1() for node in nodes]
    words = sorted({word for info in infos for word in info["category"].split("/")})
    contents = {
        "main.json": {"nodeCategories": {word: word for word in words}},
        "nodeDefs.json": {info["name"]: node_texts(info) for info in sorted(infos, key=lambda info: info["name"])},
    }
    return {name: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for name, content in contents.items()}


def node_texts(info: Mapping[str, Any]) -> dict[str, Any]:
    """The translatable texts of a node, from what /object_info tells of it.

    Raises:
        ValueError: the frontend would not show a text as it is written.
    """
    inputs = {
        name.replace(".", "_"): _named(options.get("display_name") or own, options.get("tooltip"))
        for name, own, options in _inputs(info["input"])
    }
    outputs = {
        str(place): _named(name, tooltip)
        for place, (name, tooltip) in enumerate(zip(info["output_name"], info["output_tooltips"], strict=True))
    }
    own = {"display_name": _shown(info["display_name"]), "description": _shown(info["description"])}
    return {**own, "inputs": inputs, **({"outputs": outputs} if outputs else {})}


def _inputs(groups: Mapping[str, Any], outer: str = "") -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(full name, own name, options) of every input, those inside dynamic ones included."""
    for group in ("required", "optional"):
        for own, (kind, *rest) in groups.get(group, {}).items():
            options, name = rest[0] if rest else {}, outer + own
            yield name, own, options
            if kind == "COMFY_DYNAMICCOMBO_V3":
                for option in options["options"]:
                    yield from _inputs(option["inputs"], f"{name}.")
            elif kind == "COMFY_AUTOGROW_V3":
                yield from _grown(options["template"], name)


def _grown(template: Mapping[str, Any], outer: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """All the inputs that an input can grow to: ``prefix0``, ``prefix1``, ... or those of a list of names."""
    [[_, _, options]] = _inputs(template["input"])
    for own in template.get("names") or [f"{template['prefix']}{number}" for number in range(template["max"])]:
        yield f"{outer}.{own}", own, options


def _named(name: str, tooltip: str | None) -> dict[str, str]:
    return {"name": _shown(name), **({"tooltip": tooltip} if tooltip else {})}


def _shown(text: str) -> str:
    if _SYNTAX.search(text):
        raise ValueError(f"expected a text without @ {{ }} |, which mean something in translations, found: {text}")
    return text


if __name__ == "__main__":
    main(*sys.argv[1:])
