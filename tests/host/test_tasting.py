"""What the live view tells of a taste, and the click that says it is wrong, on the host's own server object."""

import asyncio
import json
from dataclasses import replace

import aiohttp.web
import numpy as np
import pytest
import torch
from aiohttp.test_utils import TestClient, TestServer
from mixgrpo_pack.mixgrpo_core.rewards.port import Context, RewardBatch, Scores, StatelessReward
from mixgrpo_pack.mixgrpo_core.rewards.taste.corrections import Corrections
from mixgrpo_pack.mixgrpo_core.rewards.taste.reward import TasteReward
from mixgrpo_pack.nodes.live import tasting as tasting_module
from mixgrpo_pack.nodes.live.board import board
from mixgrpo_pack.nodes.live.routes import add_routes
from mixgrpo_pack.nodes.live.tasting import taste_payload
from mixgrpo_pack.nodes.live.voting import of_the_run
from PIL import Image
from test_live import ears, live_run, output

__all__ = ["ears", "output"]


class LikesRed(StatelessReward):
    """Somebody who is asked."""

    def __call__(self, batch):
        return Scores.of((batch.images[..., 0] - batch.images[..., 2]).mean((1, 2)).sign())


def batch(iteration, group=0):
    """Red pictures at the even places, blue ones at the others, all different."""
    noise = torch.rand(8, 32, 32, 3, generator=torch.Generator().manual_seed(100 * iteration + group)) * 0.3
    noise[::2, ..., 0] += 0.7
    noise[1::2, ..., 2] += 0.7
    context = Context(iteration=iteration)
    return RewardBatch(images=noise.clamp(0, 1), prompts=("a disc",) * 8, group=group, context=context)


@pytest.fixture
def live(output, ears):
    with live_run(output) as live:
        yield live


def tasting(live):
    taste = TasteReward(ask=LikesRed(), asked=8, least=8, confidence=0.05)
    taste = of_the_run(taste, live.folder, live.voting, live.tasting)
    taste.prepare(())
    return taste


def light(told):
    """Red less blue of the pictures of one side."""
    images = [np.asarray(Image.open(path)).astype(float) for path in told]
    return [float(image[..., 0].mean() - image[..., 2].mean()) for image in images]


def files(output, side):
    return [output / one["picture"]["subfolder"] / one["picture"]["filename"] for one in side]


def test_the_page_shows_what_it_likes_most_and_least_and_how_much_it_knows(live, output, ears, monkeypatch):
    taste = tasting(live)
    for group in range(2):
        taste(batch(0, group))
    live.tasting.tell()
    told = ears.named("mixgrpo.taste")[-1]
    assert told["best"] == [] and told["refreshed"] is None and (told["votes"], told["questions"]) == (16, 2)
    assert "knows nothing yet" in told["sentences"][0]
    for group in range(2):
        taste(batch(1, group))
    live.tasting.tell()
    told = ears.named("mixgrpo.taste")[-1]
    assert told == {**told, **taste_payload(live.folder)}, "the same after a reload"
    assert (told["refreshed"], told["iteration"], len(told["best"]), len(told["worst"])) == (1, 1, 3, 3)
    assert min(light(files(output, told["best"]))) > 100 > -100 > max(light(files(output, told["worst"])))
    liked = [one["liked"] for one in (*told["best"], *told["worst"][::-1])]
    assert liked == sorted(liked, reverse=True) and liked[0] > 0.6 > 0.4 > liked[-1]
    assert any("within a group it orders" in sentence for sentence in told["sentences"])
    before = files(output, told["best"])
    for iteration in (2, 3):
        taste(batch(iteration))
    assert all(path.exists() for path in before), "somebody may still look at them"
    monkeypatch.setattr(tasting_module, "KEPT_SECONDS", 0.0)
    taste(batch(4))
    assert not any(path.exists() for path in before), "old pictures go"


def wrong(run, *clicks):
    async def post():
        app, routes = aiohttp.web.Application(), aiohttp.web.RouteTableDef()
        add_routes(routes)
        app.add_routes(routes)
        async with TestClient(TestServer(app)) as client:
            answers = []
            for click in clicks:
                answer = await client.post(f"/mixgrpo/runs/{run.replace(' ', '%20')}/taste/wrong", json=click)
                answers.append((answer.status, await answer.json()))
            return answers

    return asyncio.run(post())


def test_a_click_is_a_vote_against_what_it_believes_until_it_has_learnt_from_it(live, ears):
    taste = tasting(live)
    for iteration in range(2):
        taste(batch(iteration))
    shown = taste_payload(live.folder)
    liked, disliked = shown["best"][0]["id"], shown["worst"][0]["id"]
    clicks = [{"image": id, "wrong": wrong} for id, wrong in ((liked, True), (disliked, True), (disliked, False))]
    answers = wrong(live.run, *clicks)
    assert answers == [
        (200, {"image": liked, "said": "waits"}),
        (200, {"image": disliked, "said": "waits"}),
        (200, {"image": disliked, "said": None}),
    ]
    told = ears.named("mixgrpo.taste")[-1]  # as other browsers hear it
    assert (told["waiting"], told["best"][0]["said"], told["worst"][0]["said"]) == (1, "waits", None)
    known = len(taste.taste.opinions)
    assert wrong(live.run, {"image": disliked, "wrong": True})[0][0] == 200
    taste(batch(2))
    assert sorted(taste.taste.opinions.values[known:].tolist()) == [-1.0, 1.0]
    [(status, answer)] = wrong(live.run, {"image": liked, "wrong": False})
    assert status == 409 and "has learnt from this vote already" in answer["error"]
    assert Corrections(live.folder / "taste").waiting == 0


def test_clicks_that_cannot_be_are_sentences(live):
    tasting(live)(batch(0))
    found = wrong(
        live.run,
        {"image": "000001-000-00000000", "wrong": True},
        {"image": "../../config", "wrong": False},
        {"image": 5, "wrong": True},
        {"image": "x"},
    )
    assert [status for status, _ in found] == [404, 404, 400, 400]
    assert "shows no such image any more" in found[0][1]["error"]
    assert wrong("lost", {"image": "x", "wrong": True})[0][0] == 404
    assert board.find(live.run) is live


def test_a_damaged_file_of_what_it_believes_is_written_anew(live):
    taste = tasting(live)
    taste(batch(0))
    file = live.folder / "taste/believed.json"
    for text in ("{", "[]", json.dumps({"images": {"x": 3}})):
        file.write_text(text)
        assert taste_payload(live.folder) is None
    taste(replace(batch(0), group=1))
    assert taste_payload(live.folder)["questions"] == 2
