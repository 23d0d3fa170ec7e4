"""A judge behind an address looks at a group on the canvas while the next ones are made, and Stop gives it up."""

import threading
import time

import comfy.model_management
import pytest
import torch
from canvas import loaded, prompt_set, short_config
from judge_server import JudgeServer
from mixgrpo_pack.nodes.live.board import board
from mixgrpo_pack.nodes.rewards.judge import JudgeNode
from mixgrpo_pack.nodes.sockets import TrainerSettings
from test_judge_node import YES_NO, endpoints, sure
from test_live import ears, output
from test_votes import Queued, metrics

__all__ = ["ears", "endpoints", "output"]

STEPS, GROUPS = 4, 3


@pytest.fixture(scope="module")
def parts():
    return loaded()


def queue(parts, name):
    """Fewer rows in a call than there are groups: were these scored in turn, not all would be made before the first."""
    model, clip, vae = parts
    train = short_config(
        iterations=1, eval_every=0, prompts_per_iteration=GROUPS, rollout_batch=2, steps=STEPS, updates=1
    )
    settings = TrainerSettings(train=train, width=64, height=64, rank=2, alpha=4, checkpointing=False)
    rewards = JudgeNode.execute("endpoint: lamp", YES_NO, "", 0, 1.0).args[0]
    with torch.inference_mode():
        return Queued.execute(model, vae, prompt_set(clip), rewards, settings, name, "none")


def steps_done(name):
    """Of the rollouts of the run's iteration; None where it has not begun."""
    run = board.find(name)
    progress = None if run is None else run.snapshot()["progress"]
    return None if progress is None else progress["done"]


def within(true, seconds=10):
    stop = time.monotonic() + seconds
    while not true() and time.monotonic() < stop:
        time.sleep(0.01)
    return bool(true())


def test_the_next_groups_are_made_while_a_judge_looks(parts, output, ears, endpoints):
    ahead = []

    def slow(asked):
        if steps_done("judged") is not None:  # a first question comes before the run
            ahead.append(within(lambda: steps_done("judged") == STEPS * GROUPS))
        return sure(asked)

    with JudgeServer(slow) as server:
        endpoints(f'[lamp]\nurl = "{server.url}"\n')
        queue(parts, "judged")
    assert all(ahead) and len(ahead) == 4 * GROUPS, "all groups are rolled out before the first image has its score"
    assert metrics(output, "judged")[0]["rewards"]["lamp"]["valid"] == 4 * GROUPS


def test_stop_gives_up_what_the_judge_was_asked_and_the_run_can_be_queued_again(parts, output, ears, endpoints):
    stopped, during = threading.Event(), []

    def stuck(asked):
        if steps_done("given up") is not None and not stopped.is_set():
            comfy.model_management.interrupt_current_processing()
            during.append(asked.number)
            stopped.wait(20)
        return sure(asked)

    with JudgeServer(stuck) as server:
        endpoints(f'[lamp]\nurl = "{server.url}"\n')
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            queue(parts, "given up")
        assert not stopped.is_set() and during, "it is over though the judge has not answered"
        asked = len(server.asked)
        stopped.set()
        assert len(during) <= 4, "no other group was asked about"
        assert [data["state"] for data in ears.named("mixgrpo.status")][-1] == "interrupted"
        assert not (output / "mixgrpo" / "given up" / "metrics.jsonl").exists() or not metrics(output, "given up")
        time.sleep(0.3)
        assert len(server.asked) == asked, "and nothing more is asked"
        comfy.model_management.interrupt_current_processing(False)  # as the host does before a prompt
        queue(parts, "given up")
    assert metrics(output, "given up")[0]["rewards"]["lamp"]["valid"] == 4 * GROUPS
