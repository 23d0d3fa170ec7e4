"""``locales/en`` holds the texts of the nodes as they are."""

import json

import pytest
from make_locales import ENGLISH, files, node_texts
from mixgrpo_pack.nodes import NODES


def test_the_files_are_up_to_date():
    for name, content in files(NODES).items():
        assert (ENGLISH / name).read_text(encoding="utf-8") == content, "run scripts/make_locales.py"


def test_inputs_inside_dynamic_ones_are_found_by_the_names_that_the_page_gives_them():
    texts = json.loads(files(NODES)["nodeDefs.json"])
    assert texts["MixGRPO_TrainerSettings"]["inputs"]["details_steps"]["name"] == "steps"
    assert "steps" not in texts["MixGRPO_TrainerSettings"]["inputs"]
    assert texts["MixGRPO_CombineRewards"]["inputs"]["rewards_reward1"]["tooltip"].startswith("A reward;")


def test_a_text_that_the_page_would_change_is_refused():
    info = {"name": "A", "display_name": "a | b", "description": "", "input": {}, "output_name": []}
    with pytest.raises(ValueError, match=r"without @ \{ \} \|.*found: a \| b"):
        node_texts({**info, "output_tooltips": []})
