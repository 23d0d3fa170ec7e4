"""A taste: known answers of the fit, honest figures of what it knows, asking where it is unsure, and its file."""

import math

import pytest
import torch
from safetensors.torch import load_file

from mixgrpo_core.rewards.embedders.similarity import ClipImages
from mixgrpo_core.rewards.people.ballot import State
from mixgrpo_core.rewards.people.ballot_box import BallotBox
from mixgrpo_core.rewards.people.votes import shown_pictures
from mixgrpo_core.rewards.people.voting import Ranking, Thumbs
from mixgrpo_core.rewards.port import Context, RewardBatch, Scores, StatelessReward
from mixgrpo_core.rewards.scoring import score
from mixgrpo_core.rewards.taste import ColoursAndEdges, TasteReward
from mixgrpo_core.rewards.taste.agreement import agreement
from mixgrpo_core.rewards.taste.asking import confidence, telling
from mixgrpo_core.rewards.taste.corrections import Corrections
from mixgrpo_core.rewards.taste.fitting import Said, most_likely
from mixgrpo_core.rewards.taste.head import fitted, told_apart
from mixgrpo_core.rewards.taste.looks import Look
from mixgrpo_core.rewards.taste.opinions import Opinions
from mixgrpo_core.rewards.taste.sources import from_ballots
from mixgrpo_core.rewards.taste.taste import Taste, TasteFileError

RED, BLUE = (0.9, 0.1, 0.1), (0.1, 0.1, 0.9)


def pictures(count, seed=0, side=24):
    """Discs of red and blue, by turns, on backgrounds of any grey, in any place."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.linspace(0, 1, side)
    across, down = torch.meshgrid(steps, steps, indexing="xy")
    found = []
    for number in range(count):
        x, y, grey = torch.rand(3, generator=generator).tolist()
        disc = ((across - 0.25 - x / 2) ** 2 + (down - 0.25 - y / 2) ** 2 < 0.03)[..., None].float()
        colour = torch.tensor(BLUE if number % 2 else RED)
        found.append(disc * colour + (1 - disc) * (0.2 + 0.6 * grey))
    return torch.stack(found)


def votes(groups, of=4, seed=0, wrong=0.0, prompts=("a red disc",)):
    """Opinions of somebody who likes what has the prompt's colour."""
    look, parts = Look(ColoursAndEdges()), []
    generator = torch.Generator().manual_seed(seed)
    for group in range(groups):
        prompt = prompts[group % len(prompts)]
        right = 0 if "red" in prompt else 1
        up = torch.arange(of) % 2 == right
        up ^= torch.rand(of, generator=generator) < wrong
        values = torch.where(up, 1.0, -1.0)
        parts.append(Opinions.of_group(look.features(pictures(of, seed * 999 + group)), values, prompt, ranked=False))
    return Opinions.joined(parts)


def test_the_fit_is_the_most_likely_function():
    """One image and one thumb: f = k (1 - sigmoid(f)) has one solution, as has the pair's."""
    thumb = Said(
        thumbs=torch.tensor([1.0]).double(), better=torch.zeros(0).long(), worse=torch.zeros(0).long(),
        weights=torch.zeros(0).double(),
    )  # fmt: skip
    kernel = torch.full((1, 1), 2.0).double()
    found = float((kernel @ most_likely(kernel, torch.zeros(1).double(), thumb, torch.ones(1).double()))[0])
    assert found == pytest.approx(2.0 * (1 - 1 / (1 + math.exp(-found))), abs=1e-6)

    pair = Said(
        thumbs=torch.full((2,), math.nan).double(), better=torch.tensor([0]), worse=torch.tensor([1]),
        weights=torch.tensor([3.0]).double(),
    )  # fmt: skip
    kernel = torch.eye(2).double()
    one, other = (kernel @ most_likely(kernel, torch.zeros(2).double(), pair, torch.ones(2).double())).tolist()
    assert one == pytest.approx(-other)
    assert one == pytest.approx(3.0 * (1 - 1 / (1 + math.exp(other - one))), abs=1e-6)


def test_pairs_are_within_a_group_and_a_group_counts_by_its_images():
    thumbs = Opinions.of_group(torch.eye(4), torch.tensor([1.0, -1.0, -1.0, 0.0]), "a", ranked=False)
    ranked = Opinions.of_group(torch.eye(4), Ranking().values({0: 1, 1: 2, 2: 2}, 4, rest=False), "b", ranked=True)
    both = Opinions.joined([thumbs, ranked])
    assert len(thumbs) == len(ranked) == 3
    better, worse, weights = both.pairs()
    assert list(zip(better.tolist(), worse.tolist(), strict=True)) == [(0, 1), (0, 2), (3, 4), (3, 5)]
    assert weights.tolist() == [0.75] * 4
    assert both.thumbs.isnan().tolist() == [False] * 3 + [True] * 3


def test_it_learns_what_is_liked_and_says_honestly_how_well():
    found = agreement(votes(12), conditioned=False)
    assert found.right > 0.9 > found.majority and found.ordered > 0.9 and found.knows
    coin = agreement(votes(12, wrong=0.5), conditioned=False)
    assert coin.right < 0.75
    assert coin.right - coin.majority < 0.15
    noisy = agreement(votes(24, wrong=0.25), conditioned=False)
    assert noisy.calibration < 0.2


