"""One mistake in each input of each node: one message, at that input. What the nodes are is asked of the server."""

import json
import shutil

import pytest
from comfy_client import Client, Graph, Refused

TEXTS = {"prompts": "a\nb\nc", "prompt": "a", "description": "a cat"}
WRONG_TEXTS = {"prompts": "", "colours": "red", "run_name": "a//b", "name": "a//b"}
"""Where a text can be wrong."""
GROUPS = ("COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3")
SHOWN_BY_HAND = "set by hand"  # its inputs are optional, and tests of the settings have them


@pytest.fixture
def files(host):
    """Names for the choices of files and of runs; nothing reads them."""
    models, loras = host.base / "models" / "reward_models", host.base / "models" / "loras"
    for path in (models / "ImageReward.pt", models / "vocab.txt", models / "head.pth", loras / "any.safetensors"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    judge = models / "judge"
    judge.mkdir()
    (judge / "config.json").write_text(json.dumps({"model_type": "qwen2_vl"}))
    (judge / "model.safetensors").touch()
    run = host.base / "output" / "mixgrpo" / "voted-on"
    for path in (run / "config.json", run / "votes" / "000000-000-00000000.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    yield
    shutil.rmtree(run)
    shutil.rmtree(models)
    (loras / "any.safetensors").unlink()


def described(groups, prefix=""):
    """Name, kind and options of each input, and whether it is required."""
    for group in ("required", "optional"):
        for name, (kind, *more) in groups.get(group, {}).items():
            options = more[0] if more else {}
            if isinstance(kind, list):
                kind, options = "COMBO", {"options": kind, **options}
            yield prefix + name, kind, options, group == "required"


def slots(options):
    """Name and kind of the slots that a list of inputs needs."""
    template = options["template"]
    [(_, kind, _, _)] = described(template["input"])
    return [(f"{template['prefix']}{place}", kind) for place in range(template["min"])]


class Mistakes:
    """A workflow of nodes with one mistake each; ``at`` is the input at fault by the node's id."""

    def __init__(self, nodes):
        self.nodes, self.graph, self.at = nodes, Graph(), {}
        demo, image = self.graph.add("MixGRPO_DemoModel"), self._add("EmptyImage", batch_size=1, color=0)
        self.sources = {"MODEL": demo[0], "CLIP": demo[1], "VAE": demo[2], "IMAGE": image[0]}
        self.sources["MASK"] = self._add("SolidMask", value=1.0)[0]
        makers = {"REWARD": "DemoReward", "WINDOW": "Window", "PROMPTS": "PromptSet", "TEACHER": "LoraTeacher"}
        for kind, name in makers.items():
            self.sources[f"MIXGRPO_{kind}"] = self.right(f"MixGRPO_{name}")[0]
        self.sources["MIXGRPO_SETTINGS"] = self.right("MixGRPO_TrainerSettings")[0]
        lora = self.right("MixGRPO_ConvertLora", layout="none of these")  # else it would run
        self.sources["LORA_MODEL"], self.at[lora.id] = lora[0], "layout"

    def _add(self, name, **values):
        return self.graph.add(name, width=64, height=64, **values)

    def values(self, inputs, chosen=None):
        """Good values of the required inputs; of a group of choices those of ``chosen``, else the first."""
        found = {}
        for name, kind, options, required in inputs:
            if kind == GROUPS[0]:
                one = next(one for one in options["options"] if chosen in (None, one["key"]))
                found |= {name: one["key"], **self.values(described(one["inputs"], f"{name}."))}
            elif kind == GROUPS[1]:
                found |= {f"{name}.{slot}": self.sources[of] for slot, of in slots(options)}
            elif required:
                found[name] = self._value(name, kind, options)
        return found

    def _value(self, name, kind, options):
        if kind == "STRING":
            return TEXTS.get(name, options.get("default", ""))
        if kind in ("COMBO", "INT", "FLOAT", "BOOLEAN"):
            return options.get("default", next(iter(options.get("options", ())), 0))
        return self.sources[kind]

    def _wrong(self, name, kind, options):
        if kind in ("INT", "FLOAT"):
            return options["min"] - 1
        if kind in ("COMBO", GROUPS[0]):
            return "none of these"
        if kind in ("STRING", "BOOLEAN"):
            return WRONG_TEXTS.get(name)
        return self.sources["VAE" if kind == "CLIP" else "CLIP"]

    def right(self, name, **values):
        return self.graph.add(name, **{**self.values(described(self.nodes[name]["input"])), **values})

    def of(self, name):
        """All mistakes in the inputs of a node."""
        inputs = list(described(self.nodes[name]["input"]))
        self._in(name, self.values(inputs), inputs)
        for group, kind, options, _ in inputs:
            for one in options["options"] if kind == GROUPS[0] else ():
                if one["key"] != SHOWN_BY_HAND:
                    self._in(name, self.values(inputs, one["key"]), list(described(one["inputs"], f"{group}.")))

    def _in(self, name, good, inputs):
        for place, kind, options, required in inputs:
            wrong = self._wrong(place, kind, options)
            place = f"{place}.{slots(options)[0][0]}" if kind == GROUPS[1] else place
            if wrong is not None:
                self._one(name, place, {**good, place: wrong})
            if required:
                self._one(name, place, {one: value for one, value in good.items() if one != place})

    def _one(self, name, place, values):
        node = self.graph.add(name, **values)
        self.at[node.id] = place
        if not self.nodes[name]["output_node"]:
            self.graph.add("PreviewAny", source=node[0])


def test_a_mistake_in_any_input_of_any_node_is_one_message_at_that_input(host, client, files):
    every = client.get("/object_info")
    nodes = {name: about for name, about in every.items() if about["python_module"] == "custom_nodes.mixgrpo"}
    mistakes = Mistakes(nodes)
    for name in nodes:
        mistakes.of(name)
    with Client(host.address) as other, pytest.raises(Refused) as refusal:
        other.interrupt(other.queue(mistakes.graph))  # where something passes, it does not run on
    found = {
        node: [error["extra_info"].get("input_name") for error in about["errors"]]
        for node, about in refusal.value.node_errors.items()
        if about["errors"]
    }
    assert len(mistakes.at) > 250
    assert {node: ([place], mistakes.graph[node]["class_type"]) for node, place in mistakes.at.items()} == {
        node: (places, mistakes.graph[node]["class_type"]) for node, places in found.items()
    }
