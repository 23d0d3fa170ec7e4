"""Every key of a run file with a value of every TOML type, through the command itself: one sentence, no traceback."""

from dataclasses import fields

import pytest

from mixgrpo_core.cli import main
from mixgrpo_core.cli.model_config import ModelConfig
from mixgrpo_core.cli.settings import PromptConfig, RunConfig
from mixgrpo_core.settings.config import TrainConfig

VALUES = ['"x"', "3", "-7", "1.5", "nan", "true", "[]", "{}", "[1]", "[[]]", "{ a = 1 }", "2026-01-01", f"{10**25}"]
TABLES = {"model": ModelConfig, "prompts": PromptConfig, "train": TrainConfig}
KEYS = [("", name) for name in ("preset", *(item.name for item in fields(RunConfig)))]
KEYS += [(table, item.name) for table, cls in TABLES.items() for item in fields(cls)]
KEYS += [("rewards", "any"), ("train", "combination"), ("train", "no_setting")]


@pytest.mark.parametrize("table", ["", "rewards", *TABLES])
def test_every_value_of_every_key_ends_in_one_sentence(tmp_path, monkeypatch, capsys, table):
    """Values that are right end in one, too: there are no prompts."""
    monkeypatch.chdir(tmp_path)
    for key in (name for where, name in KEYS if where == table):
        for value in VALUES:
            (tmp_path / "run.toml").write_text(f"[{table}]\n{key} = {value}\n" if table else f"{key} = {value}\n")
            assert main(["train", "run.toml"]) == 2, (key, value)
            told = capsys.readouterr().err
            assert told.startswith("mixgrpo train: ") and told.count("\n") == 1 and len(told) < 1500, (key, value, told)
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]
