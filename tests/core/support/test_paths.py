"""Paths as people write them."""

import shlex
from pathlib import Path
from urllib.parse import quote

import pytest

from mixgrpo_core.rewards import HPSv2
from mixgrpo_core.support.paths import in_link, in_shell, user_path


def test_home_folders():
    assert user_path("~/a") == Path.home() / "a" and user_path("b/~") == Path("b/~")
    with pytest.raises(ValueError, match="'~nosuchuser/a': write the whole path"):
        user_path("~nosuchuser/a")


def test_a_reward_of_nobodys_home():
    with pytest.raises(ValueError, match="no home folder"):
        HPSv2("~nosuchuser/hps.safetensors").prepare(["a"])


@pytest.mark.parametrize("path", ["runs/a-1.0", "runs/Ada's", "my runs/a; b", "C:/run & run"])
def test_a_path_in_a_sentence_can_be_copied_into_a_shell(path):
    assert shlex.split(f"mixgrpo resume {in_shell(Path(path))}") == ["mixgrpo", "resume", str(Path(path))]
    assert in_shell(Path("runs/a-1.0")) == "runs/a-1.0"


@pytest.mark.parametrize("name", ["Ada's lora-last-README.md", "Künstler (2).png", "漢字 100%.png", "a_b-c.~d/e.png"])
def test_a_name_in_a_link_is_written_as_addresses_are(name):
    assert in_link(name) == quote(name)
