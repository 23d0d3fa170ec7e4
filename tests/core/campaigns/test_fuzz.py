"""Thousands of mutated inputs: each is taken, or refused in a sentence, in bounded memory and time, in its own folder.

A case is made from its number alone. A failing one is kept in ``.long/failed``; mended ones become tests of their own.
"""

import pytest
from campaigns.fuzz import fuzz, told, wanted
from campaigns.progress import Teller


def failed_of(request, folder, part, target):
    return fuzz(part, target, wanted(request.config, part), folder, Teller(request.config))


@pytest.mark.long("fuzz-run-files")
def test_run_files(request, tmp_path):
    from campaigns.run_files import RunFiles

    failed = failed_of(request, tmp_path, "fuzz-run-files", RunFiles())
    assert not failed, told(failed, "fuzz-run-files")


@pytest.mark.long("fuzz-prompts")
def test_prompt_files(request, tmp_path):
    from campaigns.prompt_files import PromptFiles

    failed = failed_of(request, tmp_path, "fuzz-prompts", PromptFiles())
    assert not failed, told(failed, "fuzz-prompts")


@pytest.mark.long("fuzz-loras")
def test_lora_files(request, tmp_path):
    from campaigns.lora_files import LoraFiles

    failed = failed_of(request, tmp_path, "fuzz-loras", LoraFiles(tmp_path))
    assert not failed, told(failed, "fuzz-loras")


@pytest.mark.long("fuzz-checkpoints")
def test_run_folders(request, tmp_path):
    from campaigns.run_folders import RunFolders

    failed = failed_of(request, tmp_path, "fuzz-checkpoints", RunFolders(tmp_path))
    assert not failed, told(failed, "fuzz-checkpoints")


@pytest.mark.long("fuzz-rewards")
def test_reward_weights(request, tmp_path):
    from campaigns.reward_weights import RewardWeights

    failed = failed_of(request, tmp_path, "fuzz-rewards", RewardWeights(tmp_path))
    assert not failed, told(failed, "fuzz-rewards")


@pytest.mark.long("fuzz-judges")
def test_judges_answers(request, tmp_path):
    from campaigns.judge_answers import JudgeAnswers

    failed = failed_of(request, tmp_path, "fuzz-judges", JudgeAnswers())
    assert not failed, told(failed, "fuzz-judges")
