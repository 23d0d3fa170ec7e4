"""Reward nodes: what they hand on, and Combine Rewards through ComfyUI's own validation and execution."""

import asyncio

import execution
import pytest
import torch
from comfy_api.latest import io
from mixgrpo_pack.mixgrpo_core import RewardBatch, mix_advantages
from mixgrpo_pack.mixgrpo_core.advantages.combine import BatchNormalised, WeightedAdvantages
from mixgrpo_pack.mixgrpo_core.demo import train_prompts
from mixgrpo_pack.mixgrpo_core.rewards.port import Context
from mixgrpo_pack.mixgrpo_core.rewards.scoring import score
from mixgrpo_pack.mixgrpo_core.rewards.wrappers.transforms import Clip, Rank
from mixgrpo_pack.nodes.rewards.changes import RewardGate, RewardTransform
from mixgrpo_pack.nodes.rewards.combine import DEMO, CombineRewardsNode, DemoRewardNode, combined
from mixgrpo_pack.nodes.rewards.pixels import GOALS, MEASURES, UNITS, PaletteRewardNode, PixelRewardNode
from mixgrpo_pack.nodes.sockets import RewardSocket

import nodes as host_nodes


def pixel(measure, goal="more", target=0.5, weight=1.0):
    return PixelRewardNode.execute(measure, goal, target, weight).args[0]


def values(rewards, images, prompts=None):
    prompts = prompts or ("",) * len(images)
    return {
        name: found.values
        for name, found in score(rewards.rewards, RewardBatch(images=images, prompts=prompts))[0].items()
    }


GREYS = torch.tensor([0.1, 0.4, 0.9])[:, None, None, None].expand(3, 8, 8, 3)


def test_a_goal_says_which_image_is_best():
    best = {goal: next(iter(values(pixel("brightness", goal, 0.45), GREYS).values())).argmax().item() for goal in GOALS}
    assert best == {"more": 2, "less": 0, "near the target": 1}


@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_is_scored_and_has_a_unit(measure):
    generator = torch.Generator().manual_seed(0)
    [found] = values(pixel(measure), torch.rand(3, 16, 16, 3, generator=generator)).values()
    assert torch.isfinite(found).all() and measure in UNITS


def test_a_palette_prefers_its_colours():
    images = torch.stack([torch.tensor(colour).expand(8, 8, 3) for colour in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0))])
    near = PaletteRewardNode.execute("#0000ff, #00ffff", "near the palette", 0.3, 0.1, 2.0).args[0]
    assert near.weights == {"palette": 2.0} and values(near, images)["palette"].argmax() == 1
    share = PaletteRewardNode.execute("#ff0000", "share of the first colour", 1.0, 0.1, 1.0).args[0]
    assert values(share, images)["share of #ff0000"].argmax() == 0
    assert "'blue'" in PaletteRewardNode.validate_inputs(colours="blue #ff0000")
    assert "one colour or more" in PaletteRewardNode.validate_inputs(colours=" ")


def test_names_and_weights_travel_with_the_reward():
    found = pixel("contrast", "near the target", 0.2, weight=0.25)
    assert found.weights == {"contrast (near 0.2)": 0.25}
    assert pixel("contrast", "less").weights == {"contrast (less)": 1.0}
    [reward] = found.rewards.values()
    assert repr(reward) == "PixelReward(measure=Contrast(), goal=Near(target=0.2))", "what a resumed run compares"


def test_the_demo_reward_trains_on_one_and_watches_two():
    found = DemoRewardNode.execute("drawing, with both checks", 0.5).args[0]
    assert found.weights == {"shape": 0.5, "adherence": 0.0, "clean": 0.0}
    assert found.weights.keys() == found.rewards.keys()
    for name in DEMO:
        rewards = DemoRewardNode.execute(name, 1.0).args[0]
        assert max(rewards.weights.values()) == 1.0
        for reward in rewards.rewards.values():
            reward.prepare(train_prompts())
            with pytest.raises(ValueError, match="caption"):
                reward.prepare(["a photograph of a cat"])


