"""Training from votes that are there: each form's gradient and known answers, and what the ballots keep for it."""

import math

import pytest
import torch
from toy import Red, ToyModel

from mixgrpo_core import RunFolder, SlidingWindow, TrainConfig, WindowPlanner, train
from mixgrpo_core.rewards import HumanVote, RewardBatch
from mixgrpo_core.rewards.people.ballot import State
from mixgrpo_core.rewards.people.ballot_box import BallotBox
from mixgrpo_core.rewards.people.final_latents import SUFFIX, FinalLatents
from mixgrpo_core.rewards.people.votes import votes_at
from mixgrpo_core.rewards.port import Origin
from mixgrpo_core.sampling.ode import sample
from mixgrpo_core.support.seeds import derive_seed
from mixgrpo_core.support.tensor_files import write_tensors
from mixgrpo_core.training.align.forms import DPO, FORMS, NFT, PNAPO, Looked, Ups, pair_figures
from mixgrpo_core.training.align.loop import AlignConfig, _noise, align, split
from mixgrpo_core.training.align.voted import Voted, require_trainable, voted_in

ORIGIN = Origin(seed=5, sigmas=torch.linspace(1, 0, 7), model="m", starts=1)


def voted(shares, seed=0, prompt="a red circle"):
    model, shares = ToyModel(), torch.tensor(shares)
    latents = sample(model, model.encode(prompt), model.noise(seed, len(shares)), model.grid(6))
    return Voted(name=f"ballot {seed}", prompt=prompt, latents=latents, shares=shares, origin=ORIGIN)


def looked(shares, v=None, sigma=0.6):
    """A group at the base model, but for ``v``."""
    group = voted(shares)
    base, target = torch.randn(2, *group.latents.shape, generator=torch.Generator().manual_seed(1)).unbind(0)
    v = base.clone() if v is None else v
    return Looked(voted=group, v=v.requires_grad_(), base=base, target=target, sigma=sigma)


def errors(at):
    return (at.v - at.target).square().flatten(1).mean(1)


def gradient(loss, at):
    return torch.autograd.grad(loss, at.v)[0]


@pytest.mark.parametrize(("form", "scale"), [(DPO(beta=8.0), 4.0), (PNAPO(beta=8.0), 8.0)])
def test_pairs_at_the_base_model(form, scale):
    """log 2, and half the scale times the better's error gradient less the worse's; ties make no pair."""
    at = looked([1.0, 0.0, 0.0])
    loss = form.loss(at)
    assert float(loss.detach()) == pytest.approx(math.log(2))
    better, worse = errors(at)[0], errors(at)[1:].mean()
    assert torch.allclose(gradient(loss, at), scale / 2 * gradient(better - worse, at), atol=1e-6)
    assert float(form.loss(looked([0.5, 0.5, 0.5])).detach()) == 0
    swapped = [
        float(form.loss(looked(shares, v=torch.zeros(2, 3, 2, 2))).detach()) for shares in ([1.0, 0.0], [0.0, 1.0])
    ]
    assert sum(math.exp(-loss) for loss in swapped) == pytest.approx(1.0)  # sigmoids of d and of -d


def test_nft_goes_towards_the_liked_and_away_from_the_others():
    at = looked([1.0, 0.0])
    found = gradient(NFT().loss(at), at)
    direct = gradient(errors(at).sum(), at)
    assert torch.nn.functional.cosine_similarity(found[0].flatten(), direct[0].flatten(), 0) > 0.999
    assert torch.nn.functional.cosine_similarity(found[1].flatten(), direct[1].flatten(), 0) < -0.999
    half = looked([0.5, 0.5])
    assert gradient(NFT().loss(half), half).abs().max() < 1e-6


def test_ups_are_plain_flow_matching():
    at = looked([1.0, 0.0, 0.75])
    assert torch.allclose(Ups().loss(at), (errors(at)[0] + errors(at)[2] / 2) / 3)


