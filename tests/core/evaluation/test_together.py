"""Held-out prompts share calls of the network: the same images and rows, in fewer calls."""

from contextlib import contextmanager

import pytest
import torch
from sized_toy import Apart, SizedToy, of_sizes
from toy import Red, ToyModel

from mixgrpo_core.demo import held_out_prompts
from mixgrpo_core.evaluation.held_out import HeldOut, Prompted, evaluate
from mixgrpo_core.models import load_demo
from mixgrpo_core.sampling.ode import sample, sample_together
from mixgrpo_core.sampling.schedule import flow_sigmas
from mixgrpo_core.sampling.solvers import DPMpp2M, Euler


class Calls(ToyModel):
    """Keeps the rows of every call."""

    def __init__(self):
        super().__init__()
        self.up.data.normal_(generator=torch.Generator().manual_seed(0))
        self.rows = []

    def run(self, conds, body):
        def counted(velocity):
            def called(x, sigma, rows=None):
                self.rows.append(len(x))
                return velocity(x, sigma, rows)

            return body(called)

        return super().run(conds, counted)


@pytest.mark.parametrize(("images", "batch", "rows"), [(2, 7, 2), (2, 4, 3), (5, 4, 7), (7, 16, 3)])
def test_an_evaluation_is_that_of_each_prompt_alone(images, batch, rows):
    def of(prompts, first=0):
        model = Calls()
        items = [Prompted(prompt=prompt, cond=model.encode(prompt)) for prompt in prompts]
        held_out = HeldOut(prompts=items, sigmas=flow_sigmas(3, 3.0), images_per_prompt=images, batch=batch)
        seen = []
        evaluate(model, held_out, {"red": Red()}, on_prompt=lambda index, pictures: seen.append((index, pictures)))
        return model, seen

    prompts = ["a", "bbb", "ccccc", "dd", "eeeeeee"]
    model, together = of(prompts)
    alone = [Calls() for _ in prompts]
    assert [index for index, _ in together] == list(range(5))
    for index, prompt in enumerate(prompts):
        one = alone[index]
        held_out = HeldOut(prompts=(), sigmas=flow_sigmas(3, 3.0), images_per_prompt=images)
        latents = sample(one, one.encode(prompt), held_out.noise(one, index), held_out.sigmas, batch=batch)
        torch.testing.assert_close(together[index][1], one.decode(latents), rtol=0, atol=1e-6)
    assert model.evaluations == 5 * images * 3
    assert max(model.rows) <= batch
    assert len(model.rows) == rows * 3, "calls are full but for the last"


@pytest.mark.parametrize("batch", [4, 6])
def test_prompts_of_one_size_share_calls_wherever_they_stand(batch):
    """4 images each: a batch of 6 is filled by a prompt and a half."""

    def of(kind, pattern):
        model = kind()
        model.up.data.normal_(generator=torch.Generator().manual_seed(0))
        prompts = of_sizes(["a", "bbb", "ccccc", "dd", "eeeeeee", "f"], pattern)
        items = [Prompted(prompt=prompt, cond=model.encode(prompt)) for prompt in prompts]
        held_out = HeldOut(prompts=items, sigmas=flow_sigmas(3, 3.0), images_per_prompt=4, batch=batch)
        seen = []
        found = evaluate(model, held_out, {"red": Red()}, on_prompt=lambda *each: seen.append(each))
        return model.rows, found, seen

    rows, found, seen = of(SizedToy, "ABABAB")
    assert rows == of(SizedToy, "AAABBB")[0] and max(rows) == batch
    assert len(rows) == 3 * 2 * -(-12 // batch)
    _, plain, alone = of(Apart, "ABABAB")
    assert [index for index, _ in seen] == list(range(6))
    for (_, images), (_, expected) in zip(seen, alone, strict=True):
        torch.testing.assert_close(images, expected, rtol=0, atol=1e-6)
    assert found.rewards["red"].mean == pytest.approx(plain.rewards["red"].mean, abs=1e-6)


def test_prompts_whose_conditionings_can_be_stacked_share_calls_wherever_they_stand():
    class Unlike(SizedToy):
        """Conditionings of an odd length go with others of an odd length."""

        def kind(self, cond):
            return round(10 * cond) % 2

    model = Unlike()
    items = [Prompted(prompt=prompt, cond=model.encode(prompt)) for prompt in ("a", "bb", "ccc", "dddd")]
    asked = []
    model.run = lambda conds, body, run=model.run: (asked.append([round(10 * c) for c in conds]), run(conds, body))[1]
    held_out = HeldOut(prompts=items, sigmas=flow_sigmas(2, 3.0), images_per_prompt=2, batch=4)
    seen = []
    evaluate(model, held_out, {}, on_prompt=lambda index, _: seen.append(index))
    assert asked == [[1, 3], [2, 4]] and seen == [0, 1, 2, 3]


@contextmanager
def with_lora(model, size):
    generator = torch.Generator().manual_seed(1)
    state = {name: size * torch.randn(weight.shape, generator=generator) for name, weight in model.lora_state().items()}
    with model.with_weights(state):
        yield


@pytest.mark.parametrize("solver", [Euler(), DPMpp2M()], ids=repr)
def test_of_a_real_network_they_are_equal_up_to_rounding(solver):
    model, prompts = load_demo(guidance=2.0), held_out_prompts()[:3]
    conds = [model.encode(prompt) for prompt in prompts]
    noise = [model.noise(number, count) for number, count in enumerate((2, 1, 3))]
    sigmas = model.grid(5)
    with with_lora(model, 0.1):
        together = sample_together(model, conds, noise, sigmas, solver=solver, batch=4)
        for cond, start, found in zip(conds, noise, together, strict=True):
            torch.testing.assert_close(found, sample(model, cond, start, sigmas, solver=solver), rtol=1e-3, atol=1e-4)
        other = sample(model, conds[1], noise[0], sigmas, solver=solver)
    assert (other - together[0]).abs().max() > 0.01, "the prompts differ by far more than rounding"