def test_combining_numbers_names_and_keeps_weights():
    twice = combined({"reward0": pixel("contrast", weight=2.0), "reward1": pixel("contrast", weight=0.0)})
    assert twice.weights == {"contrast": 2.0, "contrast 2": 0.0}
    nested = combined({"reward0": twice, "reward3": pixel("contrast"), "reward4": None, "reward5": pixel("symmetry")})
    assert list(nested.weights.items()) == [
        ("contrast", 2.0),
        ("contrast 2", 0.0),
        ("contrast 3", 1.0),
        ("symmetry", 1.0),
    ]
    assert nested.rewards.keys() == nested.weights.keys()


def test_combined_rewards_weigh_in_the_advantage():
    rewards = combined({"reward0": pixel("brightness", weight=3.0), "reward1": pixel("brightness", "less", weight=1.0)})
    scores, _ = score(rewards.rewards, RewardBatch(images=GREYS, prompts=("",) * 3))
    advantage = mix_advantages(scores, rewards.weights)
    alone = mix_advantages({"a": scores["brightness"]}, {"a": 1.0})
    torch.testing.assert_close(advantage, alone * (3 - 1) / 4)


def test_nothing_to_train_on_is_refused():
    with pytest.raises(ValueError, match="weight 0"):
        combined({"reward0": pixel("contrast", weight=0.0)})
    with pytest.raises(ValueError, match="found none"):
        combined({})


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_is_a_number_of_0_or_more(weight):
    with pytest.raises(ValueError, match="weight lies in 0..1000"):
        pixel("contrast", weight=weight)
    with pytest.raises(ValueError, match="weight lies in 0..1000"):
        DemoRewardNode.execute("drawing", weight)


class Sink(io.ComfyNode):
    """Keeps what came by wire."""

    found = []  # noqa: RUF012

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Test_RewardSink", inputs=[RewardSocket.Input("rewards")], outputs=[], is_output_node=True
        )

    @classmethod
    def execute(cls, rewards):
        Sink.found.append(rewards)
        return io.NodeOutput()


@pytest.fixture
def host(monkeypatch):
    """ComfyUI's validation and executor over the reward nodes: run(prompt) -> what the sink got, or the errors."""
    for node in (PixelRewardNode, DemoRewardNode, CombineRewardsNode, RewardTransform, Sink):
        monkeypatch.setitem(host_nodes.NODE_CLASS_MAPPINGS, node.GET_SCHEMA().node_id, node)

    class Quiet:
        client_id = last_node_id = last_prompt_id = None
        sockets_metadata = {}  # noqa: RUF012

        def send_sync(self, *_):
            """Nobody listens."""

    def run(prompt):
        valid, _, outputs, errors = asyncio.run(execution.validate_prompt("p", prompt, None))
        if not valid:
            return [found["details"] for node in errors.values() for found in node["errors"]]
        Sink.found.clear()
        executor = execution.PromptExecutor(
            Quiet(), cache_type=execution.CacheType.CLASSIC, cache_args={"lru": 0, "ram": 0, "ram_inactive": 0}
        )
        executor.execute(prompt, "p", {}, outputs)
        assert executor.success, executor.status_messages
        return Sink.found[0]

    return run


def one(measure, weight=1.0):
    inputs = {"measure": measure, "goal": "more", "target": 0.5, "weight": weight}
    return {"class_type": "MixGRPO_PixelReward", "inputs": inputs}


def test_combine_rewards_grows_in_the_host(host):
    prompt = {
        "1": one("contrast", 2.0),
        "2": one("contrast"),
        "3": {"class_type": "MixGRPO_DemoReward", "inputs": {"measure": "drawing", "weight": 0.5}},
        "4": {
            "class_type": "MixGRPO_CombineRewards",
            "inputs": {"rewards.reward0": ["1", 0], "rewards.reward1": ["2", 0], "rewards.reward2": ["3", 0]},
        },
        "5": {"class_type": "Test_RewardSink", "inputs": {"rewards": ["4", 0]}},
    }
    assert host(prompt).weights == {"contrast": 2.0, "contrast 2": 1.0, "shape": 0.5}


def test_the_host_refuses_an_empty_combination_and_an_unknown_measure(host):
    sink = {"class_type": "Test_RewardSink", "inputs": {"rewards": ["1", 0]}}
    empty = {"class_type": "MixGRPO_CombineRewards", "inputs": {}}
    assert any("reward0" in line for line in host({"1": empty, "5": sink}))
    assert any("not in" in line for line in host({"1": one("beauty"), "5": sink}))


def test_every_input_is_told():
    for node in (PixelRewardNode, PaletteRewardNode, DemoRewardNode, CombineRewardsNode, RewardTransform, RewardGate):
        schema = node.define_schema()
        assert schema.description and schema.search_aliases
        assert all(item.tooltip for item in schema.inputs)


def test_combine_rewards_says_how(host):
    def combined_in(**how):
        inputs = {"rewards.reward0": ["1", 0], **how}
        return host({"1": one("contrast"), "2": {"class_type": "MixGRPO_CombineRewards", "inputs": inputs}, "5": sink})

    sink = {"class_type": "Test_RewardSink", "inputs": {"rewards": ["2", 0]}}
    assert combined_in().credit == WeightedAdvantages(), "a workflow from before there was a choice"
    assert combined_in(how="balanced over prompts").credit == BatchNormalised()
    assert any("not in" in line for line in combined_in(how="by feeling"))


def test_a_transform_that_cannot_be_is_refused_before_the_queue(host):
    def transformed(kind, **values):
        numbers = {f"transform.{name}": value for name, value in values.items()}
        inputs = {"reward": ["1", 0], "transform": kind, **numbers}
        node = {"class_type": "MixGRPO_RewardTransform", "inputs": inputs}
        return host({"1": one("contrast"), "2": node, "5": sink})

    sink = {"class_type": "Test_RewardSink", "inputs": {"rewards": ["2", 0]}}
    assert transformed("clip", low=0.0, high=0.5).rewards["contrast"].transform == Clip(low=0.0, high=0.5)
    assert any("high lies above low" in line for line in transformed("clip", low=1.0, high=0.5))
    assert any("width lies above 0" in line for line in transformed("sigmoid", centre=0.0, width=0.0))
    assert any("not 0" in line for line in transformed("scale and shift", scale=0.0, shift=1.0))
    assert transformed("rank").rewards["contrast"].transform == Rank()
    assert any("running z-score" in line for line in transformed("by feeling"))
    sink["inputs"]["rewards"] = ["1", 0]
    text = {"class_type": "MixGRPO_RewardTransform", "inputs": {"reward": ["3", 0], "transform": "rank"}}
    other = {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 0}}
    assert any("MIXGRPO_REWARD" in line for line in host({"1": text, "3": other, "5": sink})), "a wire of another type"


def changed(transform, weight=1.0):
    reward = pixel("brightness", weight=weight)
    return RewardTransform.execute(reward, transform).args[0]


@pytest.mark.parametrize(
    "transform,expected",
    [
        ({"transform": "rank"}, [0.0, 0.5, 1.0]),
        ({"transform": "scale and shift", "scale": -2.0, "shift": 1.0}, [0.8, 0.2, -0.8]),
        ({"transform": "clip", "low": 0.0, "high": 0.5}, [0.1, 0.4, 0.5]),
        ({"transform": "sigmoid", "centre": 0.4, "width": 0.1}, [0.047426, 0.5, 0.993307]),
    ],
)
def test_a_transform_changes_scores(transform, expected):
    [reward] = changed(transform).rewards.values()
    batch = RewardBatch(images=GREYS, prompts=("",) * 3, context=Context(iteration=0))
    assert torch.allclose(reward(batch).values, torch.tensor(expected), atol=1e-5)


def test_a_watched_reward_stays_as_it_is():
    assert changed({"transform": "rank"}, weight=0.0).rewards == pixel("brightness", weight=0.0).rewards


def test_a_gate_masks_or_costs():
    def through(bound, value, otherwise, penalty=0.5):
        gate = pixel("brightness")
        made = RewardGate.execute(pixel("brightness", "less"), gate, bound, value, otherwise, penalty).args[0]
        [reward] = made.rewards.values()
        return reward(RewardBatch(images=GREYS, prompts=("",) * 3))

    assert through("at least", 0.3, "do not count").valid.tolist() == [False, True, True]
    assert through("at most", 0.3, "do not count").valid.tolist() == [True, False, False]
    found = through("at least", 0.3, "score less")
    assert found.valid.all() and torch.allclose(found.values, torch.tensor([-0.6, -0.4, -0.9]))
    two = combined({"reward0": pixel("brightness"), "reward1": pixel("contrast")})
    with pytest.raises(ValueError, match="one reward"):
        RewardGate.execute(pixel("brightness"), two, "at least", 0.3, "score less", 0.5)