def test_the_figures_tell_the_winners_own_error():
    """Both errors grow, the worse image's faster: told apart, and drawn worse."""
    base = looked([1.0, 0.0])
    v = base.target + (base.base - base.target) * torch.tensor([1.1, 2.0]).view(2, 1, 1, 1)
    right, pairs, error, before = pair_figures(looked([1.0, 0.0], v=v))
    assert (right, pairs) == (1, 1) and error / before == pytest.approx(1.21, rel=1e-4)


def red(group):
    """How red the images are."""
    images = ToyModel().decode(group.latents)
    return Red()(RewardBatch(images=images, prompts=(group.prompt,) * len(images))).values


def groups(count=6):
    """Groups whose redder half is liked."""
    found = []
    for number in range(count):
        group = voted([0.5] * 8, seed=number, prompt=f"prompt {'x' * (number % 3)}")
        shares = (red(group) > red(group).median()).float()
        found.append(Voted(**{**vars(group), "shares": shares}))
    return found


@pytest.mark.parametrize("name", FORMS)
def test_every_form_learns_what_was_voted_for_and_the_same_each_time(name):
    config = AlignConfig(updates=40, learning_rate=0.03, groups=4, levels=2, held_out=0.0, look_every=40)
    states = []
    for _ in range(2):
        model = ToyModel()
        reports = list(align(model, groups(), FORMS[name](), config))
        states.append({key: value.clone() for key, value in model.lora_state().items()})
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert [report.look is not None for report in reports] == [False] * 39 + [True]
    noise, means = ToyModel().noise(99, 32), []
    for trained in (ToyModel(), model):
        images = trained.decode(sample(trained, trained.encode("prompt x"), noise, trained.grid(6)))
        means.append(float(Red()(RewardBatch(images=images, prompts=("prompt x",) * 32)).values.mean()))
    assert means[1] > means[0]


def test_a_prompt_is_held_out_with_all_its_groups():
    trained, held_out = split(groups(9), AlignConfig(held_out=0.34))
    assert len(trained) == 6 and len(held_out) == 3
    assert not {group.prompt for group in trained} & {group.prompt for group in held_out}


@pytest.mark.parametrize("shared", [True, False])
def test_a_run_keeps_what_its_votes_can_be_trained_on(tmp_path, shared):
    """The kept latents are those that the images were decoded from, with the seed of what they began with."""
    folder, seen = tmp_path / "run", []
    config = TrainConfig(
        iterations=1, steps=6, images_per_prompt=4, prompts_per_iteration=2, updates=1, learning_rate=0.01,
        planner=WindowPlanner(window=SlidingWindow(size=2, stride=1, hold=2)), shared_noise=shared,
    )  # fmt: skip
    RunFolder.create(folder, config, {})

    def hear(ballot):
        if ballot.open:
            BallotBox(folder / "votes").vote(ballot.id, {0: 1, 1: -1, 2: 1, 3: -1}, State.DONE)

    class Listening(Red):
        def __call__(self, batch):
            seen.append(batch)
            return super().__call__(batch)

    rewards = {"votes": votes_at(HumanVote(seconds=5), folder / "votes", hear), "seen": Listening()}
    model = ToyModel()
    list(train(model, ["a red circle", "blue"], rewards, config, run=RunFolder.open(folder)))
    found = voted_in([folder])
    assert len(found.groups) == 2 and found.without == 0
    require_trainable(found, "", model.latent_shape, pairs=True, start=True)
    for group in found.groups:
        batch = next(one for one in seen if one.prompts[0] == group.prompt)
        assert torch.allclose(group.latents, batch.latents, atol=2e-3)
        assert group.shares.tolist() == [1, 0, 1, 0] and group.origin.starts == (1 if shared else 4)
        assert group.origin.seed == batch.context.seed
    (folder / "votes" / f"{found.groups[0].name}{SUFFIX}").unlink()
    assert voted_in([folder]).without == 1