def test_prompts_matter_where_they_are_to():
    """Red is liked for red, blue for blue: no function of the picture alone can say so."""
    opinions = votes(24, prompts=("a red disc", "one blue disc"))
    assert told_apart(opinions.prompts) == ()  # two prompts share all that tells others apart
    opinions = votes(24, prompts=("a red disc", "some red disc", "a blue disc", "some blue disc"))
    assert told_apart(opinions.prompts) == ("a", "blue", "red", "some")
    assert agreement(opinions, conditioned=True).ordered > 0.9 > 0.7 > agreement(opinions, conditioned=False).ordered


def test_what_the_votes_said_is_surer_than_what_they_did_not():
    opinions = votes(16)
    head, look = fitted(opinions, conditioned=True), Look(ColoursAndEdges())
    known = head.logits(look.features(pictures(8, 77)), ("a red disc",) * 8)
    strange = head.logits(look.features(torch.rand(8, 24, 24, 3).round()), ("a red disc",) * 8)
    assert confidence(known) > 0.5 > confidence(strange)
    few = fitted(votes(2), conditioned=True).logits(look.features(pictures(8, 77)), ("a red disc",) * 8)
    assert confidence(few) < confidence(known)


def test_images_are_asked_about_that_tell_most_and_no_two_that_tell_the_same():
    """Members agree on images 0 and 1; 2 and 3 vary together, 4 alone and less."""
    one, other = torch.tensor([40.0, -40.0, 40.0, -40.0]), torch.tensor([30.0, 30.0, -30.0, -30.0])
    logits = torch.stack([torch.zeros(4), torch.zeros(4), one, one, other], 1)
    logits = torch.cat([logits, torch.zeros(4, 7)], 1)
    assert telling(logits, 1) in ([2], [3])
    assert telling(logits, 2) in ([2, 4], [3, 4])


def test_a_file_is_the_taste(tmp_path):
    opinions, look = votes(8, prompts=("a red disc", "some red disc", "a disc")), Look(ColoursAndEdges())
    taste = Taste.learnt(opinions, look, conditioned=True, sources=("votes of a test",))
    taste.save(tmp_path / "taste.safetensors")
    again = Taste.load(tmp_path / "taste.safetensors")
    features = look.features(pictures(4, 5))
    prompts = ("a red disc",) * 4
    assert torch.equal(taste.logits(features, prompts), again.logits(features, prompts))
    assert again.sources == taste.sources and again.agreement == taste.agreement
    assert again.opinions.prompts == opinions.prompts
    assert "opinions.features" in load_file(tmp_path / "taste.safetensors")
    more = votes(4, seed=3)
    assert torch.equal(taste.refreshed(more).head.weights, again.refreshed(more).head.weights)


def test_what_cannot_be_a_taste_is_said(tmp_path):
    look, broken = Look(ColoursAndEdges()), tmp_path / "broken.safetensors"
    with pytest.raises(ValueError, match="at least 8 images to learn a taste from, found 4"):
        Taste.learnt(votes(1), look, conditioned=True, sources=())
    up = votes(4)
    all_up = up.chosen(up.values > 0)
    with pytest.raises(ValueError, match="all 8 thumbs are up"):
        Taste.learnt(all_up, look, conditioned=True, sources=())
    with pytest.raises(TasteFileError, match="found nothing: mixgrpo taste train"):
        Taste.load(tmp_path / "none.safetensors")
    broken.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(TasteFileError, match="is no taste"):
        Taste.load(broken)
    other = torch.nn.functional.pad(look.probe, (0, 8))
    taste = Taste.learnt(votes(8), look, conditioned=True, sources=())
    for probe in (other, torch.roll(look.probe, 7)):
        changed = type(taste)(**{**vars(taste), "probe": probe, "encoder": "DinoV2(file='d')"})
        changed.save(tmp_path / "other.safetensors")
        with pytest.raises(TasteFileError, match=r"learnt on DinoV2\(file='d'\)"):
            TasteReward(file=str(tmp_path / "other.safetensors")).prepare(())
    with pytest.raises(ValueError, match="knows nothing, and this one asks nobody"):
        TasteReward().prepare(())
    with pytest.raises(ValueError, match="clip"):
        TasteReward(file="x", encoder=ClipImages("no/clip.safetensors")).prepare(())


class Answers(StatelessReward):
    """Somebody who is asked, and tells what was shown."""

    def __init__(self):
        self.shown = []

    def __call__(self, batch):
        self.shown.append(len(batch.images))
        return Scores.of((batch.images[..., 0] - batch.images[..., 2]).mean((1, 2)))


def batch(iteration, seed, count=6):
    return RewardBatch(
        images=pictures(count, seed), prompts=("a red disc",) * count, group=0, context=Context(iteration=iteration)
    )


