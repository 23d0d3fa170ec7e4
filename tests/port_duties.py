"""What the core counts on in every model: the port's duties, for any model that a fixture ``model`` gives.

A test file imports the functions it puts its models through: ``from port_duties import *``.
"""

from threading import Barrier, Thread

import pytest
import torch
from torch import Tensor

from mixgrpo_core.models.port import DecodesBeside

PROMPT = "a small red circle on the left"


@pytest.fixture(autouse=True)
def a_lora_that_does_something(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)


def velocity(model, sigma: float = 0.7, count: int = 3) -> Tensor:
    x = model.noise(3, count)
    return model.run([model.encode(PROMPT)], lambda v: v(x, torch.tensor(sigma)))


def kept(model) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.lora_state().items()}


def test_noise_is_a_function_of_seed_and_count(model) -> None:
    assert torch.equal(model.noise(5, 4), model.noise(5, 4))
    assert not torch.equal(model.noise(5, 4), model.noise(6, 4))
    assert model.noise(5, 4).shape == (4, *model.latent_shape)
    assert model.noise(5, 4).dtype == torch.float32


def test_only_the_lora_is_trained_and_its_order_is_that_of_its_state(model) -> None:
    x = model.noise(3, 3)
    model.run([model.encode(PROMPT)], lambda v: v(x, torch.tensor(0.7)).square().sum().backward())
    parameters = list(model.parameters())
    assert all(p.requires_grad and p.dtype == torch.float32 for p in parameters)
    assert [p.data_ptr() for p in parameters] == [t.data_ptr() for t in model.lora_state().values()]
    assert sum(p.grad is not None and bool(p.grad.any()) for p in parameters) > len(parameters) // 2


def test_using_outside_inside_and_nested_gives_those_weights_and_comes_back(model) -> None:
    trained = kept(model)
    other = {name: tensor * 2 for name, tensor in trained.items()}
    current = velocity(model).detach()
    with model.with_weights(None):
        base = velocity(model).detach()
        with model.with_weights(other):
            doubled = velocity(model).detach()
        assert torch.equal(velocity(model), base)
    assert torch.equal(velocity(model).detach(), current)
    x, sigma = model.noise(3, 3), torch.tensor(0.7)

    def inside(v) -> tuple[Tensor, Tensor]:
        with model.with_weights(None):
            off = v(x, sigma)
        with model.with_weights(other):
            return off.detach(), v(x, sigma).detach()

    found = model.run([model.encode(PROMPT)], inside)
    assert torch.equal(found[0], base)
    assert torch.equal(found[1], doubled)
    assert not torch.allclose(base, current)
    assert all(torch.equal(tensor, trained[name]) for name, tensor in model.lora_state().items())


def test_a_lora_of_another_rank_can_be_worn(model) -> None:
    """Twice the rank, of which the second half adds nothing, is the same function."""
    trained = kept(model)
    wider = {
        name: torch.cat(
            [tensor, torch.ones_like(tensor)] if "lora_A" in name else [tensor, 0 * tensor], int("lora_B" in name)
        )
        for name, tensor in trained.items()
    }
    current = velocity(model).detach()
    with model.with_weights(wider):
        torch.testing.assert_close(velocity(model).detach(), current, atol=1e-5, rtol=1e-5)
    assert torch.equal(velocity(model).detach(), current)


def test_asking_another_policy_between_forward_and_backward_leaves_the_gradient_as_it_is(model) -> None:
    x, sigma = model.noise(3, 3), torch.tensor(0.7)

    def gradient(disturb: bool) -> list[Tensor]:
        for parameter in model.parameters():
            parameter.grad = None

        def body(v) -> None:
            loss = v(x, sigma).square().mean()
            if disturb:
                with torch.no_grad(), model.with_weights(None):
                    v(x, sigma)
                with torch.no_grad(), model.with_weights({name: 2 * t for name, t in model.lora_state().items()}):
                    v(x, sigma)
            loss.backward()

        model.run([model.encode(PROMPT)], body)
        return [torch.zeros(()) if p.grad is None else p.grad.clone() for p in model.parameters()]

    for undisturbed, disturbed in zip(gradient(False), gradient(True), strict=True):
        assert torch.equal(undisturbed, disturbed)


def test_weights_come_back_after_an_exception_and_an_interrupt(model) -> None:
    current, trained = velocity(model).detach(), kept(model)
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), model.with_weights(None):
            raise error
        with pytest.raises(error):
            model.run([model.encode(PROMPT)], lambda v, error=error: (_ for _ in ()).throw(error()))
    assert torch.equal(velocity(model).detach(), current)
    model.load_lora_state({name: tensor * 0 for name, tensor in trained.items()})
    model.load_lora_state(trained)
    assert torch.equal(velocity(model).detach(), current)


def test_evaluations_count_rows_and_guidance_twice(model) -> None:
    before = model.evaluations
    velocity(model, count=3)
    assert model.evaluations - before == 3 * (2 if getattr(model, "guidance", 1.0) > 1 else 1)


