"""The node of the site's page "Add a node": read as a file of the pack, called, and seen by ComfyUI's own schema."""

import sys
from types import ModuleType

from mixgrpo_pack.mixgrpo_core.rewards import RewardBatch
from site_pages import DOCS, blocks
from torch import full


def test_the_node_of_the_page_is_a_node_that_rewards_dark_images(monkeypatch):
    [block] = blocks(DOCS / "add" / "node.md")
    name = "mixgrpo_pack." + block.file.removesuffix(".py").replace("/", ".")
    module = ModuleType(name)
    module.__package__ = name.rpartition(".")[0]
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(block.text, block.file, "exec"), vars(module))
    node = module.DarknessReward
    assert node.GET_SCHEMA().node_id == "MixGRPO_DarknessReward"
    [rewards] = node.execute(brightness=0.2, weight=2.0).args
    assert rewards.weights == {"darkness": 2.0}
    images = full((2, 8, 8, 3), 0.2)
    images[1] = 0.9
    scores = rewards.rewards["darkness"](RewardBatch(images=images, prompts=("a", "a")))
    assert scores.values[0] > scores.values[1]
