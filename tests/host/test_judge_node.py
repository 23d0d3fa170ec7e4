"""VLM Judge: endpoints by name from the file on this machine, judges in this process, and what a workflow cannot do."""

import pytest
import torch
from judge_server import JudgeServer, says
from mixgrpo_pack.nodes.host.reward_files import NOTHING
from mixgrpo_pack.nodes.rewards.judge import EACH, PAIRS, JudgeNode, offered
from mixgrpo_pack.nodes.rewards.score import ScoreImages

YES_NO = next(iter(EACH))
GREYS = torch.tensor([0.2, 0.9, 0.5])[:, None, None, None].expand(3, 32, 32, 3).clone()


@pytest.fixture
def endpoints(tmp_path, monkeypatch):
    """A function that writes this machine's file of endpoints."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("APPDATA", str(tmp_path))

    def write(text):
        (tmp_path / "mixgrpo").mkdir(exist_ok=True)
        (tmp_path / "mixgrpo" / "endpoints.toml").write_text(text)

    return write


def judged(judge, asks=YES_NO, question="", opponents=0, prompt="a lamp"):
    """What Score Images says of three greys."""
    rewards = JudgeNode.execute(judge, asks, question, opponents, 1.0).args[0]
    with torch.inference_mode():
        return ScoreImages.execute(GREYS, rewards, prompt, 0).args


def sure(asked):
    """Certain to the degree to which the picture is bright."""
    light = asked.brightness[0]
    return says(
        "yes" if light > 0.5 else "no",
        {"Yes": torch.tensor(light).log().item(), "No": torch.tensor(1 - light).log().item()},
    )


def test_a_named_endpoint_is_offered_and_asked(endpoints):
    with JudgeServer(sure) as server:
        endpoints(f'[lamp]\nurl = "{server.url}"\n[other]\nurl = "http://127.0.0.1:9"\n')
        assert offered()[:2] == ["endpoint: lamp", "endpoint: other"]
        assert JudgeNode.validate_inputs(judge="endpoint: lamp") is True
        images, _, table, scores = judged("endpoint: lamp")
    assert torch.equal(images, GREYS[[1, 2, 0]])
    assert scores == pytest.approx([0.9, 0.5, 0.2], abs=0.01)
    assert "lamp 0.9" in table.splitlines()[0]
    assert any("a lamp" in asked.text for asked in server.asked)


def test_own_words_take_the_place_of_the_question(endpoints):
    with JudgeServer(sure) as server:
        endpoints(f'[lamp]\nurl = "{server.url}"\n')
        judged("endpoint: lamp", question="Is {prompt} lit? Answer yes or no.", prompt='a "red" lamp')
    asked = [asked.text for asked in server.asked if len(asked.text) < 60 and "lit?" in asked.text]
    assert len(asked) == 3 and set(asked) == {'Is a "red" lamp lit? Answer yes or no.'}


def test_pairs_are_compared_in_both_orders(endpoints):
    def better(asked):
        if len(asked.pictures) < 2:
            return says("1")
        first, second = asked.brightness
        return says(f"Image {1 if first > second else 2} is better.")

    with JudgeServer(better) as server:
        endpoints(f'[lamp]\nurl = "{server.url}"\n')
        images, _, _, scores = judged("endpoint: lamp", asks=next(iter(PAIRS)))
    assert torch.equal(images, GREYS[[1, 2, 0]]) and scores == [1.0, 0.5, 0.0]
    assert sum(len(asked.pictures) == 2 for asked in server.asked) == 6


def test_a_workflow_cannot_bring_an_address(endpoints, monkeypatch):
    with JudgeServer(sure) as server:
        endpoints('[lamp]\nurl = "http://127.0.0.1:9"\n')
        for name in (server.url, f"endpoint: {server.url}", f"{server.url}: lamp", "endpoint: ", 7):
            problem = JudgeNode.validate_inputs(judge=name)
            assert isinstance(problem, str)
            with pytest.raises(ValueError, match="no endpoint|no judge"):
                JudgeNode.execute(name, YES_NO, "", 0, 1.0)
    assert server.asked == []


def test_without_a_file_of_endpoints_it_is_said_what_to_do(endpoints):
    assert offered() == [NOTHING]
    assert "file of endpoints" in JudgeNode.validate_inputs(judge=NOTHING)
    assert "endpoints.toml" in JudgeNode.validate_inputs(judge="endpoint: lamp")


def test_a_key_is_nowhere_but_in_the_request(endpoints, caplog):
    with JudgeServer(sure, key="sk-secret-7") as server:
        endpoints(
            f'[lamp]\nurl = "{server.url}"\nkey = "sk-secret-7"\n[wrong]\nurl = "{server.url}"\nkey = "sk-wrong-8"\n'
        )
        rewards = JudgeNode.execute("endpoint: lamp", YES_NO, "", 0, 1.0).args[0]
        judged("endpoint: lamp")
        with pytest.raises(ValueError, match="key") as error:
            judged("endpoint: wrong")
    assert server.asked[0].headers["Authorization"] == "Bearer sk-secret-7"
    said = f"{rewards!r} {error.value} {caplog.text}"
    assert "secret" not in said and "sk-wrong" not in said


def test_a_dead_judge_is_one_sentence(endpoints):
    endpoints('[lamp]\nurl = "http://127.0.0.1:9"\nretries = 0\n')
    with pytest.raises((ValueError, ConnectionError), match="lamp|127.0.0.1:9"):
        judged("endpoint: lamp")