def test_decoded_images_lie_in_0_to_1_and_each_row_is_its_own(model) -> None:
    latents = model.noise(8, 3) * 3
    images = model.decode(latents)
    assert images.shape[0] == 3
    assert images.shape[-1] == 3
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1
    torch.testing.assert_close(images[1:2], model.decode(latents[1:2]), atol=1e-4, rtol=0)
    assert not images.requires_grad


OTHER = "a large blue square on the right"


def test_each_row_has_the_conditioning_it_names(model) -> None:
    """Several prompts in one call are each prompt in a call of its own, in any order."""
    x, sigma = model.noise(3, 4), torch.tensor(0.7)
    conds, rows = [model.encode(PROMPT), model.encode(OTHER)], torch.tensor([1, 0, 0, 1])
    with torch.no_grad():
        together = model.run(conds, lambda v: v(x, sigma, rows))
        first = model.run(conds, lambda v: v(x, sigma))
        alone = [model.run([cond], lambda v: v(x, sigma)) for cond in conds]
    expected = torch.stack([alone[row][place] for place, row in enumerate(rows.tolist())])
    torch.testing.assert_close(together, expected, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(first, alone[0], atol=2e-5, rtol=1e-5)
    assert (alone[0] - alone[1]).abs().max() > 1e-3


def test_the_gradient_of_several_prompts_is_the_sum_of_each(model) -> None:
    x, sigma = model.noise(3, 2), torch.tensor(0.7)
    conds = [model.encode(PROMPT), model.encode(OTHER)]

    def gradient(bodies) -> list[Tensor]:
        for parameter in model.parameters():
            parameter.grad = None
        for chosen, body in bodies:
            model.run(chosen, body)
        return [torch.zeros(()) if p.grad is None else p.grad.clone() for p in model.parameters()]

    together = gradient([(conds, lambda v: v(x, sigma, torch.tensor([0, 1])).square().sum().backward())])
    apart = gradient(
        [([cond], lambda v, i=i: v(x[i : i + 1], sigma).square().sum().backward()) for i, cond in enumerate(conds)]
    )
    for one, two in zip(together, apart, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4 * float(two.abs().max() + 1), rtol=1e-3)


@pytest.mark.parametrize("steps", [4, 25])
def test_the_grid_is_a_schedule(model, steps) -> None:
    sigmas = model.grid(steps)
    assert sigmas.shape == (steps + 1,)
    assert (sigmas.dtype, sigmas.device.type) == (torch.float32, "cpu")
    assert 0.5 < float(sigmas[0]) <= 1  # a diffusion model knows no pure noise
    assert float(sigmas[-1]) == 0.0
    assert bool((sigmas.diff() < 0).all())


def test_maps_over_images_become_maps_over_latents(model) -> None:
    height, width = model.decode(model.noise(3, 1)).shape[1:3]
    half = torch.zeros(2, height, width)
    half[0, :, : width // 2] = 1
    half[1] = 0.25
    places = model.places(half)
    spread = places.expand(2, *model.latent_shape)  # an error where it does not broadcast
    torch.testing.assert_close(spread[1], torch.full_like(spread[1], 0.25))
    torch.testing.assert_close(spread[0].mean(), torch.tensor(0.5, device=spread.device), atol=0.26, rtol=0)
    if spread.ndim == 3:  # tokens: latents that are moved there move that side of the picture most
        x = model.noise(8, 1)
        sides = [(model.decode(x + 0.1 * where) - model.decode(x)).abs() for where in (places[:1], 1 - places[:1])]
        shares = [side[:, :, : width // 2].mean() / side[:, :, width // 2 :].mean() for side in sides]
        assert shares[0] > 2 * shares[1]
        return
    left, right = spread[0].flatten(0, -2)[:, 0], spread[0].flatten(0, -2)[:, -1]
    assert bool((left == 1).all())
    assert bool((right == 0).all())


def test_pictures_that_were_cut_off_keep_the_gradient_that_leads_back(model) -> None:
    """At a value above 1 a wish for darker reaches the latents, a wish for brighter does not."""
    x = (model.noise(8, 1) * 5).requires_grad_()
    images = model.decode(x, grad=True)
    cut = images.detach() == 1
    if not bool(cut.any()):
        pytest.skip("this model's pictures are never cut off")
    (brighter,) = torch.autograd.grad(-(images * cut).sum(), x, retain_graph=True)
    (darker,) = torch.autograd.grad((images * cut).sum(), x)
    assert float(brighter.abs().max()) == 0
    assert float(darker.abs().max()) > 0


def test_a_model_that_can_decodes_in_another_thread_while_its_network_runs(model) -> None:
    if not isinstance(model, DecodesBeside):
        return
    latents, other = model.noise(8, 2) * 3, model.noise(9, 2)
    images, moves = model.decode(latents), velocity(model).detach()
    decoder, found = model.decoder(), []
    both = Barrier(2)

    def decode() -> None:
        both.wait(20)
        found.extend(decoder.decode(x) for x in (other, latents))

    thread = Thread(target=decode)
    thread.start()
    both.wait(20)
    with torch.no_grad():
        beside = [velocity(model) for _ in range(2)]
    thread.join(20)
    assert all(torch.equal(one, moves) for one in beside)
    assert len(found) == 2 and torch.equal(found[1], images)
