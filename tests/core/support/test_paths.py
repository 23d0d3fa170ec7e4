"""Paths as people write them."""

from pathlib import Path

import pytest

from mixgrpo_core.rewards import HPSv2
from mixgrpo_core.support.paths import user_path


def test_home_folders():
    assert user_path("~/a") == Path.home() / "a" and user_path("b/~") == Path("b/~")
    with pytest.raises(ValueError, match="'~nosuchuser/a': write the whole path"):
        user_path("~nosuchuser/a")


def test_a_reward_of_nobodys_home():
    with pytest.raises(ValueError, match="no home folder"):
        HPSv2("~nosuchuser/hps.safetensors").prepare(["a"])
