"""Models side by side: the same noise, one group for all of them, and what is said of their scores."""

from dataclasses import dataclass, field

import pytest
import torch
from sized_toy import SizedToy, of_sizes
from toy import Red, ToyModel

from mixgrpo_core.evaluation.comparison import Comparing, Part, compared, drawn, hybrid
from mixgrpo_core.rewards.port import Context, RewardInfo, Scores, StatelessReward
from mixgrpo_core.sampling.ode import sample

PROMPTS = ["a", "bbb", "ccccc"]


@dataclass
class Watching(StatelessReward):
    """Keeps the batches that it scores, and scores an image by how many of its group are less red."""

    about = RewardInfo(groupwise=True)
    seen: list = field(default_factory=list)

    def __call__(self, batch):
        self.seen.append(batch)
        red = batch.images[..., 0].mean((1, 2))
        return Scores.of((red[:, None] > red).float().mean(1))


def taught(seed):
    model = ToyModel()
    model.up.data.normal_(generator=torch.Generator().manual_seed(seed))
    return model


def comparing(**changes):
    given = {"prompts": PROMPTS, "sigmas": lambda model: model.grid(5), "images": 2, "seed": 3, "batch": 4, **changes}
    return Comparing(**given)


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_the_parts_of_a_hybrid_are_the_lora_and_then_the_base(share):
    how, model = comparing(), taught(1)
    for place, latents in enumerate(drawn(hybrid(model, share), how)):
        cond, noise = model.encode(PROMPTS[place]), model.noise(how.noise_seed(place), 2)
        alone = sample(model, cond, noise, model.grid(5), lora_share=share)
        torch.testing.assert_close(latents, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch", [2, 3, 16])
def test_prompts_of_one_size_share_calls_wherever_they_stand(batch):
    def of(pattern):
        model = SizedToy()
        model.up.data.normal_(generator=torch.Generator().manual_seed(1))
        how = comparing(prompts=of_sizes(["a", "bbb", "ccccc", "dd"], pattern), batch=batch)
        return model, how, drawn(hybrid(model, 0.5), how)

    model, how, latents = of("ABAB")
    assert model.rows == of("AABB")[0].rows and len(model.rows) == 5 * 2 * -(-4 // batch)
    for place, prompt in enumerate(how.prompts):
        own = model.at(prompt.size)
        cond, noise = own.encode(prompt), own.noise(how.noise_seed(place), 2)
        alone = sample(own, cond, noise, own.grid(5), lora_share=0.5)
        torch.testing.assert_close(latents[place], alone, rtol=0, atol=1e-6)


def test_two_models_that_go_a_part_each_are_one_model_with_and_without():
    model, base, how = taught(1), ToyModel(), comparing()
    for one, two in zip(drawn([Part(model, 0.4), Part(base)], how), drawn(hybrid(model, 0.4), how), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-6)


def test_images_of_all_models_are_one_group_with_what_travels_with_the_prompt():
    models = {"base": ToyModel(), "one": taught(1), "two": taught(2)}
    picture = torch.rand(4, 4, 3)
    how = comparing(contexts={"bbb": Context(reference=picture)})
    watching, strips = Watching(), []
    latents = [drawn([Part(model)], how) for model in models.values()]
    rewards = {"red": Red(), "order": watching}
    found = compared(list(models), latents, models["base"], how, rewards, lambda place, of: strips.append(of))
    assert [len(batch.images) for batch in watching.seen] == [6, 6, 6]
    assert watching.seen[0].context.reference is None
    assert torch.equal(watching.seen[1].context.reference, picture)
    assert [batch.context.seed for batch in watching.seen] == [how.noise_seed(place) for place in range(3)]
    for place, of in enumerate(strips):
        for column, images in enumerate(of):
            assert torch.equal(images, models["base"].decode(latents[column][place]))
            mean = found.evaluations[column].scores["red"][place].values.mean()
            assert torch.isclose(mean, Red()(watching.seen[place]).values[2 * column : 2 * column + 2].mean())
    assert found.captions()[2][1].startswith("red ") and len(found.captions()[0]) == 3


def test_what_is_said_of_the_scores():
    class Half(StatelessReward):
        def __call__(self, batch):
            values = torch.tensor([1.0, 9.0, 3.0, 9.0])  # two images of each model
            return Scores(values, torch.tensor([True, False, True, False]), "no answer within 1 s")

    class Away(StatelessReward):
        def __call__(self, batch):
            raise ConnectionError("the judge is away")

    how = comparing(prompts=PROMPTS[:2])
    latents = [drawn([Part(ToyModel())], how)] * 2
    found = compared(["without", "with"], latents, ToyModel(), how, {"half": Half(), "away": Away()})
    assert found.wins("half", 1, 0) == 1 and found.wins("half", 0, 1) == 0
    assert found.table().splitlines() == [
        "half",
        "  without: 1 ± 0 (2 of 4 images: no answer within 1 s)",
        "  with: 3 ± 0 (2 of 4 images: no answer within 1 s), better than without in 100.0%",
        "away",
        "  without: no score (ConnectionError: the judge is away)",
        "  with: no score (ConnectionError: the judge is away)",
    ]
    assert found.captions() == [["half 1", "half 3"]] * 2
    assert "the judge is away" in str(found.failures[-1])
    silent = compared(["without", "with"], latents, ToyModel(), how, {})
    assert silent.table() == "" and silent.captions() is None
