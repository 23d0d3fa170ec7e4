"""Run files that a fuzz found to end without a sentence, or in one that quoted all of them."""

import pytest

from mixgrpo_core.cli import main
from mixgrpo_core.cli.settings import read_toml


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("preset = []", "unknown preset"),
        ("preset = {a = 1}", "unknown preset"),
        ("rewards = " + "[" * 3000 + "]" * 3000, "too deep"),
        ("[train]\niterations = " + "9" * 5000, "not a TOML file"),
        ("[train]\nlearning_rate = 1" + "0" * 400, "learning_rate"),
        ("[train]\nreward_weights = {a = 1" + "0" * 400 + "}", "reward_weights expects a table"),
        ("[train]\nsteps = 1" + "0" * 30, "steps must be at least 1 and below"),
        ("[train]\neval_steps = 1" + "0" * 30, "eval_steps must be"),
        ("[train]\nupdate_batch = 1" + "0" * 18, "update_batch must be"),
        ("[train]\nprompts_per_iteration = 9007199254740993", "prompts_per_iteration must be"),
        ("[train]\nimages_per_prompt = 9007199254740993", "images_per_prompt must be"),
        ("[model]\nrank = 1" + "0" * 30, "rank must be"),
        (f'[train]\nupdates = "{"x" * 50_000}"', "updates expects a whole number"),
        (f'[train]\nobjective = "GRPO(adv_clip=1{"0" * 30})"', "of more than 64 bits"),
        (f'[train]\nkernel = "{"(" * 5000}"', "expected a call"),
        (f'[train]\nkernel = "{"x" * 50_000}()"', "unknown class"),
        (f"[train]\n{'x' * 20_000} = 1", "unknown setting"),
        (f"[prompts]\n{'x' * 20_000} = 1", "unknown setting prompts.xxx"),
        (f"{'x' * 20_000} = 1", "unknown table or key"),
    ],
    ids=lambda text: text[:30],
)
def test_it_is_told_in_a_short_sentence(tmp_path, text, words):
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(ValueError, match=words) as told:
        read_toml(tmp_path / "run.toml")
    assert len(str(told.value)) < 1500


def test_an_endless_path_is_told_in_a_short_sentence(tmp_path, capsys):
    (tmp_path / "run.toml").write_text(
        f'''[model]\nfolder = "{"x" * 5000}"\n[prompts]\ntrain = ["a"]\n[rewards]\nred = "PixelReward(Brightness())"'''
    )
    assert main(["train", str(tmp_path / "run.toml"), "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("mixgrpo train: ") and len(told) < 1500
