"""The README's example is run, and the run file of the page on the command line is read."""

import re
from pathlib import Path

from mixgrpo_core.cli.settings import read_toml
from mixgrpo_core.models.lora_file import load_lora
from mixgrpo_core.sampling.solvers import DPMpp2M

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = (ROOT / "docs" / "command-line.md").read_text()


def block(language: str, page: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", page, re.S).group(1)


def test_the_twelve_lines_run_and_leave_a_lora(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    code = block("python", README)
    assert len([line for line in code.splitlines() if line.strip()]) <= 14
    for words, cheaper in (("iterations=3", "iterations=1"), ("prompts_per_iteration=4", "prompts_per_iteration=1")):
        assert words in code
        code = code.replace(words, cheaper)
    exec(compile(code, "README.md", "exec"), {})
    assert "LoRA:" in capsys.readouterr().out
    assert load_lora(tmp_path / "runs/readme/lora/last.safetensors").rank == 8


def test_the_run_file_is_read_as_it_stands(tmp_path) -> None:
    (tmp_path / "run.toml").write_text(block("toml", COMMANDS))
    settings = read_toml(tmp_path / "run.toml")
    assert settings.train.planner.tail_ratio == 0.4
    assert settings.model.rank == 8
    assert settings.train.tail_solver == DPMpp2M()  # of the preset


def test_every_picture_and_page_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []
