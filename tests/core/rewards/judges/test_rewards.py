"""Judges as rewards, over the client and a real server on this machine, as a run calls them."""

import math
import sys

import pytest
import torch
from judge_server import JudgeServer, Reply, says
from mixgrpo_judge import EndpointError

from mixgrpo_core.rewards.judges import (
    Endpoint,
    JudgeReward,
    Levels,
    PairScores,
    PairwiseReward,
    Rating,
    UnifiedReward2,
    UnifiedRewardScore,
    UnifiedRewardSemantic,
    Verdict,
    YesNo,
)
from mixgrpo_core.rewards.judges.templates import TemplateError
from mixgrpo_core.rewards.port import Context, RewardBatch
from mixgrpo_core.rewards.scoring import score
from mixgrpo_core.support.spelling import parse, spell

KEY = "sk-of-the-run-9911"
PROBE = "Is this image grey"


def group(*levels, prompt="a red circle", **more):
    """Grey images of these levels, 0..1."""
    images = torch.tensor(levels)[:, None, None, None].expand(-1, 16, 16, 3)
    return RewardBatch(images=images, prompts=(prompt,) * len(levels), **more)


@pytest.fixture
def endpoint(tmp_path):
    def named(server, **settings):
        settings = {"url": server.url, "model": "judge", "backoff": 0.005, "retries": 1, "key": KEY, **settings}
        file = tmp_path / "endpoints.toml"
        file.write_text("[here]\n" + "\n".join(f"{name} = {value!r}" for name, value in settings.items()))
        file.chmod(0o600)
        return Endpoint("here", file=str(file))

    return named


def rated(asked):
    """A judge that likes light."""
    return says(f"circle (object): 1\nFinal Score: {1 + 4 * asked.brightness[0]:.2f}")


def test_a_run_scores_its_images_with_a_judge(endpoint):
    with JudgeServer(rated, key=KEY) as server:
        reward = JudgeReward(chat=endpoint(server), mode=UnifiedRewardScore())
        reward.prepare(["a red circle"])
        scores, failures = score({"judge": reward}, group(0.0, 1.0, 0.5))
        assert scores["judge"].values.tolist() == pytest.approx([1, 5, 3], abs=0.02)
        assert scores["judge"].valid.all() and failures == []
        assert "Text Caption: [a red circle]" in server.asked[0].text
        score({"judge": reward}, group(0.5, 0.0, 1.0))
    assert len(server.asked) == 3  # the second time everything was known


def test_what_a_judge_does_not_say_is_masked_and_never_0(endpoint):
    def reply(asked):
        level = asked.brightness[0]
        if level < 0.2:
            return says("What a lovely picture!")
        if level < 0.4:
            return Reply(b"", status=500)
        if level < 0.6:
            return says("Final Score: 17")
        return rated(asked)

    with JudgeServer(reply) as server:
        reward = JudgeReward(chat=endpoint(server), mode=UnifiedRewardScore())
        scores, (failure,) = score({"judge": reward}, group(0.1, 0.3, 0.5, 0.7, 0.9))
    assert scores["judge"].valid.tolist() == [False, False, False, True, True]
    assert scores["judge"].values[3:].tolist() == pytest.approx([3.8, 4.6], abs=0.02)
    assert failure.masked == 3
    for words in ("lovely picture", "status 500", "in 1..5, found 17"):
        assert words in str(failure)


def test_a_server_that_dies_costs_the_samples_and_not_the_run(endpoint):
    with JudgeServer(rated) as server:
        reward = JudgeReward(chat=endpoint(server), mode=UnifiedRewardScore())
        reward.prepare([])
        assert score({"judge": reward}, group(0.2, 0.4))[1] == []
    scores, (failure,) = score({"judge": reward}, group(0.6, 0.8))
    assert not scores["judge"].valid.any()
    assert "cannot be reached" in str(failure) and "(2 times)" in str(failure)


def test_prepare_says_what_is_wrong_before_the_run_starts(endpoint, tmp_path):
    with JudgeServer(rated, models=["other"]) as server:
        with pytest.raises(EndpointError, match="which offers: other"):
            JudgeReward(chat=endpoint(server)).prepare([])
        with pytest.raises(TemplateError, match=r"nowhere\.txt"):
            JudgeReward(chat=endpoint(server), template="nowhere.txt").prepare([])
        with pytest.raises(EndpointError, match="no endpoint 'there'"):
            PairwiseReward(chat=Endpoint("there", file=endpoint(server).file)).prepare([])
        server.key = "another"
        with pytest.raises(EndpointError, match="key of endpoint 'here' is not accepted") as error:
            JudgeReward(chat=endpoint(server)).prepare([])
    assert KEY not in str(error.value)
    with pytest.raises(ConnectionError, match="nothing answers"):
        JudgeReward(chat=endpoint(server)).prepare([])


def test_an_empty_prompt_is_masked_without_asking(endpoint):
    with JudgeServer(rated) as server:
        reward = JudgeReward(chat=endpoint(server), mode=UnifiedRewardScore())
        images = group(0.2, 0.8).images
        found = reward(RewardBatch(images=images, prompts=("  ", "a circle")))
    assert found.valid.tolist() == [False, True] and found.note == "the prompt is empty" and len(server.asked) == 1


def test_nan_pixels_mask_their_image_only(endpoint):
    images = group(0.2, 0.8).images.clone()
    images[0, 3, 3, 1] = math.nan
    with JudgeServer(rated) as server:
        found = JudgeReward(chat=endpoint(server), mode=UnifiedRewardScore())(
            RewardBatch(images=images, prompts=("a", "a"))
        )
    assert found.valid.tolist() == [False, True] and "NaN" in found.note


# log-probs


def sure(asked):
    """Says yes with the picture's brightness as probability."""
    level = min(max(asked.brightness[0], 1e-6), 1 - 1e-6)
    first = {"Yes": math.log(0.6 * level), " yes": math.log(0.4 * level), "No": math.log(1 - level)}
    return says("Yes" if level > 0.5 else "No", first if "logprobs" in asked.body else None)


def test_yes_or_no_is_a_probability_where_the_server_offers_it(endpoint):
    with JudgeServer(sure) as server:
        reward = JudgeReward(chat=endpoint(server), mode=YesNo())
        reward.prepare(["a red circle"])
        scores, _ = score({"judge": reward}, group(0.2, 0.4, 0.8))
    assert scores["judge"].values.tolist() == pytest.approx([0.2, 0.4, 0.8], abs=0.01)
    assert reward.by_probability
    assert server.asked[-1].body["max_tokens"] == 1 and server.asked[-1].body["top_logprobs"] == 20
    assert server.asked[-1].text == 'Does this figure show "a red circle"? Please answer yes or no.'


@pytest.mark.parametrize("refuses", [True, False], ids=["refused", "left out"])
def test_without_log_probs_the_word_is_read(endpoint, refuses):
    def reply(asked):
        if refuses and "logprobs" in asked.body:
            return Reply(b"unknown field logprobs", status=400)
        return says("Yes." if asked.brightness[0] > 0.45 else "No, not at all.")

    with JudgeServer(reply) as server:
        reward = JudgeReward(chat=endpoint(server), mode=YesNo())
        reward.prepare(["a red circle"])
        scores, failures = score({"judge": reward}, group(0.2, 0.4, 0.8))
        assert scores["judge"].values.tolist() == [0, 0, 1] and failures == [] and not reward.by_probability
    assert server.asked[-1].body["max_tokens"] == 16 and "logprobs" not in server.asked[-1].body


def test_levels_are_an_expectation(endpoint):
    first = {"4": math.log(0.5), "5": math.log(0.3), "1": math.log(0.1), "It": math.log(0.1)}
    with JudgeServer(lambda asked: says("4", first)) as server:
        scores, _ = score({"judge": JudgeReward(chat=endpoint(server), mode=Levels())}, group(0.5))
    assert scores["judge"].values.item() == pytest.approx((4 * 0.5 + 5 * 0.3 + 1 * 0.1) / 0.9)


def test_an_answer_that_comes_without_its_log_probs_is_masked(endpoint):
    def reply(asked):
        return sure(asked) if asked.text.startswith(PROBE) or asked.brightness[0] > 0.5 else says("No")

    with JudgeServer(reply) as server:
        scores, (failure,) = score({"judge": JudgeReward(chat=endpoint(server), mode=YesNo())}, group(0.2, 0.8))
    assert scores["judge"].valid.tolist() == [False, True] and "without log-probs" in str(failure)


def test_a_judge_that_is_dead_at_the_first_question_is_no_judge_without_log_probs(endpoint):
    with JudgeServer(lambda asked: Reply(b"", status=500)) as server:
        reward = JudgeReward(chat=endpoint(server), mode=YesNo())
        with pytest.raises(ConnectionError, match="does not answer a first question: .*status 500"):
            reward.prepare([])
        server.reply = sure
        reward.prepare([])
        assert reward.by_probability


# pairs


def compared(asked):
    """Likes light, and, with pictures that are alike, the first place."""
    first, second = asked.brightness
    return says(f"Image {1 if first > second - 0.1 else 2} is better than Image {2 if first > second - 0.1 else 1}.")


def test_pairs_are_judged_in_both_orders(endpoint):
    with JudgeServer(compared) as server:
        reward = PairwiseReward(chat=endpoint(server))
        reward.prepare(["a red circle"])
        scores, failures = score({"judge": reward}, group(0.1, 0.5, 0.55, 0.9))
    assert scores["judge"].values.tolist() == pytest.approx([0, 0.5, 0.5, 1]) and failures == []
    assert len(server.asked) == 12 and reward.about.groupwise


def test_pairs_without_an_answer_are_left_out_and_images_without_a_pair_are_masked(endpoint):
    def reply(asked):
        return says("I cannot decide.") if min(asked.brightness) < 0.3 else compared(asked)

    with JudgeServer(reply) as server:
        scores, (failure,) = score({"judge": PairwiseReward(chat=endpoint(server))}, group(0.1, 0.5, 0.9))
    assert scores["judge"].valid.tolist() == [False, True, True] and scores["judge"].values.tolist() == [0, 0, 1]
    assert "I cannot decide" in str(failure)


def test_shares_of_pairs(endpoint):
    def reply(asked):
        share = asked.brightness[0] / sum(asked.brightness)
        return says("".join(f"{a} Score:\n Image 1: {share}\n Image 2: {1 - share}\n" for a in ("Alignment", "Style")))

    with JudgeServer(reply) as server:
        comparison = PairScores(aspects=(("Alignment Score", 1.0), ("Style Score", 3.0)))
        found = PairwiseReward(chat=endpoint(server), comparison=comparison)(group(0.2, 0.6))
    assert found.values.tolist() == pytest.approx([0.25, 0.75], abs=0.01)


def test_opponents_differ_between_groups_and_iterations_and_are_the_same_again(endpoint):
    levels = [n / 8 for n in range(8)]

    def pairs_of(number, iteration):
        batch = group(*levels, group=number, context=Context(iteration=iteration))
        PairwiseReward(chat=endpoint(server), opponents=2)(batch)
        found = {tuple(round(level * 8) for level in asked.brightness) for asked in server.asked}
        server.asked.clear()
        return found

    with JudgeServer(compared) as server:
        asked = [pairs_of(number, iteration) for number, iteration in ((0, 1), (0, 1), (1, 1), (0, 2))]
    assert all(len(pairs) == 8 * 2 for pairs in asked)
    assert asked[0] == asked[1] and asked[0] != asked[2] and asked[0] != asked[3]
    assert all((j, i) in asked[0] for i, j in asked[0])


def test_several_prompts_cannot_be_compared():
    batch = RewardBatch(images=group(0.1, 0.9).images, prompts=("a", "b"))
    scores, (failure,) = score({"judge": PairwiseReward(chat=Endpoint("never asked"))}, batch)
    assert not scores["judge"].valid.any() and "expected one prompt" in str(failure)


# configurations


CLASSES = (Endpoint, JudgeReward, PairwiseReward, PairScores, Verdict, YesNo, Levels, Rating, UnifiedReward2)


@pytest.mark.parametrize(
    "text",
    [
        'JudgeReward(chat=Endpoint("qwen"))',
        'JudgeReward(chat=Endpoint("qwen", file="mine.toml"), mode=YesNo(least=0.2), template="mine.txt")',
        'JudgeReward(Endpoint("a"), Rating(aspects=(("Beauty", 2.0), ("Truth", 1.0)), high=5.0))',
        'PairwiseReward(chat=Endpoint("qwen"), comparison=PairScores(), opponents=3)',
    ],
)
def test_judges_are_spelled_as_calls(text):
    classes = {cls.__name__: cls for cls in CLASSES}
    reward = parse(text, classes)
    assert parse(spell(reward), classes) == reward and reward.about.expected
    assert KEY not in repr(reward)


def test_what_changes_no_score_is_not_in_the_name_of_a_run(tmp_path):
    assert repr(Endpoint("a", cache=str(tmp_path / "b"))) == repr(Endpoint("a"))
    assert repr(Endpoint("a")) != repr(Endpoint("b"))


def test_the_client_is_asked_for_by_its_name_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "mixgrpo_judge", None)
    with pytest.raises(ImportError, match=r"needs the package mixgrpo-judge: pip install \./judge"):
        JudgeReward(chat=Endpoint("qwen")).prepare([])


def test_waiting_for_a_judge_can_be_stopped(endpoint):
    class Stop(BaseException):
        pass

    def stop():
        raise Stop

    with JudgeServer(lambda asked: says("Final Score: 3", delay=20)) as server:
        file = endpoint(server).file
        reward = JudgeReward(chat=Endpoint("here", file=file, cancelled=stop), mode=UnifiedRewardSemantic())
        with pytest.raises(Stop):
            score({"judge": reward}, group(0.5))
