"""What the server tells of the pack's nodes: it is complete, and workflows that people saved still fit.

``nodes.json`` is what saved workflows rely on. After a change of nodes, ``make accept-nodes`` writes it anew; look at
its diff: what is only added harms nobody, what is renamed, removed or moved breaks the workflows of users.
"""

import json
import urllib.request
from itertools import pairwise
from pathlib import Path

import pytest
from comfy_client import Client

SNAPSHOT = Path(__file__).with_name("nodes.json")
WEB = Path(__file__).resolve().parents[3] / "web"
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}


def pack_nodes(client):
    """The pack's part of /object_info, by node id."""
    every = client.get("/object_info")
    return {name: info for name, info in every.items() if info["python_module"] == "custom_nodes.mixgrpo"}


@pytest.fixture(scope="module")
def nodes(host):
    return pack_nodes(Client(host.address))


def inputs_of(groups, prefix=""):
    """(name, type, options dict, needed) of every input in order, those inside dynamic inputs included."""
    for needed in ("required", "optional"):
        for name, (kind, *options) in groups.get(needed, {}).items():
            options = options[0] if options else {}
            yield prefix + name, kind, options, needed == "required"
            if kind == "COMFY_DYNAMICCOMBO_V3":
                for option in options["options"]:
                    yield from inputs_of(option["inputs"], f"{prefix}{name}.{option['key']}.")
            elif "template" in options:
                yield from inputs_of(options["template"]["input"], f"{prefix}{name}.")


FILES = (".safetensors", ".sft", ".pt", ".txt", ".jsonl")
"""Choices that are files: they come and go with what lies on the machine, and with what other tests leave there."""


def summary(info):
    """What a saved workflow relies on: names, order and types of inputs, choices of a list, places of outputs."""
    inputs = {}
    for name, kind, options, needed in inputs_of(info["input"]):
        inputs[name] = {"type": kind, "required": needed}
        if "options" in options:
            choices = [c["key"] if isinstance(c, dict) else c for c in options["options"]]
            inputs[name]["choices"] = [c for c in choices if not str(c).endswith(FILES)]
        if "template" in options:
            inputs[name]["named"] = options["template"].get("prefix") or options["template"].get("names")
    return {"inputs": inputs, "outputs": [list(pair) for pair in zip(info["output_name"], info["output"], strict=True)]}


def changes(old, new):
    """Sentences: (what breaks workflows that were saved with ``old``, what is only new)."""
    broken = [f"{node} is gone" for node in old if node not in new]
    added = [f"{node} is new" for node in new if node not in old]
    for node in old.keys() & new.keys():
        for harm, words in _input_changes(old[node]["inputs"], new[node]["inputs"]):
            (broken if harm else added).append(f"{node}: {words}")
        before, after = old[node]["outputs"], new[node]["outputs"]
        if after[: len(before)] != before:
            broken.append(f"{node}: links hold outputs by their place; they were {before}, and are {after}")
        elif after != before:
            added.append(f"{node}: new outputs {after[len(before) :]}")
    return sorted(broken), sorted(added)


def _input_changes(old, new):
    for name, before in old.items():
        after = new.get(name)
        if after is None:
            yield True, f"input {name} is gone"
            continue
        for key in ("type", "named"):
            if before.get(key) != after.get(key):
                yield True, f"the {key} of input {name} was {before.get(key)}, and is {after.get(key)}"
        if after["required"] and not before["required"]:
            yield True, f"input {name} was optional, and is required"
        gone = [c for c in before.get("choices", ()) if c not in after.get("choices", ())]
        if gone:
            yield True, f"input {name} lost the choices {gone}"
        if fresh := [c for c in after.get("choices", ()) if c not in before.get("choices", ())]:
            yield False, f"input {name} has the new choices {fresh}"
    for name in new.keys() - old.keys():
        socket = new[name]["type"] not in WIDGETS
        yield socket and new[name]["required"], f"input {name} is new" + " and required" * new[name]["required"]
    for before, after in pairwise([name for name in new if new[name]["type"] in WIDGETS and "." not in name]):
        if after in old and before not in old:
            yield True, f"input {before} comes before {after}: widgets are saved by their place, so put it behind"
    kept = [name for name in old if name in new]
    order = [name for name in new if name in old]
    if kept != order:
        yield True, f"the order of inputs was {kept}, and is {order}"


def test_workflows_that_were_saved_still_fit(nodes, request):
    found = {name: summary(info) for name, info in sorted(nodes.items())}
    if request.config.getoption("--accept-nodes"):
        SNAPSHOT.write_text(json.dumps(found, indent=1) + "\n")
    broken, added = changes(json.loads(SNAPSHOT.read_text()), found)
    assert not broken, "this breaks workflows that users saved:\n" + "\n".join(broken)
    assert not added, "if this is wanted, run `make accept-nodes`:\n" + "\n".join(added)


