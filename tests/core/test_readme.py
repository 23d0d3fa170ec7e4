"""The README's words are run: its example, and its run file."""

import re
from pathlib import Path

from mixgrpo_core.cli.settings import read_toml
from mixgrpo_core.models.lora_file import load_lora
from mixgrpo_core.sampling.solvers import DPMpp2M

README = (Path(__file__).parents[2] / "README.md").read_text()


def block(language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", README, re.S).group(1)


def test_the_twelve_lines_run_and_leave_a_lora(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    code = block("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 14
    for words, cheaper in (("iterations=3", "iterations=1"), ("prompts_per_iteration=4", "prompts_per_iteration=1")):
        assert words in code
        code = code.replace(words, cheaper)
    exec(compile(code, "README.md", "exec"), {})
    assert "LoRA:" in capsys.readouterr().out
    assert load_lora(tmp_path / "runs/readme/lora/last.safetensors").rank == 8


def test_the_run_file_is_read_as_it_stands(tmp_path) -> None:
    (tmp_path / "run.toml").write_text(block("toml"))
    settings = read_toml(tmp_path / "run.toml")
    assert settings.train.planner.tail_ratio == 0.4
    assert settings.model.rank == 8
    assert settings.train.tail_solver == DPMpp2M()  # of the preset


def test_every_picture_and_page_that_is_linked_exists() -> None:
    root = Path(__file__).parents[2]
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert [link for link in links if not link.startswith("http") and not (root / link).exists()] == []
