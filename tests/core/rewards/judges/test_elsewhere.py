"""Rewards of another process: a real server of them on this machine, asked by real runs."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import torch
from mixgrpo_judge.__main__ import main
from mixgrpo_judge.batches import NoBatch, packed, unpacked
from mixgrpo_judge.serving import Served, ServingError, Settings
from toy import ToyModel

from mixgrpo_core.rewards import PixelReward, RewardElsewhere
from mixgrpo_core.rewards.judges import Endpoint
from mixgrpo_core.rewards.pixels.measures import Brightness
from mixgrpo_core.rewards.port import RewardBatch
from mixgrpo_core.rewards.scoring import score
from mixgrpo_core.settings.config import TrainConfig
from mixgrpo_core.training.loop import train

REWARDS = """
listen = "127.0.0.1:0"
key = "a-key"
[rewards]
bright = "PixelReward(Brightness())"
"a b" = "PixelReward(Contrast())"
"""
BRIGHT = PixelReward(Brightness())
DRAW = torch.Generator().manual_seed(0)
BATCH = RewardBatch(images=torch.rand(4, 8, 8, 3, generator=DRAW), prompts=("é", "b", "", 'a "quote"\n'))


class Serving:
    """``mixgrpo-judge serve-rewards`` in a process of its own, and the file that names it ``there``."""

    def __init__(self, folder, rewards=REWARDS):
        (folder / "rewards.toml").write_text(rewards)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mixgrpo_judge", "serve-rewards", str(folder / "rewards.toml")],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        said = self.process.stdout.readline()
        assert "; Ctrl-C ends it" in said
        self.url = said.partition(" at ")[2].partition(";")[0]
        self.file = folder / "endpoints.toml"
        self.file.write_text(
            f'[there]\nurl = "{self.url}"\nkey = "a-key"\nretries = 0\n[keyless]\nurl = "{self.url}"\n'
        )

    def reward(self, name="bright", endpoint="there"):
        return RewardElsewhere(Endpoint(endpoint, file=str(self.file)), name)

    def end(self):
        """What it says at the end: how many batches it scored."""
        self.process.send_signal(signal.SIGINT)
        said, _ = self.process.communicate(timeout=60)
        return int(said.split()[0])


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    found = Serving(tmp_path_factory.mktemp("serving"))
    yield found
    if found.process.poll() is None:
        found.end()


def trained(reward):
    config = TrainConfig(iterations=2, steps=6, images_per_prompt=4, prompts_per_iteration=2, eval_every=0)
    model = ToyModel()
    reports = [report.to_json()["rewards"] for report in train(model, ["a", "bb", "ccc"], {"bright": reward}, config)]
    return {name: tensor.clone() for name, tensor in model.lora_state().items()}, reports


def test_a_run_is_the_same_wherever_its_reward_is_and_two_runs_are_answered_once(serving):
    here, told = trained(BRIGHT)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(trained, serving.reward()) for _ in range(2)]
        for lora, reports in (one.result(timeout=120) for one in asked):
            assert all(torch.equal(here[name], lora[name]) for name in here)
            assert reports == told
    assert torch.equal(serving.reward()(BATCH).values, BRIGHT(BATCH).values)
    turned = RewardBatch(images=BATCH.images.flip(0), prompts=BATCH.prompts)
    assert torch.equal(serving.reward()(turned).values, BRIGHT(BATCH).values.flip(0)), "in the order of the images"


def test_what_the_server_does_not_have_is_named_before_any_work(serving):
    serving.reward("a b").prepare(["any"])
    assert bool(serving.reward("a b")(BATCH).valid.all())
    with pytest.raises(ValueError, match="expected a reward 'red' at .*, which has: bright, a b"):
        serving.reward("red").prepare(["any"])
    with pytest.raises(ValueError, match="endpoint 'keyless' wants a key, and has none"):
        serving.reward(endpoint="keyless").prepare(["any"])
    with pytest.raises(ValueError, match="no endpoint 'elsewhere' in .*, which has: there, keyless"):
        serving.reward(endpoint="elsewhere").prepare(["any"])
    wrong = httpx.post(f"{serving.url}/v1/rewards/bright", content=b"{}", headers={"Authorization": "Bearer a-key"})
    assert (wrong.status_code, wrong.text.partition(",")[0]) == (400, "expected a batch [G")


def test_a_server_that_goes_masks_what_it_is_asked_and_had_scored_each_batch_once(tmp_path):
    serving = Serving(tmp_path)
    reward = serving.reward()
    for _ in range(2):
        assert bool(reward(BATCH).valid.all())
    assert bool(serving.reward("a b")(BATCH).valid.all()), "another reward is another question"
    assert serving.end() == 2
    scores, (failure,) = score({"bright": reward}, BATCH)
    assert not bool(scores["bright"].valid.any())
    assert "cannot be reached" in failure.reason
    with pytest.raises(ConnectionError, match="nothing answers at .*: start mixgrpo-judge serve-rewards there"):
        reward.prepare(["any"])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("Transformed(ShapeReward(), RunningZ())", "remembers"),
        ("HumanVote(Thumbs())", "asks a person"),
        ("Nothing()", "unknown class"),
    ],
)
def test_rewards_that_are_of_one_run_only_are_not_served(call, words):
    with pytest.raises(ServingError, match=words):
        Served({"one": call})


def test_a_server_that_others_hear_wants_a_key(tmp_path, capsys):
    with pytest.raises(ServingError, match="is heard by other machines: give a key"):
        Settings(listen="0.0.0.0:0").address  # noqa: B018
    assert Settings(listen="0.0.0.0:0", key="k").address == ("0.0.0.0", 0)
    (tmp_path / "a.toml").write_text('rewords = "x"')
    assert main(["serve-rewards", str(tmp_path / "a.toml")]) == 2
    assert "unknown entry 'rewords'" in capsys.readouterr().err
    assert main([]) == 2


@pytest.mark.parametrize("spoil", [lambda body: body[:-1], lambda body: body.partition(b"\n")[2], lambda body: b""])
def test_a_broken_batch_is_none(spoil):
    body = packed(BATCH.images, BATCH.prompts)
    found = unpacked(body)
    assert torch.equal(torch.from_numpy(found.pictures), BATCH.images) and found.prompts == BATCH.prompts
    with pytest.raises(NoBatch):
        unpacked(spoil(body))