def node(*outputs, **inputs):
    """A node in the form of the snapshot; an input is its type, a list of choices, or a dict."""
    full = {}
    for name, what in inputs.items():
        choices = {"type": "COMBO", "choices": what} if isinstance(what, list) else {"type": what}
        full[name] = {"required": True, **choices} if not isinstance(what, dict) else what
    return {"A": {"inputs": full, "outputs": list(map(list, outputs))}}


BEFORE = node(("image", "IMAGE"), model="MODEL", steps="INT", kind=["slow", "fast"])


@pytest.mark.parametrize(
    "after, words",
    [
        ({}, "A is gone"),
        (node(("image", "IMAGE"), model="MODEL", count="INT", kind=["slow", "fast"]), "input steps is gone"),
        (node(("image", "IMAGE"), model="MODEL", steps="FLOAT", kind=["slow", "fast"]), "was INT, and is FLOAT"),
        (node(("image", "IMAGE"), model="MODEL", steps="INT", kind=["slow"]), "lost the choices ['fast']"),
        (node(("image", "IMAGE"), model="MODEL", kind=["slow", "fast"], steps="INT"), "the order of inputs"),
        (node(("image", "IMAGE"), model="MODEL", new="INT", steps="INT", kind=["slow", "fast"]), "put it behind"),
        (node(("image", "IMAGE"), **BEFORE["A"]["inputs"], vae="VAE"), "input vae is new and required"),
        (node(("mask", "MASK"), ("image", "IMAGE"), **BEFORE["A"]["inputs"]), "links hold outputs by their place"),
        (node(**BEFORE["A"]["inputs"]), "links hold outputs by their place"),
    ],
)
def test_the_guard_sees_what_breaks_a_saved_workflow(after, words):
    assert any(words in sentence for sentence in changes(BEFORE, after)[0])


@pytest.mark.parametrize(
    "after",
    [
        BEFORE | {"B": BEFORE["A"]},
        node(("image", "IMAGE"), **BEFORE["A"]["inputs"], seed="INT"),
        node(("image", "IMAGE"), vae={"type": "VAE", "required": False}, **BEFORE["A"]["inputs"]),
        node(("image", "IMAGE"), model="MODEL", steps="INT", kind=["slow", "faster", "fast"]),
        node(("image", "IMAGE"), ("mask", "MASK"), **BEFORE["A"]["inputs"]),
    ],
)
def test_the_guard_lets_additions_be_accepted(after):
    broken, added = changes(BEFORE, after)
    assert broken == [] and len(added) == 1


def test_every_node_says_what_it_is(nodes):
    silent = [
        f"{name}: {key}" for name, info in nodes.items() for key in ("display_name", "description") if not info[key]
    ]
    silent += [f"{name}: category {info['category']}" for name, info in nodes.items() if not _ours(info["category"])]
    assert silent == []
    assert len(nodes) > 5 and all(name.startswith("MixGRPO_") for name in nodes)


def _ours(category):
    return category.split("/")[0] == "MixGRPO"


def test_every_input_has_a_tooltip(nodes):
    silent = [
        f"{name}.{field}"
        for name, info in nodes.items()
        for field, _, options, _ in inputs_of(info["input"])
        if not options.get("tooltip", "").strip()
    ]
    assert silent == []


def test_every_node_has_a_page_of_help(nodes, client):
    assert [name for name in nodes if not (WEB / "docs" / f"{name}.md").is_file()] == []
    for name in nodes:
        assert client.request(f"/extensions/mixgrpo/docs/{name}.md").strip()


def test_every_script_is_loaded_once_by_the_page(client):
    loaded = [place for place in client.get("/extensions") if "/mixgrpo" in place]
    there = {"/extensions/mixgrpo/" + path.relative_to(WEB).as_posix() for path in WEB.rglob("*.js")}
    assert len(there) > 0
    assert sorted(loaded) == sorted(there)
    for place in loaded:
        assert client.request(place)


def test_no_script_is_kept_by_a_browser_without_asking(host):
    """Else an update would mix old modules with new ones."""
    kept = {}
    for path in [*WEB.rglob("*.mjs"), *WEB.rglob("*.js"), *WEB.rglob("*.css"), *(WEB / "docs").glob("*.md")]:
        place = path.relative_to(WEB).as_posix()
        with urllib.request.urlopen(f"{host.address}/extensions/mixgrpo/{place}") as reply:
            kept[place] = reply.headers["Cache-Control"]
    assert set(kept.values()) == {"no-store", "no-cache"} and kept["live/view.mjs"] == "no-cache"


def test_nothing_of_the_pack_is_complained_about_in_the_log(host):
    whole = host.log.read_text(encoding="utf-8", errors="replace")
    log = whole.partition("To see the GUI")[0].splitlines()  # until it serves: later lines are of what tests ask
    assert [line for line in log if "mixgrpo" in line.lower() and ("[WARN" in line or "[ERROR" in line)] == []
    assert any("custom_nodes/mixgrpo" in line and "seconds:" in line for line in log), "the pack's line of import times"