def test_it_asks_until_it_knows_and_learns_between_iterations_only():
    answers = Answers()
    taste = TasteReward(ask=answers, asked=4, least=8)
    taste.prepare(())
    assert not taste.about.held_out
    first, failures = score({"taste": taste}, batch(0, 0))
    assert first["taste"].valid.tolist() == [True] * 4 + [False] * 2 and not failures
    score({"taste": taste}, batch(0, 1))
    assert taste.taste is None  # within an iteration nothing changes
    for iteration in range(1, 9):
        score({"taste": taste}, batch(iteration, 2 + iteration))
    asked = len(answers.shown)
    assert 2 < asked < 10 and set(answers.shown) == {4}
    alone, _ = score({"taste": taste}, batch(9, 50))
    assert len(answers.shown) == asked
    assert bool(alone["taste"].valid.all())
    red, blue = alone["taste"].values[::2], alone["taste"].values[1::2]
    assert red.min() > blue.max()
    assert taste.figures["groups_asked"] == asked and taste.figures["ordered"] > 0.8
    held_out, _ = score({"taste": taste}, batch(None, 51))
    assert bool(held_out["taste"].valid.all()) and taste.about.held_out


def test_it_abstains_where_nobody_answers_and_asks_no_more_than_it_may():
    class Absent(Answers):
        def __call__(self, batch):
            super().__call__(batch)
            nobody = torch.zeros(len(batch.images), dtype=torch.bool)
            return Scores(torch.zeros(len(nobody)), nobody, "nobody voted", abstained=True)

    absent = Absent()
    taste = TasteReward(ask=absent, most=2)
    taste.prepare(())
    for iteration in range(4):
        found, failures = score({"taste": taste}, batch(iteration, iteration))
        assert not found["taste"].valid.any() and found["taste"].abstained and not failures
    assert len(absent.shown) == 2


def test_corrections_are_heard_before_the_next_iteration(tmp_path):
    taste = TasteReward(ask=Answers(), least=8, corrections=str(tmp_path))
    taste.prepare(())
    for iteration in range(3):
        score({"taste": taste}, batch(iteration, iteration))
    known = len(taste.taste.opinions)
    box = BallotBox(tmp_path)
    wrong = box.opened(shown_pictures(pictures(1, 8)), "a red disc", Thumbs(), iteration=2, group=0, seconds=1)
    box.vote(wrong.id, {0: -1}, State.DONE)
    score({"taste": taste}, batch(2, 9))
    assert len(taste.taste.opinions) == known
    state = taste.state_dict()
    score({"taste": taste}, batch(3, 3))
    assert -1.0 in taste.taste.opinions.values.tolist()
    head = taste.taste.head.weights.clone()
    taste.load_state_dict(state)
    score({"taste": taste}, batch(3, 3))
    assert torch.equal(taste.taste.head.weights, head)


def test_what_it_knows_little_about_counts_as_worse_within_its_group():
    """Of images that a taste likes alike, one that is like nothing it saw votes on comes last; the level stays."""
    taste = TasteReward(ask=Answers(), least=8, confidence=0.0)
    taste.prepare(())
    for iteration in range(4):
        taste(batch(iteration, iteration))
    known = pictures(6, 60)
    strange = torch.rand(1, *known.shape[1:], generator=torch.Generator().manual_seed(5)).round()
    shown = RewardBatch(images=torch.cat([known[::2], strange]), prompts=("a red disc",) * 4)
    spread = {}
    for caution in (0.0, 2.0):
        object.__setattr__(taste, "caution", caution)
        spread[caution] = taste(shown).values
    assert torch.isclose(spread[0.0].mean(), spread[2.0].mean(), atol=1e-5)
    assert spread[2.0].argmin() == 3
    gap = {caution: float(values[:3].mean() - values[3]) for caution, values in spread.items()}
    assert gap[2.0] > gap[0.0] + 0.5


def test_clicks_that_said_that_a_taste_was_wrong_are_votes_of_the_run(tmp_path):
    look = Look(ColoursAndEdges())
    said = Corrections(tmp_path / "taste")
    for place, image in enumerate(shown_pictures(pictures(4, 9))):
        said.say(image, "a disc", liked=place % 2 == 0, iteration=3, place=place, now=3)
    assert from_ballots(tmp_path, look).opinions.values.tolist() == [1.0, -1.0, 1.0, -1.0]
    [last] = [id for id in BallotBox(tmp_path / "taste").ids() if id.startswith("000003-003")]
    said.take_back(last)
    ballot = BallotBox(tmp_path / "votes").opened(
        shown_pictures(pictures(2, 5)), "a disc", Thumbs(), iteration=0, group=0, seconds=1
    )
    BallotBox(tmp_path / "votes").vote(ballot.id, {0: -1}, State.DONE)
    found = from_ballots(tmp_path, look)
    assert found.opinions.values.tolist() == [-1.0, 1.0, -1.0, 1.0] and len(found.sources) == 2
    said.say(image, "a disc", liked=True, iteration=3, place=3, now=3)
    ids = [id for id, _ in said.heard(3, look, ())]
    assert ids == [] and len(list(said.heard(4, look, ()))) == 4
    with pytest.raises(ValueError, match="has learnt from this vote already"):
        said.take_back(last)