def test_what_cannot_be_trained_on_is_one_sentence(tmp_path):
    def refused(match, *groups, model="m", shape=(3, 2, 2), without=0, **asked):
        from mixgrpo_core.training.align.voted import Found

        with pytest.raises(ValueError, match=match):
            require_trainable(Found(groups=groups, without=without, faults=()), model, shape, **asked)

    many = voted([1.0, 0.0] * 4)
    refused("at least 8 votes to train on, found 2; 3 ballots have votes but no latents", voted([1.0, 0.0]), without=3)
    refused("all 8 votes are up", voted([1.0] * 8))
    refused("all 8 votes are down", voted([0.0] * 8))
    refused("made by another model", many, model="other")
    refused(r"latents of shape \[3, 2, 2\]", many, shape=(16, 8, 8))
    refused("no group has an image that is liked better", voted([1.0] * 4), voted([0.0] * 4, seed=1), pairs=True)
    older = Voted(**{**vars(many), "origin": Origin(seed=1, sigmas=ORIGIN.sigmas, model="m")})
    refused("which noise the images of .* began with is not known", older, start=True)
    with pytest.raises(ValueError, match="expected ballots in"):
        voted_in([tmp_path])
    FinalLatents(latents=many.latents, origin=ORIGIN).save(tmp_path, "x")
    again = FinalLatents.load(tmp_path, "x")
    assert again.origin.starts == 1 and again.origin.model == "m" and again.origin.seed == 5


@pytest.mark.parametrize("shared", [True, False])
def test_own_noise_is_what_each_image_that_was_voted_on_began_with(tmp_path, shared):
    """With the ODE it leads to the kept latents again, also where some images of the group have no vote."""
    model, folder = ToyModel(), tmp_path / "votes"
    noise = model.noise(derive_seed(7, "start"), 1 if shared else 6)
    latents = sample(model, model.encode("blue"), noise, model.grid(6)).expand(6, -1, -1, -1)
    origin = Origin(seed=7, sigmas=model.grid(6), starts=len(noise))
    batch = RewardBatch(images=torch.rand(6, 4, 4, 3), prompts=("blue",) * 6, latents=latents, origin=origin)
    asked = batch.of(torch.tensor([1, 3, 4, 5]))  # a taste asks about some
    box = BallotBox(folder)
    HumanVote(seconds=5).ask(asked, box, lambda ballot: box.vote(ballot.id, {0: 1, 2: -1, 3: 1}, State.DONE))
    [group] = voted_in([tmp_path]).groups
    assert len(group.latents) == 3 and group.origin.starts == len(noise)
    began = _noise(model, group, PNAPO(), seed=0)
    again = sample(model, model.encode("blue"), began, group.origin.sigmas)
    assert torch.allclose(again, group.latents, atol=2e-3)
    assert torch.allclose(began, noise[[0, 0, 0]] if shared else noise[[1, 4, 5]])


def test_an_older_file_says_what_it_can(tmp_path):
    tensors = {"latents": torch.zeros(2, 3, 2, 2), "sigmas": torch.linspace(1, 0, 3)}
    for start, known in (("shared", 1), ("of its own", 0)):
        write_tensors(tmp_path / f"{start}{SUFFIX}", tensors, {"seed": "3", "model": "m", "start": start})
        found = FinalLatents.load(tmp_path, start)
        assert found.origin.starts == known and found.origin.seed == 3


@pytest.mark.parametrize("form", [NFT(), DPO(beta=8.0)])
def test_a_group_of_more_than_a_batch_has_the_same_gradient(form):
    states = []
    for batch in (8, 3):
        model, config = ToyModel(), AlignConfig(updates=3, learning_rate=0.03, levels=2, held_out=0.0, batch=batch)
        list(align(model, groups(3), form, config))
        states.append(model.lora_state())
    assert all(torch.allclose(states[0][key], states[1][key], atol=1e-5) for key in states[0])
    assert any(float(tensor.abs().max()) > 1e-2 for name, tensor in states[0].items() if "lora_B" in name)
